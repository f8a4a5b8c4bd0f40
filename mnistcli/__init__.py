"""Train, judge and use small networks that read handwritten digits."""

__version__ = "0.1.0"
