"""Benchmarks: one question a file, answered with machine, versions, repeats and spread."""
