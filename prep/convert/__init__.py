"""Conversion: inputs to shards to one JSONL with its manifest."""
