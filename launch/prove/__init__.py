"""Proof that what LLaMA-Factory trains is what the model's own chat template serves."""
