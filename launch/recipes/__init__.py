"""The whole way in one file, and its steps."""
