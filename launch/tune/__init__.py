"""The fastest schedule of the same training, found by measuring, and what a training takes of memory."""
