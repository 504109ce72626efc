"""How children come into being, live and end."""
