"""Datasets and models from a hub, verified file by file."""
