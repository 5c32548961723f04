"""What a person declared and what was locked for it."""
