"""Rows: what one is, how it is read from a file, its thought, its question, its origin."""
