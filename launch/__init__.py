"""From a registered dataset to a finished, compared run: the `lfc launch` half of the companion."""
