"""`mnist doctor` (what works on this machine) and `mnist bench` (how fast it is)."""
