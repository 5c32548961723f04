"""A signed Debian archive: InRelease verified, Packages by the hashes it vouches for.

Debian repository format (wiki.debian.org/DebianRepository/Format).
"""

from __future__ import annotations

import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pysequoia
import requests
from debian.deb822 import Release

from plinth.debian.sources import Source
from plinth.digest import Digest
from plinth.errors import FetchError, IntegrityError, PackageError
from plinth.http import TIMEOUT, into_store, retried
from plinth.store import BlobStore

KEYRINGS = Path("/usr/share/keyrings")
T = TypeVar("T")


@dataclass(frozen=True)
class Index:
    """The verified contents of one suite: its InRelease's digest, and the text of Packages."""

    source: Source
    in_release: Digest
    packages: str


def _retried(ask: Callable[[], T], what: str) -> T:
    return retried(
        ask,
        what,
        place="the Debian archive",
        remedy="check the network and the machine's apt sources, or set apt.<suite> in the "
        "settings",
    )


def get(url: str, what: str) -> bytes:
    """The bytes at `url`, called `what` in messages."""

    def ask() -> bytes:
        answer = requests.get(url, timeout=TIMEOUT)
        if answer.status_code == 404:
            raise FetchError("the archive has no such file", where=what)
        answer.raise_for_status()
        return answer.content

    return _retried(ask, what)


def download(url: str, digest: Digest, store: BlobStore, what: str) -> None:
    """Bring the file at `url` into `store`, verified while it streams.

    Raises:
        FetchError: it cannot be fetched.
        IntegrityError: it is not the file `digest` names.
    """

    def ask() -> None:
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 404:
                raise FetchError("the archive has no such file any more", where=what)
            answer.raise_for_status()
            into_store(answer, digest, store)

    _retried(ask, what)


def read_index(
    source: Source, components: tuple[str, ...], architecture: str, keyring: str
) -> Index:
    """Fetch and verify one suite.

    `keyring` is the name of a file in /usr/share/keyrings. Valid-Until is not enforced: a lock
    names its packages by hash, and a mirror frozen in an air gap is a normal place to lock from.

    Raises:
        FetchError: the archive cannot be reached.
        PackageError: no valid signature of the keyring, or the index does not match it.
    """
    shown = f"InRelease of {source.suite}"
    signed = get(f"{source.uri}/dists/{source.suite}/InRelease", shown)
    text = _verified(signed, keyring, shown)
    release = Release(text.decode("utf-8", "replace"))
    hashes = {entry["name"]: entry for entry in release.get("SHA256", [])}
    packages = []
    for component in components:
        name = f"{component}/binary-{architecture}/Packages.xz"
        if name not in hashes:
            raise PackageError(f"the suite has no {name}", where=shown)
        digest = Digest(hashes[name]["sha256"], int(hashes[name]["size"]))
        base = f"{source.uri}/dists/{source.suite}"
        by_hash = f"{base}/{component}/binary-{architecture}/by-hash/SHA256/{digest.hex}"
        wanted = by_hash if release.get("Acquire-By-Hash") == "yes" else f"{base}/{name}"
        data = get(wanted, f"{name} of {source.suite}")
        if Digest.of(data) != digest:
            raise IntegrityError(
                "the index does not match the signed hash",
                where=f"{name} of {source.suite}",
                expected=digest.oci,
                found=Digest.of(data).oci,
            )
        packages.append(lzma.decompress(data).decode("utf-8", "replace"))
    return Index(source, Digest.of(text), "\n\n".join(packages))


def _verified(signed: bytes, keyring: str, shown: str) -> bytes:
    """The bytes an inline signature covers, and only those."""
    path = next((p for p in sorted(KEYRINGS.glob(f"{keyring}.*"))), None)
    if path is None:
        raise PackageError(
            f"there is no keyring {keyring}",
            where=str(KEYRINGS),
            remedy=f"install it: apt-get install {keyring}",
        )
    certificates = pysequoia.Cert.split_file(str(path))
    try:
        result = pysequoia.verify(bytes=signed, store=lambda _: certificates)
    except (RuntimeError, ValueError, OSError) as error:
        raise PackageError(
            "no valid signature",
            where=shown,
            expected=f"a signature by a key of {path.name}",
            found=str(error).splitlines()[0],
        ) from None
    if not result.valid_sigs or result.bytes is None:
        raise PackageError("no valid signature", where=shown)
    return bytes(result.bytes)
