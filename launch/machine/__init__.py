"""This machine: its GPUs, network, and training stack."""
