"""OCI image values, the layout on disk and their validation."""
