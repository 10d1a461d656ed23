"""What speed and memory figures on a GPU come from."""
