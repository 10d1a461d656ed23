"""Tokens once: the folder that LLaMA-Factory takes as `tokenized_path`, and whether it still fits a config."""
