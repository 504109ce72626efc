"""Integrations of frameworks; each is imported only by its users."""
