"""Verification: everything an auditor who trusts nothing can check of an image."""
