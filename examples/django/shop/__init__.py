"""A shop whose reports are built by sandboxq."""
