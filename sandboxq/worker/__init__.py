"""The coordinator: keeps the locks, never runs user code."""
