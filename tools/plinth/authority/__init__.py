"""The embedded trust domain: a certificate authority, logs and a clock of one's own."""

HOSTS = "plinth-trust.invalid"
"""What all names end with that domains give themselves."""
