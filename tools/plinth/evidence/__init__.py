"""Attestations: what is said of an image (statements), signed, and attached to it."""
