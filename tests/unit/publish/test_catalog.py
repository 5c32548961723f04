"""docs/catalog.md, of a small checkout: every line of it, and when it is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.commands import images as commands
from plinth.core.digest import Digest
from plinth.core.errors import LayoutError, LockError, PlinthError, StaleLockError
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import Runtime, assemble
from plinth.formats.oci.layout import tag
from plinth.graph.workspace import Workspace
from plinth.publish import catalog
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.base import load_base
from plinth.recipe.image import load_image, load_target
from plinth.recipe.locks.accelerator import AcceleratorLock
from plinth.recipe.locks.accelerator import inputs_of as set_inputs_of
from plinth.recipe.locks.accelerator import write_lock as write_set_lock
from plinth.recipe.locks.base import BaseLock, write_lock
from plinth.recipe.locks.base import inputs_of as base_inputs_of
from plinth.recipe.locks.inputs import checksum, inputs_of
from plinth.recipe.locks.pylock import ImageLock, LockedFile, LockedPackage, dump
from plinth.recipe.record import Record, read_record, write_record
from support import helpers

BASE = helpers.BASE.format(requirements="")
IMAGE = """\
framework = "{framework}"
version = "{version}"
accelerator = "{accelerator}"
base = "tiny"
summary = "{framework} on a test"

[python]
requirements = [{requirements}]
as-of = 2021-06-01T00:00:00Z
"""
SET = """\
kind = "accelerator"
label = "cuda1"
summary = "A set"
architecture = "amd64"
folders = ["/usr/lib/set"]

[[archives]]
name = "debian"
suite = "bookworm"
keyring = "debian-archive-keyring"
packages = ["libset1"]
"""
SHARED = 1_500_000
TEXT = """\
# Catalogue

Made by `doit catalog` from `images/`, `locks/` and the images built from them; do not edit.
Digests are those of the manifest on the base named; the same inputs give the same digest anywhere.

