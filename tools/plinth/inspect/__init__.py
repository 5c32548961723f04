"""Looking at what is there: why a package is in, what takes space, what this machine can do."""
