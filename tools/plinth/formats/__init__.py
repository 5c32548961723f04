"""Bytes and nothing else: one reader and one writer for each format."""
