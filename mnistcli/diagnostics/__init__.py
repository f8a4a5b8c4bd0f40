"""`mnist doctor` and `mnist bench`."""
