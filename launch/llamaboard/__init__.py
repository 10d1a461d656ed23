"""LlamaBoard's own files: its page, its saved settings, its memory of the user."""
