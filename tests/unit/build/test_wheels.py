"""Several wheels in one layer: which they are, where it goes, and that it holds what all hold."""

from __future__ import annotations

import gzip
import hashlib
import random
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from gzip import decompress as gunzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plinth.build.plan import grouped, title
from plinth.build.wheels import WheelFile
from plinth.core.digest import Digest
from plinth.core.errors import LayoutError, PlinthError
from plinth.core.store import BlobStore
from plinth.formats.gzip import MEMBER
from plinth.formats.layer.model import Layer
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.group import group
from plinth.formats.wheel.splice import splice
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from support.helpers import make_wheel

SITE = "opt/python/lib/python3.7/site-packages"
Entry = tuple[bytes, int, tuple[int, int], bytes | None]
SIZES = st.lists(st.integers(0, 9) | st.integers(0, 10**9), min_size=1, max_size=40)
LARGE = random.Random(1).randbytes(2_100_000) * 2  # noqa: S311


def wheel(
    name: str, size: int = 1, *needs: str, version: str = "1.0", base: bool = False
) -> LockedPackage:
    content = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    file = LockedFile(f"{name}-{version}-py3-none-any.whl", Digest(content, size), "1970")
    return LockedPackage(name, version, file, is_sdist=False, from_base=base, dependencies=needs)


def numbered(sizes: Sequence[int]) -> list[LockedPackage]:
    return [wheel(f"w{number:03}", size) for number, size in enumerate(sizes)]


def names(groups: list[tuple[LockedPackage, ...]]) -> list[str]:
    return [" ".join(one.name for one in group) for group in groups]


BIG = 8_000_000
MATRIX = [
    wheel("a-tool"),
    wheel("flask", BIG, "werkzeug"),
    wheel("learn", 3 * BIG, "numpy", "science"),
    wheel("numpy", BIG),
    wheel("science", 2 * BIG, "numpy"),
    wheel("server", 1, "flask", base=True),
    wheel("werkzeug"),
    wheel("z-tool", BIG - 1),
]


def test_the_server_is_one_layer_large_wheels_are_alone_and_the_others_are_together() -> None:
    found = names(grouped(MATRIX, MATRIX, 20))
    assert found == ["server flask werkzeug", "numpy", "science", "learn", "a-tool z-tool"]
    assert grouped([], [], 3) == []


def test_what_is_asked_for_names_the_layer() -> None:
    tool = replace(MATRIX[-1], direct=True)
    assert names(grouped([*MATRIX[:-1], tool], MATRIX, 20))[-1] == "z-tool a-tool"


def test_where_there_is_no_room_the_smallest_of_the_large_are_with_the_others() -> None:
    assert names(grouped(MATRIX, MATRIX, 4)) == [
        "server flask werkzeug",
        "science",
        "learn",
        "a-tool numpy z-tool",
    ]
    for room in (2, 1, 0):
        assert names(grouped(MATRIX, MATRIX, room)) == [
            "server flask werkzeug",
            "a-tool learn numpy science z-tool",
        ]


@given(SIZES, st.integers(2, 45), st.randoms(use_true_random=False))
def test_each_wheel_is_there_once_whatever_order_they_come_in(
    sizes: list[int], room: int, chance: random.Random
) -> None:
    one = numbered(sizes)
    found = grouped(one, one, room)
    assert len(found) <= room
    assert sorted(names(found)) == sorted(set(names(found)))
    assert sorted(part.name for group in found for part in group) == [part.name for part in one]
    chance.shuffle(one)
    assert grouped(one, one, room) == found


@given(SIZES, st.integers(2, 45))
def test_none_that_shares_is_larger_than_one_that_does_not(sizes: list[int], room: int) -> None:
    found = grouped(numbered(sizes), (), room)
    alone = [several[0].file.digest.size for several in found if len(several) == 1]
    for several in found:
        if len(several) > 1:
            assert all(one.file.digest.size <= size for one in several for size in alone)


def test_a_wheel_that_changes_changes_its_own_layer_only() -> None:
    before = grouped(MATRIX, MATRIX, 20)
    for one in MATRIX:
        bumped = replace(one, version="2.0")
        after = [bumped if other == one else other for other in MATRIX]
        changed = [
            (old, new)
            for old, new in zip(before, grouped(after, after, 20), strict=True)
            if old != new
        ]
        assert len(changed) == 1
        assert one in changed[0][0]
        assert bumped in changed[0][1]


def stored(cache: BlobStore, path: Path) -> WheelFile:
    name, version = path.name.split("-")[:2]
    return WheelFile(name, version, path.name, cache.put_file(path))


def part(cache: BlobStore, file: WheelFile, without: Sequence[str] = ()) -> Layer:
    path = cache.path(file.digest)
    return splice(cache, path, file.filename, "3.7", None, without)


def joined(cache: BlobStore, layers: BlobStore, *files: WheelFile) -> Layer:
    return group(layers, [cache.path(part(cache, file).digest) for file in files])


