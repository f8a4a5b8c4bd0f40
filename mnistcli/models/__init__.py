"""The architectures, one file each, their registry and their summary."""
