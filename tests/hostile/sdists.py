"""Hostile sdists: unpacked for a build that never comes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from hostile.harness import Case
from plinth.formats.wheel.sdist import build_backend, build_requirements, unpack

NAME = "demo-1.0.tar.gz"
PROJECT = b'[build-system]\nrequires = ["setuptools"]\n'


def feed(data: Callable[[], bytes]) -> Callable[[Path], None]:
    """Read what the sdist says of its build, then unpack it, as a build does."""

    def run(work: Path) -> None:
        path = work / NAME
        path.write_bytes(data())
        build_requirements(path, NAME)
        build_backend(path, NAME)
        (work / "inside").mkdir()
        unpack(path, NAME, work / "inside")

    return run


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    return info, data


def sdist(*members: tuple[tarfile.TarInfo, bytes], project: bytes = PROJECT) -> Callable[[], bytes]:
    """An sdist of demo 1.0 with these members as well."""

    def make() -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
            for info, data in (member("demo-1.0/pyproject.toml", project), *members):
                tar.addfile(info, io.BytesIO(data))
        return stream.getvalue()

    return make


def bomb() -> bytes:
    """A header that promises 39 GB."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        info, data = member("demo-1.0/pyproject.toml", PROJECT)
        tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("demo-1.0/zeros")
        info.size = 39 << 30
        assert tar.fileobj is not None
        tar.fileobj.write(info.tobuf() + bytes(1 << 20))
    return stream.getvalue()


CASES = [
    Case("traversal", "parent", feed(sdist(member("demo-1.0/../../victim", b"x"))), "escapes"),
    Case("traversal", "absolute", feed(sdist(member("/etc/cron.d/x", b"x"))), "escapes"),
    Case(
        "traversal",
        "backend-path",
        feed(sdist(project=b"[build-system]\nrequires = []\nbackend-path = ['../..']\n")),
        "backend-path escapes",
    ),
    Case(
        "links",
        "symbolic link",
        feed(sdist(member("demo-1.0/out", kind=tarfile.SYMTYPE, target="../.."))),
        "a link leads out of the sdist",
    ),
    Case(
        "links",
        "hard link",
        feed(sdist(member("demo-1.0/out", kind=tarfile.LNKTYPE, target="/etc/shadow"))),
        "a link leads out of the sdist",
    ),
    Case(
        "devices", "pipe", feed(sdist(member("demo-1.0/p", kind=tarfile.FIFOTYPE))), "special file"
    ),
    Case(
        "duplicates",
        "two files",
        feed(sdist(member("demo-1.0/a", b"1"), member("demo-1.0/a", b"2"))),
        "there twice",
    ),
    Case("bombs", "size", feed(bomb), "unpacks to too much"),
    Case("bombs", "nested TOML", feed(sdist(project=b"a = " + b"[" * 50_000)), "not TOML"),
    Case("bombs", "huge number", feed(sdist(project=b"a = " + b"9" * 50_000)), "not TOML"),
    Case("names", "two tops", feed(sdist(member("other/a", b"x"))), "one top folder"),
    Case(
        "names", "overlong", feed(sdist(member("demo-1.0/" + "x" * 5_000, b"x"))), "path too long"
    ),
    Case(
        "redirects",
        "build requirement elsewhere",
        feed(sdist(project=b"[build-system]\nrequires = ['a @ https://elsewhere.test/a']\n")),
        "names a URL",
    ),
    Case("nonsense", "no tar", feed(lambda: b"\x1f\x8b" + bytes(100)), "not a readable sdist"),
]
