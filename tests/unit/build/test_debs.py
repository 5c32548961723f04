"""Debian packages on top of a base: which share a layer, what is in it, and when it is made."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from plinth.build.debs import lacking, package_layers
from plinth.core.errors import FetchError, PackageError
from plinth.fetch.apt.sources import Source
from plinth.fetch.debs import Places
from plinth.formats.layer.header import DOCKERUSER, ROOT, SHARED
from plinth.formats.layer.model import Layer
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.base import LockedDeb
from support.debs import Package, make_deb, symlink
from support.http_server import serving
from support.sessions import session_of

AGAIN = "lock again"
SMALL = {
    "aa": Package("aa", files={"usr/lib/libaa.so.1": b"a"}, compression=""),
    "mm": Package("mm", version="2:3.0-1", files={"usr/bin/mm": b"m"}, compression=""),
    "zz": Package("zz", files={"usr/lib/libzz.so.1": b"z"}, compression=""),
}
# Large is what takes 8 MB to download.
BIG = Package("big", files={"usr/lib/libbig.so.1": bytes(8_000_000)}, compression="")
HUGE = Package("huge", files={"usr/lib/libhuge.so.1": bytes(8_100_000)}, compression="")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


def asked_nobody() -> NoReturn:
    raise AssertionError("no archive is needed")


def held(ws: Workspace, *packages: Package) -> list[LockedDeb]:
    """The packages, in the store, as a lock names them."""
    found = []
    for package in packages:
        digest = ws.cache.put_file(make_deb(ws.root, package))
        found.append(
            LockedDeb(
                package.name,
                package.version,
                package.architecture,
                "stable",
                package.path(),
                digest,
            )
        )
    return found


def made(
    ws: Workspace, packages: Sequence[LockedDeb], said: list[str] | None = None
) -> list[Layer]:
    told = [] if said is None else said
    return package_layers(session_of(ws), packages, asked_nobody, told.append, again=AGAIN)


def tree(ws: Workspace, layer: Layer) -> dict[str, tuple[int, bytes | str]]:
    found: dict[str, tuple[int, bytes | str]] = {}
    with tarfile.open(ws.layout.path(layer.digest)) as tar:
        for member in tar:
            assert member.name not in found
            shared = (0o1775, SHARED) if member.name == "var" else (member.mode, ROOT)
            assert (member.mode, (member.uid, member.gid)) == shared
            stream = tar.extractfile(member) if member.isreg() else None
            found[member.name] = (member.mode, stream.read() if stream else member.linkname)
    return found


def test_large_packages_are_alone_and_small_ones_together(ws: Workspace) -> None:
    packages = held(ws, HUGE, SMALL["zz"], BIG, SMALL["aa"], SMALL["mm"])
    layers = made(ws, packages)
    assert [layer.name for layer in layers] == [
        "3 OS packages, aa to zz",
        "big 1.0",
        "huge 1.0",
    ]
    assert all(layer.built for layer in layers)
    objects = [
        [path for path in tree(ws, layer) if path.startswith(("usr/lib/lib", "usr/bin/"))]
        for layer in layers
    ]
    assert objects == [
        ["usr/bin/mm", "usr/lib/libaa.so.1", "usr/lib/libzz.so.1"],
        ["usr/lib/libbig.so.1"],
        ["usr/lib/libhuge.so.1"],
    ]


def test_no_package_needs_no_layer(ws: Workspace) -> None:
    assert made(ws, []) == []


def test_one_small_package_has_its_own_name(ws: Workspace) -> None:
    assert [layer.name for layer in made(ws, held(ws, SMALL["mm"]))] == ["mm 2:3.0-1"]


def test_the_bytes_of_a_layer_are_fixed(ws: Workspace) -> None:
    (layer,) = made(ws, held(ws, SMALL["aa"], SMALL["zz"]))
    assert layer.diff_id == "f49cb939aa8236ee01b410bbf7a1056b166a7e18579204b3bb0c17941c2160b6"
    assert layer.digest.hex == "c31b62ee32700ca745a34826f65c7a0379b309e946128fbf1ab52a235a79fbc9"


def test_the_order_of_the_packages_changes_nothing(ws: Workspace, tmp_path: Path) -> None:
    packages = held(ws, *SMALL.values())
    first = made(ws, packages)
    for number, order in enumerate(itertools.permutations(packages)):
        other = Workspace(tmp_path, tmp_path / f"build-{number}")
        held(other, *SMALL.values())
        assert [(one.name, one.digest) for one in made(other, order)] == [
            (one.name, one.digest) for one in first
        ]


def test_the_files_of_a_layer(ws: Workspace) -> None:
    package = Package(
        "demo",
        files={
            "lib/x86_64-linux-gnu/libdemo.so.1": b"\x7fdemo",
            "usr/lib/libdemo.so": symlink("usr/lib/libdemo.so", "libdemo.so.1"),
            "usr/share/doc/demo/changelog": b"much",
            "usr/share/doc/demo/copyright": b"(c)\n",
            "usr/share/man/man1/demo.1": b"much",
        },
    )
    (layer,) = made(ws, held(ws, package))
    found = tree(ws, layer)
    # In a base with a merged /usr a folder /lib would hide the link of that name.
    assert "lib" not in found
    assert found["usr/lib/x86_64-linux-gnu/libdemo.so.1"] == (0o644, b"\x7fdemo")
    assert found["usr/lib/libdemo.so"] == (0o777, "libdemo.so.1")
    assert found["usr/share/doc/demo/copyright"] == (0o644, b"(c)\n")
    assert not {"usr/share/doc/demo/changelog", "usr/share/man/man1/demo.1"} & set(found)
    # For scanners, as distroless images have them.
    control = "".join(f"{key}: {value}\n" for key, value in package.control.items())
    assert found["var/lib/dpkg/status.d/demo"] == (0o644, control.encode())
    assert found["var/lib/dpkg/status.d/demo.md5sums"] == (0o644, package.md5sums.encode())
    paths = list(found)
    assert paths == sorted(paths)
    for path in paths:
        assert "/" not in path or path.rpartition("/")[0] in found


def test_another_large_package_leaves_the_other_layers_as_they_are(ws: Workspace) -> None:
    small = held(ws, *SMALL.values())
    before = made(ws, [*small, *held(ws, BIG)])
    newer = Package("big", version="2.0", files=BIG.files, compression="")
    after = made(ws, [*small, *held(ws, newer, HUGE)])
    assert [(layer.name, layer.built) for layer in after] == [
        ("3 OS packages, aa to zz", False),
        ("big 2.0", True),
        ("huge 1.0", True),
    ]
    assert after[0].digest == before[0].digest
    assert after[1].digest != before[1].digest


def test_a_second_time_nothing_is_made_and_no_package_read(ws: Workspace) -> None:
    packages = held(ws, *SMALL.values())
    said: list[str] = []
    (first,) = made(ws, packages, said)
    assert said == ["building the layer of 3 OS packages, aa to zz"]
    for package in packages:
        ws.cache.path(package.digest).unlink()
    (again,) = made(ws, packages, said)
    assert again == Layer(first.name, first.digest, first.diff_id, first.uncompressed, built=False)
    assert len(said) == 1


def test_which_packages_lack_a_layer(ws: Workspace) -> None:
    packages = held(ws, *SMALL.values(), BIG)
    assert lacking(ws, packages) == packages
    made(ws, packages[:3])
    assert lacking(ws, packages) == packages[3:]
    # Another one in the common layer makes that another layer.
    assert lacking(ws, packages[:2]) == packages[:2]
    made(ws, packages)
    assert lacking(ws, packages) == []


def test_two_packages_with_one_file_are_refused(ws: Workspace) -> None:
    one = Package("one", files={"usr/bin/tool": b"1"})
    two = Package("two", files={"bin/tool": b"2"})
    with pytest.raises(PackageError) as raised:
        made(ws, held(ws, two, one))
    assert raised.value.what == "two and one both hold a file"
    assert raised.value.where == "usr/bin/tool"
    assert "leave one of the packages out" in raised.value.remedy
    assert [path for path in ws.layout.root.rglob("*") if path.is_file()] == []


def test_a_malformed_package_is_named(ws: Workspace) -> None:
    (package,) = held(ws, SMALL["mm"])
    # As its lock has it: one that is not is deleted, and fetched again.
    package = replace(package, digest=ws.cache.put(b"!<arch>\n".ljust(100)))
    with pytest.raises(PackageError) as raised:
        made(ws, [package])
    assert str(raised.value) == "mm_3.0-1_amd64.deb: damaged ar header"
    assert lacking(ws, [package]) == [package]


def test_a_package_that_rotted_is_fetched_again(ws: Workspace, tmp_path: Path) -> None:
    (package,) = held(ws, SMALL["mm"])
    place = tmp_path / "archive" / package.path
    place.parent.mkdir(parents=True)
    sound = ws.cache.path(package.digest).read_bytes()
    place.write_bytes(sound)
    # Of the same size; and by a process that has not hashed it yet.
    again = Workspace(ws.root, ws.build)
    again.cache.path(package.digest).write_bytes(b"!<arch>\n".ljust(len(sound)))
    with serving(tmp_path / "archive") as server:
        sources = Places.of([Source(server.url, "stable")])
        (layer,) = package_layers(
            session_of(again), [package], lambda: sources, lambda _: None, again=AGAIN
        )
    assert len(server.asked) == 1
    assert tree(again, layer)["usr/bin/mm"][1] == b"m"
    assert again.cache.path(package.digest).read_bytes() == sound


def test_packages_are_fetched_by_their_place_in_the_pool(ws: Workspace, tmp_path: Path) -> None:
    packages = held(ws, SMALL["aa"], SMALL["mm"])
    missing = packages[1]
    place = tmp_path / "archive" / missing.path
    place.parent.mkdir(parents=True)
    ws.cache.path(missing.digest).rename(place)
    said: list[str] = []
    with serving(tmp_path / "archive") as server:
        sources = Places.of([Source(server.url, "other"), Source(server.url, "stable")])
        (layer,) = package_layers(
            session_of(ws), packages, lambda: sources, said.append, again=AGAIN
        )
    assert server.asked == ["GET /pool/main/m/mm/mm_3.0-1_amd64.deb"]
    assert said[0].startswith("fetching 1 Debian packages, ")
    assert tree(ws, layer)["usr/bin/mm"][1] == b"m"


def test_a_package_the_archive_dropped_is_one_error(ws: Workspace, tmp_path: Path) -> None:
    (package,) = held(ws, SMALL["mm"])
    ws.cache.path(package.digest).unlink()
    with serving(tmp_path) as server, pytest.raises(FetchError) as raised:
        package_layers(
            session_of(ws),
            [package],
            lambda: Places.of([Source(server.url, "stable")]),
            lambda _: None,
            again=AGAIN,
        )
    assert raised.value.what == "the archive has no such file any more"
    assert raised.value.where == "mm 2:3.0-1"
    assert "archives drop old versions: lock again" in raised.value.remedy
    assert "apt.stable" in raised.value.remedy


def test_folders_of_the_contract_stay_as_they_are(ws: Workspace) -> None:
    files = {"var/log/app/x": b"", "run/app/x": b"", "var/lib/app/x": b""}
    (layer,) = made(ws, held(ws, Package("app", files=files, compression="")))
    with tarfile.open(ws.layout.path(layer.digest)) as tar:
        found = {one.name: (one.mode, (one.uid, one.gid)) for one in tar if one.isdir()}
    assert found.pop("var") == (0o1775, SHARED)
    for path in ("run", "var/log"):
        assert found.pop(path) == (0o755, DOCKERUSER)
    assert {"run/app", "var/lib", "var/lib/app", "var/log/app"} < set(found)
    assert set(found.values()) == {(0o755, ROOT)}
