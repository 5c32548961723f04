"""What needs a Docker Engine: load, run, test."""
