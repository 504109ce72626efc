"""Lends children that run calls."""
