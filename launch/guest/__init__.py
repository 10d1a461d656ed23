"""Programs that the training stack's own Python runs: none imports ours, and nothing of ours imports them."""
