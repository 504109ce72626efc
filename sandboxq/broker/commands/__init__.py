"""What is done in Redis: one typed function for each script, by topic."""
