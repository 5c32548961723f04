"""The one tar reader against others: Python's and GNU's see the same entries, or it refuses."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plinth.core.errors import AmbiguityError, LayoutError
from plinth.formats.debian import deb
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.tar import DEVICE, FileSource, Source, members
from plinth.graph.workspace import Workspace
from support import needs

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
END = bytes(1024)
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.DIRTYPE: "directory",
}


class Seen(NamedTuple):
    """What a reader sees of an entry."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: float
    target: str
    sha256: str


def ours(data: bytes, pieces: int = 1 << 20) -> list[Seen]:
    """By our reader, the tar handed to it in pieces of so many bytes."""
    chunks = (data[at : at + pieces] for at in range(0, len(data), pieces))
    return [
        Seen(
            member.name.rstrip("/"),
            member.kind,
            member.mode,
            member.uid,
            member.gid,
            member.size,
            member.mtime,
            member.target,
            hashlib.sha256(b"".join(content)).hexdigest(),
        )
        for member, content in members(Source(chunks))
    ]


def pythons(data: bytes) -> list[Seen]:
    """By Python's."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            found.append(
                Seen(
                    member.name,
                    KINDS.get(member.type, DEVICE),
                    member.mode & 0o7777,
                    member.uid,
                    member.gid,
                    member.size,
                    member.mtime,
                    member.linkname if member.issym() or member.islnk() else "",
                    hashlib.sha256(content.read() if content else b"").hexdigest(),
                )
            )
    return found


def gnus(data: bytes) -> list[tuple[str, str, str, str]]:
    """By GNU's: kind and permissions, owner, size (of files), and name with target."""
    listed = subprocess.run(
        ["tar", "-tvf-", "--numeric-owner", "--quoting-style=escape", "--full-time", "--utc"],
        input=data,
        capture_output=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert not listed.stderr
    rows = (line.split(maxsplit=5) for line in listed.stdout.decode().splitlines())
    return [(row[0], row[1], row[2] if row[0][0] == "-" else "0", row[5]) for row in rows]


def as_gnu(seen: Iterable[Seen]) -> list[tuple[str, str, str, str]]:
    """The same of ours."""
    found = []
    for one in seen:
        letters = "".join(
            letter if one.mode >> (8 - n) & 1 else "-" for n, letter in enumerate("rwxrwxrwx")
        )
        for bit, at, lower, upper in ((11, 2, "s", "S"), (10, 5, "s", "S"), (9, 8, "t", "T")):
            if one.mode >> bit & 1:
                mark = upper if letters[at] == "-" else lower
                letters = letters[:at] + mark + letters[at + 1 :]
        kind = {"file": "-", "hardlink": "h", "symlink": "l", "directory": "d"}[one.kind]
        name = one.name + ("/" if one.kind == "directory" else "")
        arrow = {"symlink": " -> ", "hardlink": " link to "}.get(one.kind, "")
        text = f"{name}{arrow}{one.target}".replace("\\", "\\\\")
        found.append((kind + letters, f"{one.uid}/{one.gid}", str(one.size), text))
    return found


def check_alike(data: bytes) -> None:
    seen = ours(data)
    assert seen == pythons(data)
    assert as_gnu(seen) == gnus(data)


def kept_inputs() -> dict[str, bytes]:
    """The tars among what fuzzing keeps."""
    found = {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for folder in ("archive", "layer", "sdist")
        for path in sorted((CORPUS / folder).iterdir())
    }
    found = {
        name: gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        for name, data in found.items()
    }
    for path in sorted((CORPUS / "deb").iterdir()):
        for member, content in deb._ar(memoryview(path.read_bytes()), path.name):
            if ".tar" in member:
                found[f"deb/{path.name}: {member}"] = deb._unpacked(member, content, path.name)
    return found


@pytest.mark.parametrize("name", kept_inputs())
def test_three_readers_see_the_same_in_kept_inputs(name: str) -> None:
    check_alike(kept_inputs()[name])


def test_three_readers_see_the_same_in_a_built_image() -> None:
    ws = Workspace(ROOT, ROOT / "build")
    image = references(ws.layout).get("minimal") if ws.layout.root.is_dir() else None
    if image is None:
        needs.skip("the image minimal in build/oci (doit build:minimal)")
    for layer in read_manifest(ws.layout, image.manifest).layers:
        # Larger ones take a minute in all, and have nothing that these have not.
        if layer.digest.size <= 10 << 20:
            check_alike(gzip.decompress(ws.layout.path(layer.digest).read_bytes()))


LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
NAMES = st.text(LETTERS, min_size=1, max_size=20) | st.sampled_from(["x" * 99, "ü/" * 60 + "y"])
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


class Entry(NamedTuple):
    """An entry to be written."""

    name: str
    kind: bytes
    mode: int
    uid: int
    mtime: int
    target: str
    data: bytes


ENTRIES = st.lists(
    st.builds(
        Entry,
        NAMES,
        st.sampled_from([*KINDS, tarfile.FIFOTYPE]),
        st.integers(0, 0o7777),
        st.integers(0, 1 << 40),
        st.integers(-(1 << 33), 1 << 36),
        NAMES,
        st.sampled_from([b"", b"a", bytes(512), bytes(513)]),
    ),
    min_size=1,
    max_size=3,
)


def written(entries: Iterable[Entry], form: int) -> bytes:
    """A tar by Python."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, encoding="utf-8") as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.uid, info.mtime = entry[1:5]
            if info.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
                info.linkname = entry.target
            info.size = len(entry.data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(entry.data))
    return stream.getvalue()


@given(ENTRIES, FORMATS, st.sampled_from([1, 511, 1 << 20]))
def test_what_python_writes_is_read_as_it_is_meant(
    entries: list[Entry], form: int, pieces: int
) -> None:
    try:
        data = written(entries, form)
    except ValueError:
        assume(False)
    try:
        seen = ours(data, pieces)
    except AmbiguityError as error:
        # A name with a slash behind it is a folder's to some.
        assert "ends in a slash" in error.what
    else:
        assert seen == pythons(data)


@given(FORMATS, ENTRIES, st.integers(0, 511), st.binary(min_size=1, max_size=12))
def test_a_changed_header_is_refused_or_means_the_same_to_python(
    form: int, entries: list[Entry], at: int, value: bytes
) -> None:
    try:
        data = written(entries, form)
    except ValueError:
        assume(False)
    block = bytearray(data[:512])
    block[at : at + len(value)] = value
    del block[512:]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    changed = bytes(block) + data[512:]
    try:
        seen = ours(changed)
    except LayoutError:
        return
    assert seen == pythons(changed)


def test_an_old_file_whose_short_name_is_a_folders_is_refused() -> None:
    info = tarfile.TarInfo("ü/" * 60 + "y")
    info.type = tarfile.AREGTYPE
    with pytest.raises(AmbiguityError, match="ends in a slash"):
        ours(info.tobuf(tarfile.PAX_FORMAT) + END)
    info.type = tarfile.REGTYPE
    check_alike(info.tobuf(tarfile.PAX_FORMAT) + END)


def test_a_file_that_is_skipped_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("large")
    info.size = 1 << 40
    path = tmp_path / "x.tar"
    with path.open("wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(512 + info.size)
        stream.seek(0, 2)
        stream.write(tarfile.TarInfo("small").tobuf() + END)
    with path.open("rb") as stream:
        found = [(member.name, member.at) for member, _ in members(FileSource(stream))]
    assert found == [("large", 512), ("small", (1 << 40) + 1024)]
    with path.open("rb+") as stream:
        stream.truncate(1 << 39)
        with pytest.raises(LayoutError, match="the tar ends within a file") as raised:
            list(members(FileSource(stream)))
    assert raised.value.where == "large"
