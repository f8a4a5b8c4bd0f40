"""The settings of a training run: their lists, bounds, recipes and sources."""
