"""Hostile Debian packages, indexes and signatures."""

from __future__ import annotations

import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

from hostile.harness import Case
from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.fetch.apt.archive import Index, Keyring, listed, unpacked, verified
from plinth.fetch.apt.resolve import Universe, resolve
from plinth.fetch.apt.sources import Source
from plinth.formats.debian.deb import read_deb
from plinth.formats.debian.merge import Tree
from plinth.formats.layer.writer import LayerWriter
from support.debs import Entry, Key, Package, ar, packed, paragraph, symlink, tarred, with_folders

Make = Callable[[], bytes]
CONTROL = paragraph({"Package": "demo", "Version": "1.0", "Architecture": "amd64"})


def feed(make: Make) -> Callable[[Path], None]:
    """Read the package and make a layer of it."""

    def run(work: Path) -> None:
        path = work / "demo.deb"
        path.write_bytes(make())
        tree = Tree()
        for file in read_deb(path, "demo.deb").files:
            tree.add("demo", file)
        with LayerWriter(BlobStore(work / "store")) as writer:
            tree.write(writer)
            writer.commit("demo")

    return run


def deb(*entries: Entry, control: bytes = CONTROL.encode()) -> Make:
    """A package of these entries."""
    return lambda: members(
        ("control.tar", tarred(with_folders([Entry("control", control)]))),
        ("data.tar", tarred(entries)),
    )


def members(*more: tuple[str, bytes]) -> bytes:
    return ar([("debian-binary", b"2.0\n"), *more])


def good() -> bytes:
    return Package("demo", files={"usr/share/x": b"x"}).deb


def special(path: str, kind: bytes) -> Entry:
    return Entry(path, b"", kind=kind)


def xz_bomb() -> bytes:
    """400 MB of zeros in 60 kB."""
    packer = lzma.LZMACompressor(preset=0)
    data = b"".join(packer.compress(bytes(8 << 20)) for _ in range(50)) + packer.flush()
    control = ("control.tar", tarred([Entry("./control", CONTROL.encode())]))
    return members(control, ("data.tar.xz", data))


def headers() -> bytes:
    """A tar of nothing but extended headers, each about the next."""
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 512
    block = info.tobuf() + b"20 comment=xxxxxxxx\n".ljust(512, b"\0")
    return members(
        ("control.tar", tarred([Entry("./control", CONTROL.encode())])), ("data.tar", block * 3_000)
    )


def packages(text: str) -> Callable[[Path], None]:
    """Resolve a package by the index `text`."""

    def run(_: Path) -> None:
        index = Index(Source("http://archive.test", "suite"), Digest.of(b""), text)
        names = list(Universe([index]).names())
        for name in names:
            Universe([index]).versions(name)
        resolve([index], names[:3], ())

    return run


def stanza(**changes: str) -> str:
    fields = {
        "Package": "demo",
        "Version": "1.0",
        "Architecture": "amd64",
        "Filename": "pool/main/d/demo/demo_1.0_amd64.deb",
        "Size": "1",
        "SHA256": "0" * 64,
    }
    return paragraph({key: value for key, value in {**fields, **changes}.items() if value})


RELEASE = f"Origin: test\nSHA256:\n {'0' * 64} 1 main/binary-amd64/Packages\n"


def signed(make: Callable[[Key], bytes], wanted: str = RELEASE) -> Callable[[Path], None]:
    """Believe an InRelease that `make` gives, with the key the keyring has."""

    def run(work: Path) -> None:
        key = Key()
        ring = key.write_keyring(work / "key.pgp")
        text = verified(make(key), Keyring("test", ring), "InRelease")
        listed(text, "InRelease")
        # What lies around the signed part is nobody's.
        assert text.decode().strip() == wanted.strip()

    return run


def around(key: Key) -> bytes:
    data = key.clear_signed(RELEASE.encode())
    evil = RELEASE.replace("0" * 64, "1" * 64).encode()
    return evil + data + evil


def index_bomb(_: Path) -> None:
    packer = gzip.compress(bytes(260 << 20), 1)
    unpacked(packer, "main/binary-amd64/Packages.gz", "Packages.gz")


