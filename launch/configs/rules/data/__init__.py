"""Rules of the data: which datasets, what their rows hold, how they are mixed, templated and cut."""
