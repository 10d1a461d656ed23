"""What is wrong with a dataset, what mends it, and what it holds."""
