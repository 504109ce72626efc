"""Typed tasks: functions that are run as jobs, their arguments by name in the jobs' data."""
