"""Datasets from datasets: mixed, split and explained."""
