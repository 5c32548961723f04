"""Two images compared: each kind of change, and none where there is none."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import canonical_json
from plinth.core.store import BlobStore
from plinth.evidence.sbom.make import StoredLayer
from plinth.formats import zstd
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import ROOT
from plinth.formats.oci.model import Descriptor
from plinth.inspect.contents.layer import list_files
from plinth.inspect.contents.model import LayerContents
from plinth.inspect.diff import Diff, Side, compare, list_layers, tree
from support.layer_files import (
    LAYERS,
    SITE,
    Files,
    changed,
    more,
    small_image,
    text,
    wheel,
    without,
    write_image,
    write_layer,
)

CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "config": {"User": "dockeruser", "Env": ["PATH=/bin", "A=1"], "Labels": {"x": "y"}},
    "history": [{"created_by": "plinth"}],
}


def side(folder: Path, layers: dict[str, Files], config: dict[str, Any] = CONFIG) -> Side:
    image = write_image(folder, layers)
    store = BlobStore(folder)
    blobs = [StoredLayer(store, layer.digest) for layer in image.manifest.layers]
    return Side(image.manifest.layers, config, image.contents, list_layers(blobs, 2))


def difference(folder: Path, layers: dict[str, Files]) -> Diff:
    return compare(side(folder, small_image()), side(folder, layers))


def test_an_image_and_itself(tmp_path: Path) -> None:
    found = difference(tmp_path, small_image())
    assert not found
    assert found.text() == "no difference"
    assert len(found.shared) == len(LAYERS)


def test_packages_layers_and_files(tmp_path: Path) -> None:
    layers = small_image()
    layers["other 2.0"] = wheel("other", "2.1")
    layers["third 3.0"] = wheel("third", "3.0")
    del layers["libgl1 1.6.0-1"]
    found = difference(tmp_path, layers)
    named = [(c.name, c.before and c.before[:3], c.after and c.after[:3]) for c in found.packages]
    assert named == [
        ("deb libgl1", "1.6", None),
        ("wheel other", "2.0", "2.1"),
        ("wheel third", None, "3.0"),
    ]
    assert len(found.shared) == 4
    assert sorted(c.before or c.after or "" for c in found.layers) == [
        "libgl1 1.6.0-1",
        "other 2.0",
        "other 2.0",
        "third 3.0",
    ]
    files = {change.name: change for change in found.files}
    assert files["usr/lib/libGL.so"].before == "symlink to libGL.so.1 0777 0:0"
    assert files["usr/lib/libGL.so"].after is None
    assert files[f"{SITE}/third/__init__.py"].before is None
    assert f"{SITE}/other/__init__.py" not in files
    assert found.unpacked[0] != found.unpacked[1]
    assert json.loads(canonical_json(found.to_json()))["packages"][0]["name"] == "deb libgl1"
    assert "  ~ wheel other 2.0 (files" in found.text()


def test_many_files_are_counted_and_not_all_named(tmp_path: Path) -> None:
    layers = small_image()
    layers["many"] = {f"many/{n}": text(f"many/{n}", b"") for n in range(30)}
    found = difference(tmp_path, layers)
    # The folder is one of them.
    assert len(found.files) == 31
    assert "files: 31\n" in found.text()
    assert found.text().endswith("  and 11 more")


def test_layers_in_another_order(tmp_path: Path) -> None:
    layers = small_image()
    layers["contract"] = layers.pop("contract")
    found = difference(tmp_path, layers)
    assert [change.name for change in found.layers] == ["order"]
    assert found.files == ()


def test_layers_that_only_compression_tells_apart(tmp_path: Path) -> None:
    old = side(tmp_path, small_image())
    store = BlobStore(tmp_path)

    def other(layer: Descriptor, held: LayerContents) -> tuple[Descriptor, LayerContents]:
        tar = gzip.decompress(store.path(layer.digest).read_bytes())
        digest = store.put(zstd.frame(tar))
        return replace(layer, digest=digest), replace(held, digest=digest, compression="zstd")

    # The first stays as it is.
    pairs = [other(*pair) for pair in zip(old.layers[1:], old.contents[1:], strict=True)]
    layers, contents = zip((old.layers[0], old.contents[0]), *pairs, strict=True)
    found = compare(old, Side(layers, CONFIG, contents, old.files))
    assert found
    assert (found.layers, found.files, found.packages, len(found.shared)) == ((), (), (), 1)
    assert [change.name for change in found.recompressed] == [x.title for x in old.layers[1:]]
    change = found.recompressed[0]
    assert change.before == f"gzip {old.layers[1].digest.oci}"
    assert change.after == f"zstd {layers[1].digest.oci}"
    assert f"layers that only compression tells apart: {len(pairs)}\n" in found.text()


def test_other_files_under_one_version(tmp_path: Path) -> None:
    layers = small_image()
    layers["demo 1.0"] = wheel("demo", "1.0", code=b"y = 2\n")
    found = difference(tmp_path, layers)
    assert [change.name for change in found.packages] == ["wheel demo"]
    assert f"{SITE}/demo/__init__.py" in [change.name for change in found.files]


@pytest.mark.parametrize("fields", [{"mode": 0o600}, {"data": b"x"}, {"owner": (7, 7)}])
def test_mode_content_and_owner(tmp_path: Path, fields: dict[str, Any]) -> None:
    layers = small_image()
    if "owner" in fields:
        fields = {"owner": ROOT._replace(uid=7)}
    layers[LAYERS[0]] = changed(layers[LAYERS[0]], "etc/passwd", **fields)
    found = difference(tmp_path, layers)
    assert [change.name for change in found.files] == ["etc/passwd"]
    assert found.packages == ()


def test_configuration(tmp_path: Path) -> None:
    other = {
        **CONFIG,
        "config": {"User": "root", "Env": ["A=2", "PATH=/bin", "B="], "Labels": {}},
        "history": [],
    }
    found = compare(side(tmp_path, small_image()), side(tmp_path, small_image(), other))
    assert [(c.name, c.before, c.after) for c in found.config] == [
        ("config.Env.A", "1", "2"),
        ("config.Env.B", None, ""),
        ("config.Labels", None, "{}"),
        ("config.Labels.x", "y", None),
        ("config.User", "dockeruser", "root"),
    ]
    assert found.files == found.layers == found.packages == ()
    assert found


def test_later_layers_hide_earlier_ones(tmp_path: Path) -> None:
    lower = {"a/b": text("a/b", b"1"), "a/c": text("a/c", b"1"), "ab": text("ab", b"1")}
    upper = {"a": File("a", "symlink", 0o777, ROOT, target="ab")}
    again = {"a/b": text("a/b", b"2")}
    listed = []
    for files in (lower, upper, again):
        layer = write_layer(tmp_path, "x", files)
        with BlobStore(tmp_path).path(layer.digest).open("rb") as stream:
            listed.append(list_files(stream))
    assert sorted(tree(listed[:1])) == ["a", "a/b", "a/c", "ab"]
    assert sorted(tree(listed[:2])) == ["a", "ab"]
    assert tree(listed[:2])["a"].target == "ab"
    assert sorted(tree(listed)) == ["a", "a/b", "ab"]


def test_a_file_that_a_later_layer_replaces(tmp_path: Path) -> None:
    """The linker's configuration comes on top of the system's: only the last one counts."""
    layers = small_image()
    layers[LAYERS[0]] = without(layers[LAYERS[0]], "etc/passwd")
    passwd = small_image()[LAYERS[0]]["etc/passwd"]
    layers["top"] = more({}, passwd)
    found = difference(tmp_path, layers)
    assert found.files == ()
    assert len(found.layers) == 3