CASES = [
    Case("traversal", "parent", feed(deb(Entry("./../../victim", b"x"))), "escapes"),
    Case("traversal", "absolute", feed(deb(Entry("/etc/x", b"x"))), "path escapes"),
    Case(
        "traversal",
        "pool path",
        packages(stanza(Filename="../../../etc/shadow")),
        "escapes the archive",
    ),
    Case("traversal", "package name", packages(stanza(Package="../demo")), "not a name"),
    Case(
        "traversal",
        "version",
        packages(stanza(Version="1/../..")),
        "not a name or version|malformed",
    ),
    Case(
        "links",
        "file under a link",
        feed(deb(symlink("./usr/x", "/etc"), Entry("./usr/x/passwd", b"evil"))),
        "a parent of this path is not a directory",
    ),
    Case(
        "links",
        "hard link out",
        feed(deb(Entry("./x", b"", kind=tarfile.LNKTYPE, target="../../victim"))),
        "escapes",
    ),
    Case(
        "devices", "device", feed(deb(special("./dev/mem", tarfile.CHRTYPE))), "device or special"
    ),
    Case("devices", "pipe", feed(deb(special("./pipe", tarfile.FIFOTYPE))), "device or special"),
    Case(
        "duplicates",
        "two files",
        feed(deb(Entry("./usr/x", b"1"), Entry("./usr/x", b"2"))),
        "there twice",
    ),
    Case(
        "duplicates",
        "two data members",
        feed(lambda: good() + ar([("data.tar", tarred([]))])[8:]),
        "there twice",
    ),
    Case(
        "duplicates",
        "two digests for one file",
        signed(
            lambda key: key.clear_signed(
                (RELEASE + f" {'1' * 64} 1 main/binary-amd64/Packages\n").encode()
            )
        ),
        "two entries",
    ),
    Case(
        "size lies",
        "ar member",
        feed(lambda: good().replace(b"4         `\n", b"4000000   `\n")),
        "reaches past the end",
    ),
    Case("size lies", "index size", packages(stanza(Size="-1")), "malformed entry"),
    Case("bombs", "xz", feed(xz_bomb), "unpacks to more than"),
    Case("bombs", "gzip index", index_bomb, "unpacks to more than"),
    Case("bombs", "headers without end", feed(headers), "damaged tar"),
    Case("names", "overlong", feed(deb(Entry("./" + "x" * 300, b"x"))), "too long"),
    Case("names", "not UTF-8", feed(deb(Entry("./x\udcff", b"x"))), "not UTF-8"),
    Case("names", "control characters", packages(stanza(Package="de\x1b[2Jmo")), "not a name"),
    Case("digests", "index without SHA-256", packages(stanza(SHA256="")), "malformed entry"),
    Case("digests", "not a digest", packages(stanza(SHA256="../x")), "malformed entry"),
    Case(
        "downgrades",
        "index with MD5 alone",
        packages(stanza(SHA256="", MD5sum="0" * 32)),
        "malformed entry",
    ),
    Case(
        "downgrades",
        "release with MD5 alone",
        signed(
            lambda key: key.clear_signed(
                b"Origin: test\nMD5Sum:\n 0 1 main/binary-amd64/Packages\n"
            ),
            "Origin: test\nMD5Sum:\n 0 1 main/binary-amd64/Packages",
        ),
    ),
    Case("downgrades", "no signature", signed(lambda _: RELEASE.encode()), "no valid signature"),
    Case(
        "digests",
        "another's signature",
        signed(lambda _: Key().clear_signed(RELEASE.encode())),
        "no valid signature",
    ),
    Case(
        "digests",
        "signed text changed",
        signed(
            lambda key: key.clear_signed(RELEASE.encode()).replace(b"Origin: test", b"Origin: evil")
        ),
        "no valid signature",
    ),
    Case("digests", "text around the signed", signed(around)),
    Case(
        "execution",
        "maintainer script",
        feed(
            lambda: members(
                (
                    "control.tar",
                    tarred(
                        [
                            Entry("./control", CONTROL.encode()),
                            Entry("./postinst", b"#!/bin/sh\ntouch ../victim2\n", 0o755),
                        ]
                    ),
                ),
                ("data.tar", packed(tarred([Entry("./x", b"x")]), "")),
            )
        ),
    ),
    Case("nonsense", "no ar", feed(lambda: b"\x7fELF" + bytes(500)), "not an ar archive"),
    Case("nonsense", "cut off", feed(lambda: good()[:-20]), "reaches past|damaged"),
    Case("nonsense", "relation", packages(stanza(Depends="(((")), "unreadable relation|malformed"),
]
