"""A layer compressed anew: the same tar, and the same bytes whoever packs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats import zstd
from plinth.formats.layer import pack as module
from plinth.formats.layer.blob import layer_tar, plain_digest
from plinth.formats.layer.model import Layer
from plinth.formats.layer.pack import pack
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.model import LAYER_ZSTD
from plinth.inspect.contents.layer import read_layer

MANY = b"".join(b"%d plinth %d\n" % (n, n * n % 9973) for n in range(1_400_000))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


@pytest.fixture
def gzipped(store: BlobStore) -> Layer:
    """A layer of three frames."""
    with LayerWriter(store) as writer:
        writer.directory("d")
        writer.file("d/text", MANY[: 3 << 20])
        writer.file("d/more", MANY[3 << 20 :])
        writer.symlink("d/link", "text")
        return writer.commit("demo")


def test_it_has_the_same_tar_and_plinths_form(store: BlobStore, gzipped: Layer) -> None:
    made = pack(store, store.path(gzipped.digest), "demo")
    assert (made.diff_id, made.uncompressed) == (gzipped.diff_id, gzipped.uncompressed)
    assert (made.media_type, made.descriptor.media_type) == (LAYER_ZSTD, LAYER_ZSTD)
    assert plain_digest(store.path(made.digest)) == Digest(gzipped.diff_id, gzipped.uncompressed)
    found = read_layer(lambda: store.path(made.digest).open("rb"), made.digest)
    assert (found.compression, found.blob_form, found.tar_form) == ("zstd", "", "")
    assert found.entries == read_layer(lambda: store.path(gzipped.digest).open("rb")).entries
    with layer_tar(store.path(made.digest)) as entries:
        assert [entry.path for entry, _ in entries] == ["d", "d/text", "d/more", "d/link"]


def test_packing_what_is_packed_gives_it_again(store: BlobStore, gzipped: Layer) -> None:
    made = pack(store, store.path(gzipped.digest), "demo")
    assert pack(store, store.path(made.digest), "demo") == made


def test_its_bytes_are_fixed_whoever_packs_it(store: BlobStore, gzipped: Layer) -> None:
    found = {pack(store, store.path(gzipped.digest), "demo", workers=n).digest for n in (1, 2, 4)}
    code = (
        "import sys; from pathlib import Path; from plinth.core.store import BlobStore; "
        "from plinth.formats.layer.pack import pack; "
        "print(pack(BlobStore(Path(sys.argv[1])), Path(sys.argv[2]), '', workers=4).digest.oci)"
    )
    for more in ({"ZSTD_CLEVEL": "1", "LC_ALL": "C"}, {"ZSTD_NBTHREADS": "3", "LANG": "de_DE"}):
        done = subprocess.run(
            [sys.executable, "-c", code, str(store.root), str(store.path(gzipped.digest))],
            env={**os.environ, **more},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        assert {one.oci for one in found} == {done.stdout.strip()}
    (digest,) = found
    assert digest.oci == "sha256:3ed02584280a1ccacf23fc5aa743336b623138f772e25431398e62bfcea9619d"


def test_frames_are_cut_by_size_alone() -> None:
    pieces = [b"a" * (3 << 20), b"b" * (14 << 20), b"c"]
    cut = list(module._cut(pieces))
    assert [len(one) for one in cut] == [zstd.PLAIN, zstd.PLAIN, (1 << 20) + 1]
    assert b"".join(cut) == b"".join(pieces)
    assert list(module._cut([b"x" * zstd.PLAIN])) == [b"x" * zstd.PLAIN]


def test_what_no_reader_would_take_is_not_made(
    store: BlobStore, gzipped: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "most", lambda size: size)
    before = set(store.blobs.iterdir())
    with pytest.raises(LayoutError, match="unpack to more than readers of layers take") as raised:
        pack(store, store.path(gzipped.digest), "demo")
    assert 'compression = "gzip"' in raised.value.remedy
    assert set(store.blobs.iterdir()) == before


def test_a_damaged_layer_is_not_packed(store: BlobStore, gzipped: Layer, tmp_path: Path) -> None:
    data = store.get(gzipped.digest)
    for name, spoiled in {"cut": data[:-9], "text": b"no layer"}.items():
        path = tmp_path / name
        path.write_bytes(spoiled)
        with pytest.raises(LayoutError):
            pack(store, path, "demo")


def test_the_step_gives_the_layer_and_its_facts(store: BlobStore, gzipped: Layer) -> None:
    from plinth.core.store import Stores
    from plinth.graph.steps.model import Work
    from plinth.graph.steps.registry import perform

    inputs = {"layer": store.path(gzipped.digest)}
    result = perform("zstd-layer", Work(inputs, {}, Stores(store, store), None))  # type: ignore[arg-type]
    assert result.outputs == {"layer": pack(store, inputs["layer"], "").digest}
    assert json.loads(json.dumps(dict(result.info))) == {
        "diff_id": gzipped.diff_id,
        "uncompressed": gzipped.uncompressed,
    }
