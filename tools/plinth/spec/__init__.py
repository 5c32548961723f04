"""Image and base specifications."""
