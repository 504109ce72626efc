"""What looks at children from outside, and ends those that take too much."""
