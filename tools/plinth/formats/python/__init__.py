"""The base an image stands on: OS layer, interpreter, configuration."""
