"""The linker's cache: fixed bytes, what the machine's ldconfig lists in it, its order of names."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.formats.elf.closure import Tree
from plinth.formats.elf.ldcache import _compare, cache_bytes
from support import needs
from support.elves import Root, debian, program, shared

LIB = "usr/lib/x86_64-linux-gnu"
Pairs = list[tuple[str, str]]
_LINE = re.compile(r"^\t(\S+) \(libc6,x86-64\) => (\S+)$", re.MULTILINE)


def ldconfig(*arguments: str) -> str:
    """What the machine's own ldconfig prints."""
    found = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        needs.skip("ldconfig")
    done = subprocess.run([found, *arguments], check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(cache: Path) -> Pairs:
    """The names and paths (relative to /) in a cache, in its order."""
    return [(name, path[1:]) for name, path in _LINE.findall(ldconfig("-p", "-C", str(cache)))]


def test_the_bytes_are_fixed() -> None:
    data = cache_bytes([("libfoo.so.9", "lib/libfoo.so.9"), ("libfoo.so.10", "opt/libfoo.so.10")])
    assert data[:48] == (
        b"glibc-ld.so.cache1.1"
        + struct.pack("<II", 2, 13 + 18 + 12 + 17)
        + b"\x02\0\0\0"
        + bytes(16)
    )
    assert data[48:96] == struct.pack("<iIIIQiIIIQ", 0x0303, 96, 109, 0, 0, 0x0303, 127, 139, 0, 0)
    assert data[96:] == b"libfoo.so.10\0/opt/libfoo.so.10\0libfoo.so.9\0/lib/libfoo.so.9\0"


def test_an_empty_cache_is_one(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(cache_bytes([]))
    assert "0 libs found in cache" in ldconfig("-p", "-C", str(tmp_path / "cache"))


NAMES = st.from_regex(r"\Alib[ab.9_+-]{1,6}\.so(\.[0-9]{1,9}[a-c]?){0,2}\Z")


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(NAMES, st.from_regex(r"\A[a-z]{1,9}/[a-z0-9.]{1,20}\Z"), max_size=30))
def test_ldconfig_lists_exactly_what_was_given(libraries: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        cache.write_bytes(cache_bytes(libraries.items()))
        found = listed(cache)
    assert dict(found) == libraries
    assert len(found) == len(libraries)


def made_by_ldconfig(root: Root) -> Pairs:
    """What the machine's own ldconfig finds in `root`, in its order."""
    if not debian():
        needs.skip("ldconfig of Debian")
    (root.folder / "etc").mkdir(exist_ok=True)
    ldconfig("-r", str(root.folder), "-X", "-C", "/etc/theirs")
    return listed(root.folder / "etc" / "theirs")


def made_by_us(root: Root) -> Pairs:
    """The same by our own cache."""
    cache = root.folder / "etc" / "ld.so.cache"
    cache.write_bytes(cache_bytes(Tree.of([("one", root.scan)]).cached()))
    return listed(cache)


# Neighbours in many orders: by bytes, by number, by case, by length.
TRICKY = (
    "libfoo.so.9",
    "libfoo.so.10",
    "libfoo.so.1a",
    "libfoo1.so.2",
    "libfoo-2.so",
    "libfoo_2.so",
    "libfoo-20231231235959.so",
    "libfoo-00012.so.3",
    "libfoo-12.so.2",
    "libFoo.so.1",
    "libfo.so.1",
    "libc++.so.1",
    "lib_a.so.1",
    "lib9.so.1",
    "lib10.so.1",
    "libe.so.1",
    "lib\u00e9.so.1",
    "ld-x.so.3",
)


def test_a_system_is_listed_as_ldconfig_would(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.link("lib", "usr/lib")
    root.put("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    root.put("etc/ld.so.conf.d/a.conf", b"/opt/x\n# /opt/no\n/opt/y  # why\n")
    root.put("etc/ld.so.conf.d/a.conf.dpkg-old", b"/opt/old\n")
    for name in TRICKY:
        root.put(f"{LIB}/{name}", shared(""))
    root.put(f"{LIB}/libr.so.1.2.3", shared("libr.so.1"))
    root.link(f"{LIB}/libr.so.1", "libr.so.1.2.3")
    root.link(f"{LIB}/libr.so", "libr.so.1")
    root.put(f"{LIB}/libs.so.1", shared("libs.so.1"))
    root.link(f"{LIB}/libs.so.0", "libs.so.1")
    root.put(f"{LIB}/libtext.so", b"INPUT ( libs.so.1 )\n")
    root.put("usr/lib/libs.so.1", shared("libs.so.1", mark="further down"))
    root.put("opt/x/libx.so.1", shared("libx.so.1", mark="x"))
    root.put("opt/y/libx.so.1", shared("libx.so.1", mark="y"))
    root.put("opt/y/libe.so.1", shared("libe.so.1", mark="y"))
    root.link("opt/y/libfar.so.1", "/opt/far/libfar.so.1")
    root.put("opt/far/libfar.so.1", shared("libfar.so.1"))
    root.put("opt/old/libold.so.1", shared("libold.so.1"))
    root.link("opt/y/libgone.so.1", "libgone.so.1.2")
    theirs = made_by_ldconfig(root)
    # The first of a name is the one the linker finds; the others are in their list only.
    first = list({name: (name, path) for name, path in reversed(theirs)}.values())[::-1]
    assert made_by_us(root) == first
    assert len(first) == len(TRICKY) + 5
    assert ("libe.so.1", "opt/y/libe.so.1") in first


def test_what_is_no_library_by_name_is_listed_after_all_and_does_no_harm(tmp_path: Path) -> None:
    root = Root(tmp_path)
    for name in ("libm.so.1", "module.so", "libz.so.1"):
        root.put(f"{LIB}/{name}", shared(name))
    theirs = made_by_ldconfig(root)
    ours = made_by_us(root)
    assert len(ours) == 3
    assert [pair for pair in ours if pair[0] != "module.so"] == theirs


@settings(max_examples=25, deadline=None)
@given(st.sets(NAMES, min_size=2, max_size=12))
def test_any_names_are_in_the_order_of_ldconfig(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Root(Path(folder))
        for name in sorted(names):
            root.put(f"{LIB}/{name}", shared(""))
        theirs = made_by_ldconfig(root)
        assert {name for name, _ in theirs} == names
        assert made_by_us(root) == theirs


def test_the_linker_finds_every_name_of_our_cache(tmp_path: Path) -> None:
    names = [name for name in TRICKY if name.isascii()]
    root = Root(tmp_path)
    root.put("etc/ld.so.conf.d/far.conf", b"/opt/far\n")
    for name in names:
        root.put(f"opt/far/{name}", shared(name))
    root.put("app", program(names))
    made_by_us(root)
    found, complaints = root.traced("app")
    assert found == {name: f"/opt/far/{name}" for name in names}, complaints


# The order itself, as glibc's elf/dl-cache.c has it.


def compare(one: str, other: str) -> int:
    """-1, 0 or 1."""
    found = _compare((one, "x"), (other, "y"))
    return (found > 0) - (found < 0)


@pytest.mark.parametrize(
    ("less", "greater"),
    [
        ("libfoo.so.9", "libfoo.so.10"),
        ("libfoo.so", "libfoo.so.1"),
        ("libfoo.so.1", "libfoo.so.1.0"),
        ("libfoo.so.1.9", "libfoo.so.1.10"),
        ("libfoo.so.2", "libfoo2.so.1"),
        ("libfoo.so", "libfoo1.so"),
        ("libfoo-b.so", "libfoo-1.so"),
        ("libfooz.so", "libfoo1.so"),
        ("libFoo.so", "libfoo.so"),
        ("lib\u00e9.so", "liba.so"),
        ("", "a"),
    ],
)
def test_numbers_count_by_value_and_come_after_letters(less: str, greater: str) -> None:
    assert compare(less, greater) == -1
    assert compare(greater, less) == 1


def test_numbers_of_equal_value_are_equal() -> None:
    assert compare("libfoo.so.010", "libfoo.so.10") == 0
    assert compare("libfoo.so.010.2", "libfoo.so.10.1") == 1


ANY = st.text(alphabet="ab.19_\u00e9-", max_size=12)


@given(st.lists(ANY, min_size=3, max_size=3))
def test_the_order_is_a_strict_weak_one(names: Sequence[str]) -> None:
    one, two, three = names
    assert compare(one, one) == 0
    assert compare(one, two) == -compare(two, one)
    if compare(one, two) <= 0 and compare(two, three) <= 0:
        assert compare(one, three) <= 0
        # Equal ones are equal to all others alike.
        assert (compare(one, three) == 0) == (compare(one, two) == compare(two, three) == 0)


@given(st.sets(st.text(alphabet="ab._\u00e9-", min_size=1, max_size=8), max_size=8))
def test_the_order_in_which_libraries_are_given_changes_no_byte(names: set[str]) -> None:
    libraries = [(name, f"usr/lib/{name}") for name in names]
    assert cache_bytes(libraries) == cache_bytes(reversed(libraries))
    assert cache_bytes(libraries) == cache_bytes(sorted(libraries))
