"""What producers and operators call."""
