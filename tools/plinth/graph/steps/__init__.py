"""The build steps: each a function of its inputs and parameters, here or on a worker."""
