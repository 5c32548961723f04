"""plinth: a reproducible build graph for ML inference images."""

__version__ = "0.1.0"
