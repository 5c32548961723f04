"""Debian archives: signed indexes, resolution, packages."""