| image | for | packages asked for | locked | size | layers | manifest digest |
|---|---|---|---|---|---|---|
| [one-1.0](#one-10) | CPU | one==1.*<br>Two.X | one 1.4.2<br>two-x 2.0 | 1.5 MB | 2 | `{one:.12}` |
| [other-2](#other-2) | CPU | one==1.* | one 1.4.2 | 1.5 MB | 1 | `{other:.12}` |

2 images, 3.0 MB in all; 2 distinct layers hold 1.5 MB (50 %).

## one-1.0

one on a test.

- image: `azureml/one-1.0-tiny-cpu-inference`
- curated environment: `AzureML-one-1.0-tiny-cpu-inference`
- base: `tiny`
- digest: `sha256:{one}`
- note: worth saying

## other-2

other on a test.

- image: `azureml/other-2-tiny-cpu-inference`
- curated environment: `AzureML-other-2-tiny-cpu-inference`
- base: `tiny`
- digest: `sha256:{other}`
"""


def package(name: str, version: str) -> LockedPackage:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    file = LockedFile(filename, Digest.of(filename.encode()), "2021-01-01T00:00:00Z")
    return LockedPackage(name, version, file, is_sdist=False, direct=True)


ONE, TWO = package("one", "1.4.2"), package("two-x", "2.0")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def specify(ws: Workspace, image_id: str, *requirements: str, accelerator: str = "cpu") -> None:
    framework, _, version = image_id.rpartition("-")
    listed = ", ".join(f'"{requirement}"' for requirement in requirements)
    text = IMAGE.format(
        framework=framework, version=version, accelerator=accelerator, requirements=listed
    )
    put(ws.images / f"{image_id}.toml", text)


def lock(ws: Workspace, image_id: str, *packages: LockedPackage) -> ImageLock:
    """A lock of these packages, as `doit lock` writes it."""
    text = "".join(
        f"{p.name}=={p.version} \\\n    --hash={p.file.digest.oci}\n    # via -r x.in\n"
        for p in packages
    )
    inputs = inputs_of(load_image(ws.images, image_id), load_target(ws.bases, "tiny"))
    made = ImageLock(packages, "3.7", inputs, checksum(inputs), Digest.of(text.encode()).hex)
    put(ws.locks / image_id / "requirements.txt", text)
    put(ws.locks / image_id / "pylock.toml", dump(made))
    return made


def build(
    ws: Workspace,
    image_id: str,
    locked: ImageLock,
    contents: Sequence[bytes],
    notes: Sequence[str] = (),
) -> str:
    """An image of layers with these contents, as `doit build` leaves it; its manifest's digest."""
    layers = []
    for content in contents:
        digest = ws.layout.put(content)
        layers.append(Layer("a layer", digest, digest.hex, digest.size))
    image = assemble(
        ws.layout,
        layers,
        architecture="amd64",
        created="2021-06-01T00:00:00Z",
        runtime=Runtime("root", "/", {}, ["x"], [], "SIGTERM"),
        annotations={"dev.plinth.image": image_id},
    )
    name = load_image(ws.images, image_id).published("tiny")
    tag(
        ws.layout,
        image_id,
        image.manifest,
        image_name=f"{name}:latest",
        architecture="amd64",
    )
    write_record(ws, image_id, Record.of({}, locked, image, "tiny", notes))
    return image.manifest.digest.hex


def checkout(root: Path, *, backwards: bool = False) -> tuple[Workspace, dict[str, str]]:
    """A checkout of two images that share a layer, and their digests."""
    ws = Workspace(root, root / "build")
    put(ws.bases / "tiny.toml", BASE)
    tiny = load_base(ws.bases, "tiny")
    write_lock(ws, "tiny", BaseLock((), {}, Digest.of(b"tree"), base_inputs_of(tiny)))

    def one() -> str:
        specify(ws, "one-1.0", "one==1.*", "Two.X")
        locked = lock(ws, "one-1.0", ONE, TWO)
        return build(ws, "one-1.0", locked, [bytes(SHARED), b"its own"], ["worth saying"])

    def other() -> str:
        specify(ws, "other-2", "one==1.*")
        return build(ws, "other-2", lock(ws, "other-2", ONE), [bytes(SHARED)])

    makers = {"one": one, "other": other}
    order = list(reversed(makers)) if backwards else list(makers)
    return ws, {name: makers[name]() for name in order}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return checkout(tmp_path)[0]


def refused(ws: Workspace) -> PlinthError:
    """The one error of writing the catalogue, which leaves it alone."""
    path = ws.root / "docs" / "catalog.md"
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(PlinthError) as raised:
        catalog.write_catalog(ws, check=False)
    assert (path.read_bytes() if path.exists() else None) == before
    return raised.value


def differences(ws: Workspace) -> PlinthError:
    with pytest.raises(PlinthError) as raised:
        catalog.write_catalog(ws, check=True)
    assert raised.value.what == "the catalogue is not what specifications, locks and images say"
    assert raised.value.where == "docs/catalog.md"
    assert raised.value.remedy == "make it anew: doit catalog"
    return raised.value


def test_the_text(tmp_path: Path) -> None:
    ws, digests = checkout(tmp_path)
    assert catalog.catalog_text(ws) == TEXT.format(**digests)


def test_the_same_images_give_the_same_text_anywhere(ws: Workspace, tmp_path: Path) -> None:
    elsewhere, _ = checkout(tmp_path / "at another" / "place", backwards=True)
    assert catalog.catalog_text(elsewhere) == catalog.catalog_text(ws)


def test_it_is_written_once(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    path = ws.root / "docs" / "catalog.md"
    assert catalog.write_catalog(ws, check=False)
    assert path.read_text() == catalog.catalog_text(ws)
    before = path.stat()
    assert not catalog.write_catalog(ws, check=False)
    assert not catalog.write_catalog(ws, check=True)
    assert path.stat() == before
    commands.catalog(ws, check=True)
    assert capsys.readouterr().out == "docs/catalog.md: up to date\n"


def test_a_check_names_the_lines_that_changed(ws: Workspace) -> None:
    catalog.write_catalog(ws, check=False)
    path = ws.root / "docs" / "catalog.md"
    written = path.read_text()
    path.write_text(written.replace("one 1.4.2<br>two-x 2.0", "one 1.4.1<br>two-x 2.0"))
    edited = path.read_bytes()
    lines = differences(ws).found.splitlines()
    assert [line[:12] for line in lines] == ["-| [one-1.0]", "+| [one-1.0]"]
    assert "| one 1.4.1<br>two-x 2.0 |" in lines[0]
    assert "| one 1.4.2<br>two-x 2.0 |" in lines[1]
    # A check changes nothing.
    assert path.read_bytes() == edited


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text + "- note: by hand\n", "-- note: by hand"),
        (lambda text: text.replace("- note: worth saying\n", ""), "+- note: worth saying"),
        (lambda text: text.replace("- base: `tiny`\n", "", 1), "+- base: `tiny`"),
    ],
    ids=["added by hand", "taken out", "one of two alike"],
)
def test_a_check_sees_lines_too_many_and_too_few(
    ws: Workspace, change: Callable[[str], str], found: str
) -> None:
    catalog.write_catalog(ws, check=False)
    path = ws.root / "docs" / "catalog.md"
    path.write_text(change(path.read_text()))
    assert differences(ws).found == found


def test_a_check_without_a_catalogue_says_how_to_make_one(ws: Workspace) -> None:
    found = differences(ws).found.splitlines()
    assert found[0] == "+# Catalogue"
    assert len(found) == 10
    assert not (ws.root / "docs").exists()


