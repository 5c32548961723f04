"""A signed Debian archive: InRelease verified, Packages by the hashes it vouches for.

Debian repository format (wiki.debian.org/DebianRepository/Format).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import pysequoia
import requests

from plinth.core import clock
from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, PackageError
from plinth.core.http import fetch_blob, first_bytes, opened, prompt
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.apt.sources import Source
from plinth.formats.debian.control import parse

KEYRINGS = Path("/usr/share/keyrings")
T = TypeVar("T")
_PLACE = "the Debian archive"
_DATE = re.compile(rb"^Date: ([^\r\n]{1,80})\r?$", re.MULTILINE)
_REMEDY = "check the network and the machine's apt sources, or set apt.<suite> in the settings"


@dataclass(frozen=True)
class Keyring:
    """The keys an archive may be signed with: `name` of a file in /usr/share/keyrings, or the
    file `path`; where `fingerprint` is not empty, only the key that has it (lower-case hex), which
    is read from `url` where there is no such file."""

    name: str
    path: Path | None = None
    fingerprint: str = ""
    url: str = ""


def keyring_of(name: str, config: Config, fingerprint: str = "", url: str = "") -> Keyring:
    """The keyring `name`, from the settings' `keyrings` or the machine."""
    own = config.keyrings.get(name)
    return Keyring(name, Path(own) if own else None, fingerprint.lower(), url)


MAX_KEY = 1 << 20
"""The largest key that is read from an archive (bytes)."""


_SOON = 5
"""Seconds that a question is waited for, where no file is fetched."""

_LONGEST = 1800.0
"""Seconds that the whole of a list of packages may take: they have tens of megabytes."""

_PAGE = 1 << 16
"""The longest page (bytes) that is read of an answer without a file."""

MAX_RELEASE = 16 << 20
"""The largest InRelease that is read (bytes); Debian's have 150 kB."""

MAX_PACKAGES = 256 << 20
"""The largest Packages that is read, compressed or not (bytes); Debian's main has 60 MB."""

_OPEN: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".xz": lambda stream: cast(BinaryIO, lzma.LZMAFile(stream)),  # noqa: SIM115
    ".gz": lambda stream: cast(BinaryIO, gzip.GzipFile(fileobj=stream)),
    "": lambda stream: stream,
}
"""How each form is unpacked, in order of preference."""


@dataclass(frozen=True)
class Release:
    """What an InRelease says: its files by name, whether they are also found by digest, and when it
    was made (RFC 3339, UTC; empty where it does not say)."""

    files: Mapping[str, Digest]
    by_hash: bool
    date: str


@dataclass(frozen=True)
class Index:
    """The verified contents of one suite: its InRelease's digest and date, and the text of
    Packages."""

    source: Source
    in_release: Digest
    packages: str
    date: str = ""


def _prompt(ask: Callable[[], T], what: str) -> T:
    return prompt(ask, what, place=_PLACE, remedy=_REMEDY, longest=_LONGEST)


def get(url: str, what: str, limit: int) -> bytes:
    """The bytes at `url`, called `what` in messages; of more than `limit`, one more than that.

    Raises:
        FetchError: there are none.
    """
    headers = {"Accept-Encoding": "identity"}

    with new_session() as session:

        def ask() -> bytes:
            missing = "the archive has no such file"
            with opened(session.get, url, headers, what=what, missing=missing) as answer:
                return first_bytes(answer, limit + 1)

        return _prompt(ask, what)


def download(
    url: str,
    digest: Digest,
    store: BlobStore,
    what: str,
    session: requests.Session | None = None,
) -> None:
    """Bring the file at `url` into `store`, verified while it streams; `session`, if given, keeps
    the connection for the next.

    Raises:
        FetchError: it cannot be fetched.
        IntegrityError: it is not the file `digest` names.
    """

    with contextlib.nullcontext(session) if session else new_session() as asked:

        def open_(headers: Mapping[str, str]) -> requests.Response:
            missing = "the archive has no such file any more"
            return opened(asked.get, url, headers, missing=missing, what=what)

        fetch_blob(open_, digest, store, what, place=_PLACE, remedy=_REMEDY)


def has(session: requests.Session, url: str) -> bool | None:
    """Whether the file at `url` is there; None where nothing answers."""
    headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    try:
        with session.get(url, headers=headers, stream=True, timeout=_SOON) as answer:
            if answer.status_code != 200:
                # What is read to its end leaves the connection to the next question.
                first_bytes(answer, _PAGE)
            return answer.status_code not in (404, 410)
    except (requests.RequestException, OSError, ValueError):
        return None


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
    signed = get(f"{source.base}/InRelease", shown, MAX_RELEASE)
    if len(signed) > MAX_RELEASE:
        raise PackageError(f"larger than {MAX_RELEASE} bytes", where=shown)
    text = verified(signed, keyring, shown)
    release = listed(text, shown)
    folders = [f"{component}/binary-{architecture}/" for component in components] or [""]
    if source.is_flat:
        folders = [""]
    packages = []
    for folder in folders:
        names = (f"{folder}Packages{suffix}" for suffix in _OPEN)
        name = next((name for name in names if name in release.files), "")
        if not name:
            raise PackageError(f"the suite has no {folder}Packages", where=shown)
        digest = release.files[name]
        if digest.size > MAX_PACKAGES:
            raise PackageError(f"{name} is larger than {MAX_PACKAGES} bytes", where=shown)
        by_hash = f"{source.base}/{folder}by-hash/SHA256/{digest.hex}"
        wanted = by_hash if release.by_hash else f"{source.base}/{name}"
        data = get(wanted, f"{name} of {source.name}", digest.size)
        if Digest.of(data) != digest:
            raise IntegrityError(
                "the index does not match the signed hash",
                where=f"{name} of {source.name}",
                expected=digest.oci,
                found=Digest.of(data).oci,
            )
        packages.append(unpacked(data, name, f"{name} of {source.name}"))
    return Index(source, Digest.of(text), "\n\n".join(packages), release.date)


