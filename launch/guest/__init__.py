"""Programs that another interpreter runs: they import nothing of ours, and nobody imports them."""
