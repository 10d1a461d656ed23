"""Random mutations of valid configs: what they change, where they run, and how LLaMA-Factory really ends."""
