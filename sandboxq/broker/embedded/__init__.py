"""The embedded server of a directory."""
