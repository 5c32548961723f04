"""For every wheel of every lock: the layer's tree is what pip's own `install --no-deps` makes.

Stated exceptions: bytecode (pip is asked for none; ours is checked to be listed in RECORD), and
nothing else. pip runs in the base's own system, under the target interpreter.
"""

from __future__ import annotations

import csv
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.conftest import SETS, Checkout, build
from plinth.build.sdists import cached_wheel
from plinth.build.wheels import WheelFile, cached_wheel_layer
from plinth.core.report import quiet
from plinth.core.store import LAYER, PART
from plinth.formats.python.place import Base
from plinth.graph import sandbox
from plinth.graph.unpack import sandbox_root
from plinth.recipe.base import load_base
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.locks.stale import check
from support.bases import known_base

BASE = "debian12-py37"
DRIVER = """
import logging, os, sys
sys.path.insert(0, sys.argv[1])
from pip._internal.cli.main import main
def install(items):
    for item in items:
        out, requirement = item.split("|")
        code = main(["install", "--quiet", "--no-deps", "--no-index", "--no-compile",
                     "--no-warn-script-location", "--disable-pip-version-check", "--no-cache-dir",
                     "--ignore-installed", "--find-links", "/work/wheels", "--root", out,
                     requirement])
        assert code == 0, requirement
children = []
for number in range(2):
    child = os.fork()
    if not child:
        try:
            install(sys.argv[2 + number::2])
        except BaseException:
            logging.exception("pip")
            os._exit(1)
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""

Tree = dict[str, tuple[str, int, bytes]]


def wheel_of(built: Checkout, base: Base, package: LockedPackage) -> WheelFile:
    if not package.is_sdist:
        return WheelFile(package.name, package.version, package.file.name, package.file.digest)
    settings = load_base(built.ws.bases, BASE).sdists.get(package.name)
    wheel = cached_wheel(built.ws, package, base, settings.environment if settings else {})
    assert wheel is not None
    return wheel


def installed(root: Path) -> Tree:
    tree: Tree = {}
    for path in root.rglob("*"):
        name, mode = path.relative_to(root).as_posix(), path.stat().st_mode & 0o7777
        kind = "directory" if path.is_dir() else "file"
        tree[name] = (kind, mode, b"" if path.is_dir() else path.read_bytes())
    return tree


def layer_tree(path: Path) -> Tree:
    tree: Tree = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            kind = "directory" if member.isdir() else "file"
            assert kind == "directory" or member.isfile()
            assert (member.mtime, member.uname, member.gname) == (0, "", "")
            in_prefix = member.name.startswith("opt/python")
            assert (member.uid, member.gid) == ((1000, 1000) if in_prefix else (0, 0))
            tree[member.name] = (kind, member.mode, stream.read() if stream else b"")
    return tree


def without_bytecode(tree: Tree) -> Tree:
    """The tree without .pyc files, the folders that hold nothing else, and RECORD's rows."""
    kept: Tree = {}
    for path, (kind, mode, data) in tree.items():
        if path.endswith(".pyc") or (kind == "directory" and path.endswith("/__pycache__")):
            continue
        if path.endswith(".dist-info/RECORD"):
            rows = data.decode().splitlines(keepends=True)
            listed = {row[0] for row in csv.reader(rows) if row[0].endswith(".pyc")}
            library = path.rsplit("/", 2)[0]
            there = {name for name in tree if name.endswith(".pyc")}
            assert {f"{library}/{name}" for name in listed} == there
            data = "".join(row for row in rows if ".pyc," not in row).encode()
        kept[path] = (kind, mode, data)
    return kept


@pytest.mark.network
@pytest.mark.parametrize("images", SETS)
def test_every_layer_is_what_pip_installs(images: Sequence[str], tmp_path: Path) -> None:
    built = build(*images)
    base = known_base(built.ws, BASE)
    assert base is not None
    tmp_path.chmod(0o755)
    (tmp_path / "wheels").mkdir()
    wheels = {
        wheel.digest: wheel
        for image_id in images
        for package in check(built.ws, image_id).packages
        for wheel in [wheel_of(built, base, package)]
    }.values()
    for wheel in wheels:
        shutil.copyfile(built.ws.cache.path(wheel.digest), tmp_path / "wheels" / wheel.filename)
    (tmp_path / "driver.py").write_text(DRIVER)
    (pip,) = {wheel.filename for wheel in wheels if wheel.name == "pip"}
    sandbox.run(
        sandbox_root(built.ws, base.layers),
        [
            "/opt/python/bin/python3.7",
            "/work/driver.py",
            f"/work/wheels/{pip}",
            *(f"/work/out/{wheel.digest.hex}|{wheel.name}=={wheel.version}" for wheel in wheels),
        ],
        writable=tmp_path,
        results=("out",),
        what="pip, the oracle",
        progress=quiet,
        # All wheels of the catalogue, unpacked.
        limits=sandbox.Limits(disk=64 << 30),
    )
    assert len(wheels) > 40
    for wheel in wheels:
        layer = next(
            filter(
                None,
                (cached_wheel_layer(built.ws, wheel, base.python, one) for one in (LAYER, PART)),
            )
        )
        ours = without_bytecode(layer_tree(built.ws.stores.path(layer.digest)))
        pips = installed(tmp_path / "out" / wheel.digest.hex)
        assert sorted(ours) == sorted(pips), wheel.filename
        assert ours == pips, wheel.filename
        # The largest unpack to more than a gigabyte.
        shutil.rmtree(tmp_path / "out" / wheel.digest.hex)
