"""The recipe of an image: the files that decide it, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LockError, PlinthError, SpecError, StaleLockError
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.files import write_sources
from plinth.recipe.ids import files_of
from plinth.recipe.locks.accelerator import AcceleratorLock, inputs_of, write_lock
from plinth.recipe.locks.base import Local, write_local
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from plinth.recipe.locks.stale import read_image
from plinth.recipe.materials import materials
from plinth.recipe.recipe import Recipe
from plinth.recipe.record import Record, write_record
from support.layer_files import locked_deb
from support.small_checkout import BASE, IMAGE, SmallCheckout, make, wheel

SET = "cuda1"
SET_TEXT = """\
kind = "accelerator"
label = "cuda1"
summary = "a set"
architecture = "amd64"
folders = ["/usr/lib/set"]
wheels = ["cudnn"]

[[archives]]
name = "debian"
suite = "bookworm"
keyring = "none"
packages = ["libset1"]
"""
OF_ALL = ["base/small.toml", "locks/base/small.toml"]
OWN = [f"images/{IMAGE}.toml", f"locks/{IMAGE}/pylock.toml", f"locks/{IMAGE}/requirements.txt"]


@pytest.fixture
def checkout(tmp_path: Path) -> SmallCheckout:
    """A checkout of two images, and of a third that extends one of them."""
    (tmp_path / "wheels").mkdir()
    wheels = [wheel(tmp_path / "wheels", "one", "1.0")]
    made = make(tmp_path / "checkout", wheels, images=(IMAGE, "another"))
    path = made.ws.images / "mine.toml"
    path.write_text(f'extends = "{IMAGE}"\nsummary = "a test"\n')
    made.lock(wheels, "mine")
    (made.ws.bases / f"{SET}.toml").write_text(SET_TEXT)
    return made


@pytest.fixture
def ws(checkout: SmallCheckout) -> Workspace:
    return checkout.ws


def lock_set(ws: Workspace, filename: str = "cudnn-1-py3-none-any.whl") -> None:
    """Lock the set to a package and the wheel `filename`."""
    cudnn = LockedPackage("cudnn", "1", LockedFile(filename, Digest.of(b"x"), "1970"), False)
    inputs = inputs_of(load_accelerator(ws.bases, SET))
    write_lock(ws, SET, AcceleratorLock((locked_deb("libset1", "1"),), (cudnn,), {}, inputs))


def files(recipe: Recipe) -> list[str]:
    """The files but for those of every image's contract."""
    assert "base/rootfs/var/runit/server/run" in recipe.files
    return [path for path in recipe.files if not path.startswith("base/rootfs/")]


def test_the_files_are_specifications_and_locks_by_name(ws: Workspace) -> None:
    recipe = Recipe.load(ws, IMAGE)
    assert files(recipe) == sorted([*OF_ALL, *OWN])
    assert all(data == (ws.root / path).read_bytes() for path, data in recipe.files.items())
    assert recipe.digests[OWN[0]] == Digest.of((ws.root / OWN[0]).read_bytes()).hex
    assert (recipe.parent, recipe.accelerator, recipe.note) == (None, None, "")


def test_the_files_of_the_extended_image_are_among_them(ws: Workspace) -> None:
    mine = [path.replace(IMAGE, "mine") for path in OWN]
    (ws.locks / "mine" / "os.toml").write_text("")
    recipe = Recipe.load(ws, "mine")
    assert files(recipe) == sorted([*OF_ALL, *OWN, *mine, "locks/mine/os.toml"])
    assert recipe.parent == read_image(ws, IMAGE)


def test_the_fallback_decides_too_as_it_bounds_the_libc(ws: Workspace) -> None:
    text = (ws.bases / f"{BASE}.toml").read_text()
    (ws.bases / "lower.toml").write_text(text)
    (ws.bases / f"{BASE}.toml").write_text(f'fallback = "lower"\n{text}')
    (ws.locks / "base" / "lower.toml").write_bytes((ws.root / OF_ALL[1]).read_bytes())
    # Where it was not built yet, on what can be built anywhere.
    recipe = Recipe.load(ws, IMAGE)
    assert recipe.base.name == "lower"
    assert files(recipe) == sorted(["base/lower.toml", "locks/base/lower.toml", OF_ALL[0], *OWN])
    write_record(ws, IMAGE, Record({}, {}, {}, BASE, ""))
    assert Recipe.load(ws, IMAGE).base.name == BASE
    # The last build's, unless the image cannot be built on that any more.
    write_record(ws, IMAGE, Record({}, {}, {}, "gone", ""))
    assert Recipe.load(ws, IMAGE).base.name == "lower"


def test_a_base_that_the_lock_does_not_serve_is_refused(ws: Workspace) -> None:
    (ws.bases / "other.toml").write_bytes((ws.root / OF_ALL[0]).read_bytes())
    with pytest.raises(SpecError, match="the lock serves small, not 'other'"):
        Recipe.load(ws, IMAGE, base="other")


