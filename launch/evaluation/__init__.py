"""The rows that models answer, who answers them, and what the answers are measured by."""
