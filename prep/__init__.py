"""From a hub to a registered dataset: the `lfc prep` half of the LLaMA-Factory companion."""

__version__ = "0.1.0"
