"""How each sort of input becomes shards: plain rows by the kernel, all else row by row."""
