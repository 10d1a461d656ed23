"""Sweeps of configs, and the queue that runs them."""
