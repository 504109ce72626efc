"""Processors of the benchmarks."""
