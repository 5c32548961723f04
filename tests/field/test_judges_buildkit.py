"""BuildKit builds on an image of the catalogue: `FROM` a layout, and `FROM` a registry."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from field.conftest import pushed
from integration.conftest import Checkout, build
from plinth.core.store import BlobStore
from plinth.formats.oci.documents import descriptor, entries
from plinth.formats.oci.layout import read_index, references
from plinth.formats.oci.manifest import read_manifest
from support.buildkit import buildkit, from_layout

IMAGE = "minimal"
PYTHON = "import flask, os; print(os.getuid(), flask.__name__)"
RUN = f"RUN --network=none python -c '{PYTHON}' >/tmp/ran\n"


@contextlib.contextmanager
def layout(built: Checkout, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """What follows `FROM`, and options for it."""
    store = built.ws.layout
    yield "base", from_layout("base", store.root, references(store)[IMAGE].manifest.oci)


@contextlib.contextmanager
def registry(built: Checkout, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The same, with the image in a registry."""

    with pushed(built.ws, IMAGE, folder) as place:
        yield place, []


Place = Callable[[Checkout, Path], contextlib.AbstractContextManager[tuple[str, list[str]]]]


@pytest.mark.network
@pytest.mark.judge("buildkit", "runc")
@pytest.mark.parametrize(
    "place", [layout, pytest.param(registry, marks=pytest.mark.judge("registry"))]
)
def test_buildkit_builds_on_the_layers_that_were_built(place: Place, tmp_path: Path) -> None:
    built = build(IMAGE)
    store, made = built.ws.layout, BlobStore(tmp_path / "made")
    below = read_manifest(store, references(store)[IMAGE].manifest)
    with place(built, tmp_path / "registry") as (base, options), buildkit(tmp_path) as running:
        (tmp_path / "context").mkdir()
        (tmp_path / "context" / "Dockerfile").write_text(f"FROM {base}\n{RUN}")
        output = f"--output=type=oci,tar=false,dest={made.root}"
        running.build(tmp_path / "context", output, *options)
    (entry,) = entries(read_index(made), "index.json")
    *layers, own = read_manifest(made, descriptor(entry, "index.json")).layers
    assert [layer.digest for layer in layers] == [layer.digest for layer in below.layers]
    # The command ran as the image's own user, with its Python.
    with tarfile.open(made.path(own.digest)) as tar:
        ran = tar.extractfile("tmp/ran")
        assert ran is not None
        assert ran.read() == b"1000 flask\n"
