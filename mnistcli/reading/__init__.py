"""From a picture file to its digits."""
