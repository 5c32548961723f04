"""The embedded trust domain: a certificate authority, logs and a clock of one's own."""
