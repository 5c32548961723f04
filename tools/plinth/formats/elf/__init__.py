"""What the shared libraries of an image need, and whether they find it."""
