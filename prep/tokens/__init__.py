"""Rows as tokens: the templates, exact lengths, and what a cutoff cuts."""
