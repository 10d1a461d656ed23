"""Publishing an adapter, a model or a dataset with its card: planned first, checked on the hub afterwards."""
