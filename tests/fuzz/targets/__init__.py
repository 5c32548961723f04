"""Fuzz targets: `parse` returns or raises a `PlinthError`, whatever the bytes."""