def tree(layers: BlobStore, layer: Layer) -> dict[str, Entry]:
    """What a layer holds, in the layer's order."""
    found: dict[str, Entry] = {}
    with tarfile.open(layers.path(layer.digest)) as tar:
        for member in tar:
            assert member.name not in found
            stream = tar.extractfile(member)
            content = stream.read() if stream else None
            found[member.name] = (member.type, member.mode, (member.uid, member.gid), content)
    return found


@pytest.fixture
def cache(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "cache")


@pytest.fixture
def layers(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "layers")


@pytest.fixture
def three(tmp_path: Path, cache: BlobStore) -> list[WheelFile]:
    """Wheels of one namespace, one of them with scripts and data."""
    paths = [
        make_wheel(tmp_path, {"space/a/__init__.py": b"x = 1\n", "a.py": b""}, name="a"),
        make_wheel(
            tmp_path,
            {
                "space/b/data.bin": bytes(range(256)) * 50,
                "space/b/large.bin": LARGE,
                "b-1.0.data/scripts/run": b"#!python\n",
                "b-1.0.dist-info/entry_points.txt": b"[console_scripts]\nb = space.b:main\n",
            },
            name="b",
            modes={"b-1.0.data/scripts/run": 0o100755},
        ),
        make_wheel(tmp_path, {"space/c.py": b"y = 2\n" * 99}, name="c"),
    ]
    return [stored(cache, path) for path in paths]


def test_a_layer_of_several_holds_what_theirs_hold(
    cache: BlobStore, layers: BlobStore, three: list[WheelFile]
) -> None:
    union: dict[str, Entry] = {}
    for one in three:
        union.update(tree(cache, part(cache, one)))
    layer = joined(cache, layers, *three)
    found = tree(layers, layer)
    assert found == union
    assert found["opt/python/bin/run"][1] == 0o755
    assert found[f"{SITE}/space/c.py"][3] == b"y = 2\n" * 99
    assert found[f"{SITE}/space/b/large.bin"][3] == LARGE
    assert title(three) == "a 1.0 and 2 more"
    # Each folder comes before what is in it, though three wheels share it.
    paths = list(found)
    for number, path in enumerate(paths):
        parent = path.rpartition("/")[0]
        assert not parent or parent in paths[:number]
    # A large file is the wheel's own deflate stream.
    with zipfile.ZipFile(cache.path(three[1].digest)) as archive:
        info = archive.getinfo("space/b/large.bin")
    with WheelArchive(cache.path(three[1].digest), three[1].filename) as wheel:
        assert bytes(wheel.raw(info)) in layers.path(layer.digest).read_bytes()
    assert layer.diff_id == Digest.of(gunzip(layers.path(layer.digest).read_bytes())).hex


def test_the_bytes_depend_on_the_wheels_and_their_order_alone(
    tmp_path: Path, cache: BlobStore, layers: BlobStore, three: list[WheelFile]
) -> None:
    first = joined(cache, layers, *three)
    other = BlobStore(tmp_path / "elsewhere")
    assert joined(cache, other, *three) == first
    turned = joined(cache, other, *reversed(three))
    assert turned.digest != first.digest
    assert tree(other, turned) == tree(layers, first)


def test_a_path_that_two_wheels_have_is_refused(
    tmp_path: Path, cache: BlobStore, layers: BlobStore
) -> None:
    one = stored(cache, make_wheel(tmp_path, {"shared/x.py": b""}, name="a"))
    for files in ({"shared": b"a file"}, {"shared/x.py": b"another"}):
        two = stored(cache, make_wheel(tmp_path, files, name="b"))
        for pair in ((one, two), (two, one)):
            with pytest.raises(LayoutError, match="same path") as raised:
                joined(cache, layers, *pair)
            assert raised.value.where == f"{SITE}/{next(iter(files))}"
    assert list(layers.blobs.iterdir()) == []
    parts = [part(cache, one), part(cache, two, [f"{SITE}/shared/x.py"])]
    found = tree(layers, group(layers, [cache.path(one.digest) for one in parts]))
    assert found[f"{SITE}/shared/x.py"][3] == b""


def test_what_is_no_layer_of_a_wheel_is_not_joined(
    tmp_path: Path, cache: BlobStore, layers: BlobStore, three: list[WheelFile]
) -> None:
    sound = cache.path(part(cache, three[0]).digest).read_bytes()
    begins = [at for at in range(len(sound)) if sound.startswith(MEMBER, at)]
    whole = gunzip(sound)
    for name, data in {
        "one member": gzip.compress(whole),
        "no end": sound[: begins[-1]],
        "an end twice": sound + sound[begins[-1] :],
        "cut": sound[:-20],
        "not gzip": whole,
        "nothing": b"",
        "files first": sound[begins[1] :],
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(PlinthError):
            group(layers, [path, cache.path(part(cache, three[2]).digest)])
        assert list(layers.blobs.iterdir()) == [], name
