"""Training: the loop, one run, several runs, devices, processes."""
