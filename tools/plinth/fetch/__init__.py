"""All that asks a network for bytes."""
