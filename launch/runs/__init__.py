"""Runs of LLaMA-Factory: their folders, processes, claims and causes of failure."""
