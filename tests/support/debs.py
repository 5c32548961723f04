"""Debian packages and signed archives made in tests, and a local server to read them from."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import lzma
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pysequoia
import zstandard

Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Entry:
    """One tar entry; `kind` is a type of `tarfile`, such as `tarfile.SYMTYPE`."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    uid: int = 0
    gid: int = 0


def folder(path: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(path, mode=mode, kind=tarfile.DIRTYPE)


def symlink(path: str, target: str) -> Entry:
    """A symbolic link to `target`."""
    return Entry(path, mode=0o777, kind=tarfile.SYMTYPE, target=target)


def hardlink(path: str, target: str) -> Entry:
    """A hard link to the entry `target`."""
    return Entry(path, kind=tarfile.LNKTYPE, target=target)


def tarred(entries: Iterable[Entry]) -> bytes:
    """The entries as a tar in GNU format, as dpkg makes them, with fixed times and no names."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.type, info.mode, info.linkname = entry.kind, entry.mode, entry.target
            info.uid, info.gid, info.size = entry.uid, entry.gid, len(entry.data)
            tar.addfile(info, io.BytesIO(entry.data))
    return stream.getvalue()


def packed(data: bytes, compression: str) -> bytes:
    """`data` compressed as the suffix says: `xz`, `zst`, `gz`, or not at all (empty)."""
    if compression == "xz":
        return lzma.compress(data, preset=0)
    if compression == "zst":
        return zstandard.ZstdCompressor().compress(data)
    if compression == "gz":
        return gzip.compress(data, mtime=0)
    return data


def ar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An ar archive (ar(5), the common format)."""
    whole = b"!<arch>\n"
    for name, data in members:
        whole += b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name.encode(), 0, 0, 0, b"100644", len(data))
        whole += data + b"\n" * (len(data) % 2)
    return whole


def with_folders(files: Iterable[Entry]) -> list[Entry]:
    """The entries as dpkg-deb lists them: `./` in front, and every folder before what is in it."""
    found: dict[str, Entry] = {"./": folder("./")}
    for entry in files:
        parts = entry.path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            path = "./" + "/".join(parts[:depth])
            found.setdefault(path, folder(path))
        path = f"./{entry.path}"
        found[path] = Entry(path, *list(vars(entry).values())[1:])
    return list(found.values())


@dataclass(frozen=True)
class Package:
    """One binary package. `files` are its contents by path relative to /: bytes, or an `Entry`
    for what is no plain file; `fields` are further control fields."""

    name: str
    version: str = "1.0"
    architecture: str = "amd64"
    files: Mapping[str, bytes | Entry] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    compression: str = "xz"

    @property
    def entries(self) -> list[Entry]:
        """Its files with all their folders, as they are in the data member."""
        return with_folders(
            content if isinstance(content, Entry) else Entry(path, content)
            for path, content in self.files.items()
        )

    @property
    def control(self) -> dict[str, str]:
        """The control fields."""
        return {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "Test <test@example.org>",
            **self.fields,
            "Description": f"the package {self.name}",
        }

    @property
    def md5sums(self) -> str:
        """The control member's list of checksums."""
        return "".join(
            f"{hashlib.md5(entry.data, usedforsecurity=False).hexdigest()}  {entry.path[2:]}\n"
            for entry in self.entries
            if entry.kind == tarfile.REGTYPE
        )

    @functools.cached_property
    def deb(self) -> bytes:
        """The package's bytes."""
        suffix = f".{self.compression}" if self.compression else ""
        return ar(
            [
                ("debian-binary", b"2.0\n"),
                (f"control.tar{suffix}", packed(self._control_tar(), self.compression)),
                (f"data.tar{suffix}", packed(tarred(self.entries), self.compression)),
            ]
        )

    def _control_tar(self) -> bytes:
        files = {"control": paragraph(self.control), "md5sums": self.md5sums}
        return tarred(with_folders(Entry(path, text.encode()) for path, text in files.items()))

    @property
    def file(self) -> str:
        """The name of its file."""
        version = self.version.partition(":")[2] or self.version
        return f"{self.name}_{version}_{self.architecture}.deb"

    def path(self, component: str = "main") -> str:
        """Where it is in the pool of an archive."""
        source = self.fields.get("Source", self.name)
        prefix = source[:4] if source.startswith("lib") else source[:1]
        return f"pool/{component}/{prefix}/{source}/{self.file}"

    def stanza(self, path: str = "") -> str:
        """Its entry in a Packages file; `path` is where it is, empty in the pool."""
        return paragraph(
            {
                **self.control,
                "Filename": path or self.path(),
                "Size": str(len(self.deb)),
                "SHA256": hashlib.sha256(self.deb).hexdigest(),
            }
        )


def paragraph(fields: Mapping[str, str]) -> str:
    """Fields as a deb822 paragraph, without the empty line behind it."""
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def packages_text(packages: Iterable[Package]) -> str:
    """The text of a Packages file of the component main."""
    return "\n".join(package.stanza() for package in packages)


