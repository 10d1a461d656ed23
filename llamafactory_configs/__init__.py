"""Data only: LLaMA-Factory presets and sample datasets, read through importlib.resources."""
