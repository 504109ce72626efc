"""Where the jobs of a child are: read without stopping or ending them."""
