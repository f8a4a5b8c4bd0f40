"""Data sets: download, formats, splits, batches, augmentation, corruptions."""
