"""What is told to others: telemetry, traces, metrics, log lines."""
