"""Training: the loop, one run, multi-runs, optimizers, schedules, EMA, devices, processes."""
