"""LLaMA-Factory's dataset_info.json, and the datasets that it names."""
