"""What came out of runs: scores, comparisons, summaries and the report page."""