def unpacked(data: bytes, name: str, shown: str) -> str:
    """The text of the index file `name`, called `shown` in messages.

    Raises:
        PackageError: it is damaged, or unpacks to too much.
    """
    try:
        with _OPEN[name.rpartition("Packages")[2]](io.BytesIO(data)) as stream:
            plain = stream.read(MAX_PACKAGES + 1)
    except (lzma.LZMAError, zlib.error, OSError, EOFError) as error:
        raise PackageError(f"damaged index: {error}", where=shown) from None
    if len(plain) > MAX_PACKAGES:
        raise PackageError(f"it unpacks to more than {MAX_PACKAGES} bytes", where=shown)
    return plain.decode("utf-8", "replace")


def listed(text: bytes, shown: str) -> Release:
    """What the signed `text` of an InRelease, called `shown`, says.

    Raises:
        PackageError: it is malformed, or lists a file twice.
    """
    release = parse(text.decode("utf-8", "replace"), shown)
    found: dict[str, Digest] = {}
    for row in filter(None, release.get("SHA256").split("\n")):
        words = row.split()
        if len(words) != 3:
            raise PackageError("malformed list of files", where=shown, found=row[:80])
        name = words[2].removeprefix("./")
        try:
            digest = Digest(words[0], int(words[1]))
        except (ValueError, IntegrityError) as error:
            raise PackageError(f"malformed entry of {name}: {error}", where=shown) from None
        if found.setdefault(name, digest) != digest:
            raise PackageError(f"two entries of {name}", where=shown)
    return Release(found, release.get("Acquire-By-Hash") == "yes", _date(release.get("Date")))


def _date(text: str) -> str:
    """A Release's date, which is as in mail (RFC 5322)."""
    try:
        found = parsedate_to_datetime(text)
        return f"{found.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}" if found.tzinfo else ""
    except (ValueError, OverflowError):
        return ""


def verified(signed: bytes, keyring: Keyring, shown: str) -> bytes:
    """The bytes that the inline signature of `signed`, called `shown`, covers, and only those.

    Raises:
        PackageError: there is no keyring, or no valid signature by a key of it.
    """
    shown_key, data = _keys(keyring)
    try:
        certificates = pysequoia.Cert.split_bytes(data)
        if keyring.fingerprint:
            return _by_pinned(signed, certificates, keyring.fingerprint)
        return _by_any(signed, certificates)
    except (RuntimeError, ValueError, OSError) as error:
        raise PackageError(
            "no valid signature",
            where=shown,
            expected=f"a signature by a key of {shown_key}"
            + (f" with the fingerprint {keyring.fingerprint}" if keyring.fingerprint else ""),
            found=str(error).splitlines()[0],
            remedy=_clock(signed),
        ) from None


def _clock(signed: bytes) -> str:
    """What to do where this machine's clock is behind the date in `signed`, which is believed in
    nothing else: a signature of the future is not valid."""
    found = _DATE.search(signed)
    date = _date(found[1].decode("utf-8", "replace")) if found else ""
    is_behind = f"{clock.now():%Y-%m-%dT%H:%M:%SZ}" < date
    return clock.remedy(f"the file is of {date[:16].replace('T', ' ')} UTC") if is_behind else ""


def _keys(keyring: Keyring) -> tuple[str, bytes]:
    """The name and the content of the keyring's file.

    Raises:
        PackageError: there is none.
        FetchError: it is not where the archive has it.
    """
    path = keyring.path or next((p for p in sorted(KEYRINGS.glob(f"{keyring.name}.*"))), None)
    if path is not None and path.is_file():
        return path.name, path.read_bytes()
    if keyring.fingerprint and keyring.url and keyring.path is None:
        # Whoever sent it: the fingerprint is a digest of the key.
        name = keyring.url.rpartition("/")[2]
        return name, get(keyring.url, name, MAX_KEY)
    raise PackageError(
        f"there is no keyring {keyring.name}",
        where=str(path or KEYRINGS),
        remedy=f"install it (apt-get install {keyring.name}), or set keyrings.{keyring.name} "
        "in the settings to a file with the archive's public key",
    )


def _by_any(signed: bytes, certificates: Sequence[pysequoia.Cert]) -> bytes:
    """The bytes that one of `certificates` signed.

    Raises:
        RuntimeError, ValueError: none did, or none is sound.
    """
    result = pysequoia.verify(bytes=signed, store=lambda _: certificates)
    if not result.valid_sigs or result.bytes is None:
        raise ValueError("no valid signature")
    return bytes(result.bytes)


def _by_pinned(signed: bytes, certificates: Sequence[pysequoia.Cert], fingerprint: str) -> bytes:
    """The bytes that the certificate `fingerprint` signed; see `plinth.fetch.apt.pinned`.

    Raises:
        RuntimeError, ValueError: it did not, or is not among `certificates`.
    """
    from plinth.fetch.apt.pinned import signed_by

    pinned = [one for one in certificates if str(one.fingerprint).lower() == fingerprint]
    if not pinned:
        found = ", ".join(str(one.fingerprint).lower() for one in certificates)
        raise ValueError(f"the keyring has other keys: {found}")
    try:
        return _by_any(signed, pinned)
    except (RuntimeError, ValueError):
        return signed_by(pinned[0], signed)
