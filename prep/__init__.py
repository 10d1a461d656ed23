"""From a hub to a registered dataset: the `lfc prep` half of the LLaMA-Factory companion."""

__version__ = "0.1.0"

# Whether the process is `lfc`, and not somebody's program that imports this: what is loaded then is ours to choose.
is_own_process = False
