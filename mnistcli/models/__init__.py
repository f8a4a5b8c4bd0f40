"""The architectures, one file each, their registry and the summary of a network."""
