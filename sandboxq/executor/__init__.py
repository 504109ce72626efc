"""A concurrent.futures.Executor whose workers are those of a queue."""
