"""A signed Debian archive: InRelease verified, Packages by the hashes it vouches for.

Debian repository format (wiki.debian.org/DebianRepository/Format).
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pysequoia
import requests
from debian.deb822 import Release

from plinth.config import Config
from plinth.debian.sources import Source
from plinth.digest import Digest
from plinth.errors import FetchError, IntegrityError, PackageError
from plinth.http import TIMEOUT, fetch_blob, opened, retried
from plinth.store import BlobStore

KEYRINGS = Path("/usr/share/keyrings")
T = TypeVar("T")
_PLACE = "the Debian archive"
_REMEDY = "check the network and the machine's apt sources, or set apt.<suite> in the settings"


@dataclass(frozen=True)
class Keyring:
    """The keys an archive may be signed with: `name` of a file in /usr/share/keyrings, or the
    file `path`; `fingerprint` is what the signing certificate's must end in (lower-case hex)."""

    name: str
    path: Path | None = None
    fingerprint: str = ""


def keyring_of(name: str, config: Config, fingerprint: str = "") -> Keyring:
    """The keyring `name`, from the settings' `keyrings` or the machine."""
    own = config.keyrings.get(name)
    return Keyring(name, Path(own) if own else None, fingerprint.lower())


# In order of preference.
_OPEN: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
    "": bytes,
}


@dataclass(frozen=True)
class Index:
    """The verified contents of one suite: its InRelease's digest, and the text of Packages."""

    source: Source
    in_release: Digest
    packages: str


def _retried(ask: Callable[[], T], what: str) -> T:
    return retried(ask, what, place=_PLACE, remedy=_REMEDY)


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

    def open_(headers: Mapping[str, str]) -> requests.Response:
        missing = "the archive has no such file any more"
        return opened(requests.get, url, headers, missing=missing, what=what)

    fetch_blob(open_, digest, store, what, place=_PLACE, remedy=_REMEDY)


def read_index(
    source: Source,
    components: tuple[str, ...],
    architecture: str,
    keyring: Keyring,
) -> Index:
    """Fetch and verify one suite, or one flat repository (a suite that ends in `/`).

    Valid-Until is not enforced: a lock names its packages by hash, and a mirror frozen in an air
    gap is a normal place to lock from.

    Raises:
        FetchError: the archive cannot be reached.
        PackageError: no valid signature of the keyring, or the index does not match it.
    """
    shown = f"InRelease of {source.name}"
    text = _verified(get(f"{source.base}/InRelease", shown), keyring, shown)
    release = Release(text.decode("utf-8", "replace"))
    hashes = {entry["name"].removeprefix("./"): entry for entry in release.get("SHA256", [])}
    folders = [f"{component}/binary-{architecture}/" for component in components] or [""]
    if source.is_flat:
        folders = [""]
    packages = []
    for folder in folders:
        entry = next(
            (hashes[n] for n in (f"{folder}Packages{s}" for s in _OPEN) if n in hashes), None
        )
        if entry is None:
            raise PackageError(f"the suite has no {folder}Packages", where=shown)
        name = entry["name"].removeprefix("./")
        try:
            digest = Digest(entry["sha256"], int(entry["size"]))
        except (ValueError, IntegrityError) as error:
            raise PackageError(f"malformed entry of {name}: {error}", where=shown) from None
        by_hash = f"{source.base}/{folder}by-hash/SHA256/{digest.hex}"
        wanted = by_hash if release.get("Acquire-By-Hash") == "yes" else f"{source.base}/{name}"
        data = get(wanted, f"{name} of {source.name}")
        if Digest.of(data) != digest:
            raise IntegrityError(
                "the index does not match the signed hash",
                where=f"{name} of {source.name}",
                expected=digest.oci,
                found=Digest.of(data).oci,
            )
        try:
            plain = _OPEN[name.rpartition("Packages")[2]](data)
        except (lzma.LZMAError, zlib.error, OSError, EOFError) as error:
            raise PackageError(
                f"damaged index: {error}", where=f"{name} of {source.name}"
            ) from None
        packages.append(plain.decode("utf-8", "replace"))
    return Index(source, Digest.of(text), "\n\n".join(packages))


def _verified(signed: bytes, keyring: Keyring, shown: str) -> bytes:
    """The bytes an inline signature covers, and only those."""
    path = keyring.path or next((p for p in sorted(KEYRINGS.glob(f"{keyring.name}.*"))), None)
    if path is None or not path.is_file():
        raise PackageError(
            f"there is no keyring {keyring.name}",
            where=str(path or KEYRINGS),
            remedy=f"install it (apt-get install {keyring.name}), or set keyrings.{keyring.name} "
            "in the settings to a file with the archive's public key",
        )
    try:
        certificates = pysequoia.Cert.split_file(str(path))
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
    signers = [str(one.certificate).lower() for one in result.valid_sigs]
    if not any(signer.endswith(keyring.fingerprint) for signer in signers):
        raise PackageError(
            "signed by another key",
            where=shown,
            expected=f"a key whose fingerprint ends in {keyring.fingerprint}",
            found=", ".join(signers),
        )
    return bytes(result.bytes)
