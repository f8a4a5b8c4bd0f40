"""The figures of trained networks, and comparisons between them."""
