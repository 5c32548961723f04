"""Actions and how they run, here or elsewhere; no word of images."""
