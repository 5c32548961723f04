"""An OpenPGP key as vendors have old ones: RSA, bound to its user ID by SHA-1; made by GnuPG."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pysequoia

from support import needs


class GnuPG:
    """A key, and what signs with it: `certificate` is its public half, `self_digest` the hash of
    its self-signature."""

    def __init__(self, self_digest: str = "SHA1", algorithm: str = "rsa2048") -> None:
        needs.program("gpg")
        # Its agent's socket has a path of at most 107 bytes.
        self._home = tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp")
        Path(self._home.name).chmod(0o700)
        user = "Old archive <archive@example.org>"
        self._run(
            *("--cert-digest-algo", self_digest, "--quick-gen-key", user, algorithm),
            *("sign,cert", "never"),
        )
        self.certificate = self._run("--export")

    @property
    def fingerprint(self) -> str:
        """Its fingerprint, in lower-case hexadecimal."""
        return str(pysequoia.Cert.from_bytes(self.certificate).fingerprint).lower()

    def clear_signed(self, text: bytes, digest: str = "SHA512") -> bytes:
        """`text` with an inline signature over its hash `digest`."""
        return self._run("--digest-algo", digest, "--clear-sign", content=text)

    def revoked(self) -> bytes:
        """Its public half, revoked."""
        path = next((Path(self._home.name) / "openpgp-revocs.d").glob("*.rev"))
        # GnuPG puts a colon there, so that nobody revokes by accident.
        self._run("--import", content=path.read_bytes().replace(b":-----", b"-----"))
        return self._run("--export")

    def close(self) -> None:
        """End its agent and delete it."""
        subprocess.run(
            ["gpgconf", "--homedir", self._home.name, "--kill", "all"], check=True, timeout=30
        )
        self._home.cleanup()

    def _run(self, *arguments: str, content: bytes = b"") -> bytes:
        fixed = ["gpg", "--homedir", self._home.name, "--batch", "--quiet", "--passphrase", ""]
        done = subprocess.run(
            [*fixed, *arguments], input=content, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout
