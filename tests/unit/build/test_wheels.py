"""Several wheels in one layer: which they are, where it goes, and that it holds what all hold."""

from __future__ import annotations

import hashlib
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plinth.build.plan import grouped, title
from plinth.build.wheels import WheelFile
from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.wheel.splice import WheelSource, splice
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from support.helpers import make_wheel

SITE = "opt/python/lib/python3.7/site-packages"
Entry = tuple[bytes, int, tuple[int, int], bytes | None]
SIZES = st.lists(st.integers(0, 9) | st.integers(0, 10**9), min_size=1, max_size=40)


def wheel(number: int, size: int, version: str = "1.0") -> LockedPackage:
    name = f"w{number:03}"
    content = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    file = LockedFile(f"{name}-{version}-py3-none-any.whl", Digest(content, size), "1970")
    return LockedPackage(name, version, file, is_sdist=False)


def wheels(*sizes: int) -> list[LockedPackage]:
    return [wheel(number, size) for number, size in enumerate(sizes)]


def names(groups: list[tuple[LockedPackage, ...]]) -> list[str]:
    return [" ".join(one.name for one in group) for group in groups]


def test_where_there_is_room_each_wheel_is_alone() -> None:
    assert names(grouped(wheels(3, 1, 2), 3)) == ["w000", "w001", "w002"]
    assert grouped([], 3) == []


def test_the_smallest_share_a_layer_at_the_place_of_the_last_of_them() -> None:
    found = grouped(wheels(50, 1, 60, 2, 70, 3, 80), 5)
    assert names(found) == ["w000", "w002", "w004", "w001 w003 w005", "w006"]
    assert names(grouped(wheels(1, 1, 60, 70), 3)) == ["w000 w001", "w002", "w003"]
    assert names(grouped(wheels(60, 70, 1, 1), 3)) == ["w000", "w001", "w002 w003"]


def test_with_room_for_one_layer_all_share_it() -> None:
    assert names(grouped(wheels(3, 1, 2), 1)) == ["w000 w001 w002"]


@given(SIZES, st.integers(1, 45))
def test_each_wheel_is_there_once_and_in_order(sizes: list[int], room: int) -> None:
    given_wheels = wheels(*sizes)
    found = grouped(given_wheels, room)
    # No layer is given away, and none is taken that is not there.
    assert len(found) == min(room, len(given_wheels))
    assert sorted(one.name for group in found for one in group) == [w.name for w in given_wheels]
    for group in found:
        assert list(group) == sorted(group, key=given_wheels.index)
    last = [given_wheels.index(group[-1]) for group in found]
    assert last == sorted(last)


@given(SIZES, st.integers(1, 45))
def test_none_that_shares_is_larger_than_one_that_does_not(sizes: list[int], room: int) -> None:
    found = grouped(wheels(*sizes), room)
    together = [group for group in found if len(group) > 1]
    assert len(together) == (1 if len(sizes) > room else 0)
    alone = [group[0].file.digest.size for group in found if len(group) == 1]
    for group in together:
        assert all(one.file.digest.size <= size for one in group for size in alone)


@given(SIZES, st.integers(1, 45), st.randoms(use_true_random=False))
def test_who_shares_does_not_depend_on_the_order(
    sizes: list[int], room: int, chance: random.Random
) -> None:
    one = wheels(*sizes)
    other = one.copy()
    chance.shuffle(other)
    assert {frozenset(g) for g in grouped(one, room)} == {
        frozenset(g) for g in grouped(other, room)
    }


@given(st.data())
def test_a_large_wheel_that_changes_changes_its_own_layer_only(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 1000), min_size=2, max_size=30))
    room = data.draw(st.integers(2, len(sizes)))
    before = grouped(wheels(*sizes), room)
    alone = data.draw(st.sampled_from([group[0] for group in before if len(group) == 1]))
    largest = max(
        (w.file.digest.size for group in before if len(group) > 1 for w in group), default=-1
    )
    number = int(alone.name[1:])
    bumped = wheel(number, data.draw(st.integers(largest + 1, 2000)), "2.0")
    after = grouped(
        [bumped if one.name == alone.name else one for one in wheels(*sizes)],
        room,
    )
    assert after == [(bumped,) if group == (alone,) else group for group in before]


def stored(cache: BlobStore, path: Path) -> WheelFile:
    name, version = path.name.split("-")[:2]
    return WheelFile(name, version, path.name, cache.put_file(path))


def spliced(cache: BlobStore, layers: BlobStore, *files: WheelFile) -> tuple[Layer, list[str]]:
    sources = [WheelSource(cache.path(file.digest), file.filename) for file in files]
    layer = splice(layers, sources, "3.7", None)
    return layer, list(tree(layers, layer))


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
        union.update(tree(layers, spliced(cache, layers, one)[0]))
    layer, paths = spliced(cache, layers, *three)
    found = tree(layers, layer)
    assert found == union
    assert found["opt/python/bin/run"][1] == 0o755
    assert found[f"{SITE}/space/c.py"][3] == b"y = 2\n" * 99
    assert title(three) == "a 1.0 and 2 more"
    # Each folder comes before what is in it, though three wheels share it.
    for number, path in enumerate(paths):
        parent = path.rpartition("/")[0]
        assert not parent or parent in paths[:number]


def test_the_bytes_depend_on_the_wheels_and_their_order_alone(
    tmp_path: Path, cache: BlobStore, layers: BlobStore, three: list[WheelFile]
) -> None:
    first, _ = spliced(cache, layers, *three)
    other = BlobStore(tmp_path / "elsewhere")
    assert spliced(cache, other, *three)[0] == first
    turned, _ = spliced(cache, other, *reversed(three))
    assert turned.digest != first.digest
    assert tree(other, turned) == tree(layers, first)


def test_of_wheels_with_one_file_the_last_in_order_has_its_own_there(
    tmp_path: Path, cache: BlobStore, layers: BlobStore
) -> None:
    names = ("a", "b")
    made = [
        stored(cache, make_wheel(tmp_path, {"shared.py": name.encode()}, name=name))
        for name in names
    ]
    sources = [WheelSource(cache.path(one.digest), one.filename) for one in made]
    for order in (names, names[::-1]):
        layer = splice(layers, sources, "3.7", None, order)
        with tarfile.open(layers.path(layer.digest)) as tar:
            assert tar.getnames().count(f"{SITE}/shared.py") == 1
            stream = tar.extractfile(f"{SITE}/shared.py")
            assert stream is not None
            assert stream.read() == order[-1].encode()
        assert layer.files is not None
        assert [name for name, _ in layer.files[f"{SITE}/shared.py"]] == list(order)


def test_a_file_where_another_wheel_has_a_folder_is_refused(
    tmp_path: Path, cache: BlobStore, layers: BlobStore
) -> None:
    one = stored(cache, make_wheel(tmp_path, {"shared/x.py": b""}, name="a"))
    two = stored(cache, make_wheel(tmp_path, {"shared": b"a file"}, name="b"))
    for pair in ((one, two), (two, one)):
        with pytest.raises(LayoutError, match="same path") as raised:
            spliced(cache, layers, *pair)
        assert raised.value.where == f"{SITE}/shared"
