"""Deterministic tar layers, compressed as gzip members."""
