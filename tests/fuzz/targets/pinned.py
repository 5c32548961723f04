"""Cleartext signatures by a pinned key that only SHA-1 binds to its name."""

from __future__ import annotations

from pathlib import Path

import pysequoia

from plinth.fetch.apt.archive import Keyring, verified

KEY = Path(__file__).with_name("sha1-key.pgp")
FINGERPRINT = str(pysequoia.Cert.from_file(str(KEY)).fingerprint).lower()
TEXT = b"Origin: Vendor\n- a dash\nFrom here\nSHA256:\n abc 1 Packages"


def parse(data: bytes, folder: Path) -> None:
    """Whatever verifies is the one text that was signed."""
    assert verified(data, Keyring("", KEY, FINGERPRINT), "InRelease") == TEXT
