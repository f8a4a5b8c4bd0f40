"""Evaluation: predictions, metrics, scores, and comparisons of checkpoints and runs."""
