"""LLaMA-Factory's YAML: read, written, and checked against its own arguments and our rules."""
