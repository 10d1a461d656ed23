"""Tells somebody who is not there: messages at the end of runs and batches, and of runs that stand still."""
