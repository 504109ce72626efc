"""When a scheduler runs: cron patterns, as Node reads them, and time zones."""
