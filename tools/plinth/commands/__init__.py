"""Every verb, for both front ends."""
