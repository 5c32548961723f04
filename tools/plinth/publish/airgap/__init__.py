"""Images over an air gap: one archive with all that verifying and rebuilding them takes."""
