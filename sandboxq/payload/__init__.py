"""What data and results may hold: arrays, bytes, tagged values, signatures, safe text."""
