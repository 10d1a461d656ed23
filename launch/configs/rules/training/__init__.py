"""Rules of a training: its run, its optimizer and schedule, and what its evaluations measure."""