def test_a_new_image_changes_the_table(ws: Workspace) -> None:
    catalog.write_catalog(ws, check=False)
    specify(ws, "third-3", "one==1.*")
    build(ws, "third-3", lock(ws, "third-3", ONE), [bytes(SHARED)])
    found = differences(ws).found
    assert "+| [third-3](#third-3) | CPU | one==1.* | one 1.4.2 | 1.5 MB | 1 | `" in found
    assert "-2 images, 3.0 MB in all; 2 distinct layers hold 1.5 MB (50 %)." in found
    assert "+3 images, 4.5 MB in all; 2 distinct layers hold 1.5 MB (33 %)." in found


def test_a_set_that_is_not_locked_is_said_and_how_to_get_it(ws: Workspace) -> None:
    put(ws.bases / "set1.toml", SET)
    specify(ws, "third-3", "one==1.*", accelerator="set1")
    digest = build(ws, "third-3", lock(ws, "third-3", ONE), [bytes(SHARED)])
    text = catalog.catalog_text(ws)
    assert (
        f"| [third-3](#third-3) | GPU | one==1.* | one 1.4.2 | 1.5 MB | 1 | `{digest:.12}` |"
        in (text)
    )
    assert "\n- image: `azureml/third-3-tiny-nocuda-inference`\n" in text
    note = next(line for line in text.splitlines() if line.startswith("- note: set1 is"))
    assert note.startswith("- note: set1 is **not locked**: its packages' digests are known only ")
    assert "`doit lock:set1` and a build give `azureml/third-3-tiny-cuda1-gpu-inference`." in note
    inputs = set_inputs_of(load_accelerator(ws.bases, "set1"))
    write_set_lock(ws, "set1", AcceleratorLock((), (), {}, inputs))
    without = "- note: built without set1, and named so; it is locked, and where its inputs are "
    without += "available, a build gives "
    without += "`azureml/third-3-tiny-cuda1-gpu-inference`."
    assert text.replace(note, without) == catalog.catalog_text(ws)
    record = read_record(ws, "third-3")
    assert record is not None
    write_record(ws, "third-3", replace(record, inputs={"locks/base/set1.toml": ""}))
    assert text.replace(note, "- note: A set, locked by digest") == catalog.catalog_text(ws)


def test_where_a_package_with_a_choice_comes_from_is_said(ws: Workspace) -> None:
    specify(ws, "third-3", "one==1.*")
    path = ws.images / "third-3.toml"
    path.write_text(
        f'{path.read_text()}\n[python.indexes]\none = {{index = "one-cpu", fallback = "default"}}\n'
    )
    build(ws, "third-3", lock(ws, "third-3", ONE), [bytes(SHARED)])
    asked = "`one-cpu` is asked first where the settings name it\n"
    note = f"- note: one 1.4.2 is the build of PyPI or its mirror; {asked}"
    assert note in catalog.catalog_text(ws)
    locked = lock(ws, "third-3", replace(ONE, index="one-cpu"))
    build(ws, "third-3", locked, [bytes(SHARED)])
    note = f"- note: one 1.4.2 is the build of the index one-cpu; {asked}"
    assert note in catalog.catalog_text(ws)


def test_an_image_that_is_not_built_is_one_error(ws: Workspace) -> None:
    specify(ws, "third-3", "one==1.*")
    lock(ws, "third-3", ONE)
    error = refused(ws)
    assert isinstance(error, LayoutError)
    assert error.what == "third-3 is not built"
    assert error.remedy == "build it: doit build:third-3"


def test_an_image_that_is_not_locked_is_one_error(ws: Workspace) -> None:
    specify(ws, "third-3", "one==1.*")
    error = refused(ws)
    assert isinstance(error, LockError)
    assert error.what == "there is no lock for third-3"
    assert error.remedy == "make it: doit lock:third-3"


def test_an_image_whose_specification_changed_is_one_error(ws: Workspace) -> None:
    specify(ws, "other-2", "one==1.4.*")
    error = refused(ws)
    assert isinstance(error, StaleLockError)
    assert error.where == "locks/other-2/pylock.toml"
    assert error.found == "requirements: one==1.* became one==1.4.*"


@pytest.mark.parametrize("damage", ["", "{", None])
def test_an_image_built_nobody_knows_how_is_one_error(ws: Workspace, damage: str | None) -> None:
    path = ws.build / "cache" / "images" / "other-2.json"
    path.unlink() if damage is None else path.write_text(damage)
    error = refused(ws)
    assert error.what == "how the image was built is not known"
    assert error.where == "other-2"
    assert error.remedy == "build it again: doit forget build:other-2; doit build:other-2"


def test_the_record_of_another_build_is_not_taken_for_this_one(ws: Workspace) -> None:
    locked = lock(ws, "other-2", ONE)
    record = (ws.build / "cache" / "images" / "other-2.json").read_bytes()
    build(ws, "other-2", locked, [b"built later"])
    (ws.build / "cache" / "images" / "other-2.json").write_bytes(record)
    assert refused(ws).what == "how the image was built is not known"
