"""Watches children from outside, and ends those that exceed a limit."""