def make_deb(folder: Path, package: Package, name: str = "") -> Path:
    """The package as a file in `folder`."""
    path = folder / (name or package.file)
    path.write_bytes(package.deb)
    return path


class Key:
    """A fresh OpenPGP key, and the keyring file that trusts it."""

    def __init__(self) -> None:
        self._secret = pysequoia.Tsk.generate(user_id="Test archive <archive@example.org>")

    @property
    def certificate(self) -> bytes:
        """The public half, as keyring files hold it."""
        return bytes(self._secret.extract_certificate())

    @property
    def fingerprint(self) -> str:
        """Its fingerprint, in lower-case hexadecimal."""
        return str(self._secret.extract_certificate().fingerprint).lower()

    def write_keyring(self, path: Path) -> Path:
        """Write a keyring that trusts this key."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.certificate)
        return path

    def clear_signed(self, text: bytes) -> bytes:
        """`text` with an inline signature (RFC 9580, "Cleartext Signature Framework")."""
        mode = pysequoia.SignatureMode.CLEAR
        return bytes(pysequoia.sign(self._secret.signer(), text, mode=mode))


@dataclass
class Archive:
    """A Debian archive in a folder: add packages, then `publish` each suite.

    What is published are plain files; to damage one, `change` it.
    """

    root: Path
    key: Key = field(default_factory=Key)
    architectures: Sequence[str] = ("amd64",)
    _suites: dict[str, dict[str, list[Package]]] = field(default_factory=dict)

    def add(self, suite: str, *packages: Package, component: str = "main") -> None:
        """Put packages into a component of a suite, and their files where it says they are.

        A suite that ends in `/` is a folder of a flat repository, which has no components.
        """
        self._suites.setdefault(suite, {}).setdefault(component, []).extend(packages)
        for package in packages:
            path = self.root / _place(suite, package, component)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(package.deb)

    def text(self, suite: str, architecture: str = "amd64", component: str = "main") -> str:
        """The text of one Packages file; packages for all architectures are in each."""
        return "\n".join(
            package.stanza(_place(suite, package, component))
            for package in self._suites[suite][component]
            if package.architecture in (architecture, "all") or suite.endswith("/")
        )

    def publish(
        self,
        *suites: str,
        by_hash: bool = False,
        compressions: Sequence[str] = ("xz",),
        key: Key | None = None,
        edit: Change | None = None,
    ) -> None:
        """Write the indexes of `suites` (none named: of all), signed by `key` or the archive's.

        `by_hash` announces and makes the by-hash folders, and leaves the plain names out, so
        that a client that does not use them fails. `edit` changes the release text before it
        is signed.
        """
        for suite in suites or tuple(self._suites):
            text = self._release(suite, compressions, by_hash=by_hash).encode()
            signed = (key or self.key).clear_signed(edit(text) if edit else text)
            self.path(suite).write_bytes(signed)

    def _indexes(self, suite: str) -> dict[str, str]:
        if suite.endswith("/"):
            return {"Packages": self.text(suite)}
        shutil.rmtree(self.path(suite).parent, ignore_errors=True)
        return {
            f"{component}/binary-{architecture}/Packages": self.text(suite, architecture, component)
            for component in self._suites[suite]
            for architecture in self.architectures
        }

    def _release(self, suite: str, compressions: Sequence[str], *, by_hash: bool) -> str:
        listed = ""
        for index, text in self._indexes(suite).items():
            for compression in compressions:
                name = f"{index}.{compression}" if compression else index
                data = packed(text.encode(), compression)
                digest = hashlib.sha256(data).hexdigest()
                plain = self.path(suite, name)
                path = plain.parent / "by-hash" / "SHA256" / digest if by_hash else plain
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                listed += f"\n {digest} {len(data)} {name}"
        return paragraph(
            {
                "Origin": "Test",
                "Suite": suite,
                "Codename": suite,
                "Date": "Mon, 02 Nov 2026 00:00:00 UTC",
                **({"Acquire-By-Hash": "yes"} if by_hash else {}),
                "Architectures": " ".join(self.architectures),
                "Components": " ".join(self._suites[suite]),
                "SHA256": listed,
            }
        )

    def path(self, suite: str, name: str = "InRelease") -> Path:
        """Where a file of a suite is: `InRelease`, `main/binary-amd64/Packages.xz`, …"""
        folder = suite.strip("/") if suite.endswith("/") else f"dists/{suite}"
        return self.root / folder / name


def _place(suite: str, package: Package, component: str) -> str:
    """Where a package is, relative to the archive's base, as Packages files have it."""
    if suite.endswith("/"):
        return f"./{suite.lstrip('/')}{package.file}"
    return package.path(component)


def change(path: Path, by: Change) -> None:
    """Replace the content of a file by what `by` makes of it; `flipped` damages anything."""
    path.write_bytes(by(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    """`data` with one bit in its middle changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def replaced(old: bytes, new: bytes) -> Change:
    """A change of `old`, which must be there, to `new`."""

    def by(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return by
