"""What a layer really holds: read from its blob, file by file, believing none of it."""
