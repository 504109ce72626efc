"""One kernel facility a file."""
