"""Bounded reads: plain JSON values, with secrets hidden, for the pages and the API alike."""
