"""Files, locks, signals and resources of the operating system."""
