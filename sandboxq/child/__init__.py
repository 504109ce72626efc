"""The far side of the pool, beside user code. Standard library only at import."""
