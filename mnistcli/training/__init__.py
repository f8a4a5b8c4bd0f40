"""Training: the engine, one run, several runs, devices, processes."""
