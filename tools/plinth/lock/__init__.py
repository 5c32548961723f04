"""From specifications to hash-pinned lockfiles."""
