"""Two layers compared: the file, the field and the byte that differ."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from plinth.evidence.verify.compare import differences


def layer(
    path: Path, files: Mapping[str, bytes], *, level: int = 6, mode: int = 0o644, link: str = ""
) -> Path:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
        if link:
            member = tarfile.TarInfo("link")
            member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member)
    path.write_bytes(gzip.compress(plain.getvalue(), level, mtime=0))
    return path


def compared(tmp_path: Path, one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    return [*differences(layer(tmp_path / "a", one), layer(tmp_path / "b", other))]


def test_the_byte_and_what_is_there(tmp_path: Path) -> None:
    big = bytes(3 << 20)
    changed = big[: 2 << 20] + b"\x07" + big[(2 << 20) + 1 :]
    assert compared(tmp_path, {"a": b"x", "b": changed}, {"a": b"x", "b": big}) == [
        "/b: differs from byte 2097152 on: 0700000000000000 in the image, 0000000000000000 rebuilt"
    ]


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    assert compared(tmp_path, {"a": b"xy"}, {"a": b"xyz"}) == [
        "/a: size is 2, rebuilt 3",
        "/a: differs from byte 2 on: its end in the image, 7a rebuilt",
    ]


def test_files_on_one_side_only(tmp_path: Path) -> None:
    assert compared(tmp_path, {"a": b"x", "b": b"x"}, {"b": b"x", "c": b"x"}) == [
        "/a: only in the image",
        "/c: only in the rebuilt layer",
    ]


def test_a_mode_and_a_link(tmp_path: Path) -> None:
    one = layer(tmp_path / "a", {"f": b"x"}, mode=0o4755, link="here")
    other = layer(tmp_path / "b", {"f": b"x"}, link="there")
    assert [*differences(one, other)] == [
        "/f: mode is 4755, rebuilt 0644",
        "/link: target is here, rebuilt there",
    ]


def test_another_order(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a": b"x", "b": b"y"}, {"b": b"y", "a": b"x"})
    assert found == ["the same files in another order"]


def test_the_same_files_compressed_differently(tmp_path: Path) -> None:
    data = bytes(range(256)) * 500
    one = layer(tmp_path / "a", {"a": data}, level=1)
    other = layer(tmp_path / "b", {"a": data}, level=9)
    (found,) = differences(one, other)
    assert found.startswith("the same files, packed differently: the blobs differ from byte ")


def test_no_more_than_a_handful(tmp_path: Path) -> None:
    found = compared(tmp_path, {str(n): b"x" for n in range(100)}, {})
    assert len(found) == 6
    assert found[-1] == "and more"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    one = layer(tmp_path / "a", {"a": b"x"})
    broken = tmp_path / "b"
    broken.write_bytes(one.read_bytes()[:-30])
    (found,) = differences(one, broken)
    assert found.startswith("one of them cannot be read")