def test_the_interpreter_of_a_local_base_is_a_file(ws: Workspace) -> None:
    local = f"{BASE}-local"
    with pytest.raises(LockError, match=f"no build on the base {local} is known here"):
        Recipe.load(ws, IMAGE, base=local)
    noted, other = Digest.of(b"noted"), Digest.of(b"other")
    write_local(ws, local, Local(noted))
    recipe = Recipe.load(ws, IMAGE, base=local)
    assert files(recipe) == sorted([*OF_ALL, *OWN, f"locks/base/{local}.toml"])
    assert recipe.base_lock.tree == noted
    # Of the interpreter that the next build would take, before it is noted.
    planned = Recipe.of(ws, read_image(ws, IMAGE), base=local, local=Local(other))
    assert planned.base_lock.tree == other
    assert other.hex.encode() in planned.files[f"locks/base/{local}.toml"]


def test_a_set_is_part_of_it_where_it_is_locked(ws: Workspace) -> None:
    path = ws.images / f"{IMAGE}.toml"
    path.write_text(path.read_text().replace('"cpu"', f'"{SET}"'))
    lacking = Recipe.load(ws, IMAGE)
    assert (lacking.accelerator, lacking.wheels) == (None, lacking.lock.packages)
    assert f"{SET} is not locked" in lacking.note
    assert lacking.name == "azureml/small-small-nocuda-inference"
    # Building it again reads the set's specification, to find that it is not locked.
    assert files(lacking) == sorted([*OF_ALL, *OWN, f"base/{SET}.toml"])
    lock_set(ws)
    whole = Recipe.load(ws, IMAGE)
    assert whole.name == "azureml/small-small-cuda1-gpu-inference"
    assert files(whole) == sorted([*files(lacking), f"locks/base/{SET}.toml"])
    assert [package.name for package in whole.wheels] == ["one", "cudnn"]
    assert whole.debs[-1].name == "libset1"
    # What it insists on is taken, or left out.
    assert files(Recipe.load(ws, IMAGE, accelerator="cpu")) == files(lacking)
    assert files(Recipe.load(ws, "another", accelerator=SET))[:2] == [f"base/{SET}.toml", OF_ALL[0]]


@pytest.mark.parametrize(
    "filename", ["cudnn-1-cp311-cp311-manylinux_2_17_x86_64.whl", "cudnn-1-py3-none-win32.whl"]
)
def test_a_set_locked_for_another_python_or_system_is_refused(ws: Workspace, filename: str) -> None:
    lock_set(ws, filename)
    with pytest.raises(LockError, match=f"wheels of the set {SET} do not fit") as raised:
        Recipe.load(ws, IMAGE, accelerator=SET)
    assert raised.value.where == f"locks/base/{SET}.toml"
    assert raised.value.expected == "wheels for CPython 3.7 and glibc up to 2.36 (small)"
    assert raised.value.found == filename


@pytest.mark.parametrize("image", [IMAGE, "mine"])
def test_its_files_are_all_it_takes_to_read_it_again(
    ws: Workspace, tmp_path: Path, image: str
) -> None:
    lock_set(ws)
    recipe = Recipe.load(ws, image, accelerator=SET)
    there = write_sources(recipe.files, tmp_path / "there")
    again = Recipe.load(there, image, accelerator=SET)
    assert again == recipe
    assert materials(again) == materials(recipe)


def test_a_stale_lock_is_no_recipe(ws: Workspace) -> None:
    path = ws.images / f"{IMAGE}.toml"
    path.write_text(path.read_text().replace("[]", '["more"]'))
    for image in (IMAGE, "mine"):
        with pytest.raises(StaleLockError):
            Recipe.load(ws, image)
    with pytest.raises(PlinthError):
        Recipe.load(ws, "none")


def names(ws: Workspace, paths: Sequence[Path]) -> list[str]:
    return [path.relative_to(ws.root).as_posix() for path in paths]


@pytest.mark.parametrize(
    ("text", "extended"),
    [
        (f'extends = "{IMAGE}"\n', True),
        (f"extends='{IMAGE}'\n", True),
        (f'"extends" = "{IMAGE}"\n', True),
        (f'[python]\nextends = "{IMAGE}"\n', False),
        ('extends = "gone"\n', False),
        # Of itself it would be endless.
        ('extends = "mine"\n', False),
        ("extends = 3\n", False),
        (f'extends = "{IMAGE}"\n[', False),
        ("\x00", False),
    ],
)
def test_files_are_listed_whatever_a_specification_holds(
    ws: Workspace, text: str, extended: bool
) -> None:
    own, parent = names(ws, files_of(ws, "mine")), names(ws, files_of(ws, IMAGE))
    own = [path for path in own if path not in parent]
    (ws.images / "mine.toml").write_text(text)
    assert names(ws, files_of(ws, "mine")) == [*own, *(parent if extended else [])]
