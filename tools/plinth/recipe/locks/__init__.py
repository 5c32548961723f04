"""Accelerator sets: their locks, their layers, the dynamic linker's configuration."""
