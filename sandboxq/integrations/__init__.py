"""At home in other people's frameworks; each is imported only by who uses it."""
