"""What is wrong with a dataset, what fixes it, and what it holds."""
