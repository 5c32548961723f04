"""What every room needs: digests, errors, the store, settings, HTTP, reports."""
