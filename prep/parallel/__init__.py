"""Threads and processes that work while others wait."""
