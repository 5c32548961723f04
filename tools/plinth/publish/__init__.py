"""Images in registries: pushed, tagged, listed, pulled."""
