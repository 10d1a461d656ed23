"""Rows that stand twice: equal, asking the same, or alike; and rows that stand in a benchmark too."""
