"""The zstd form of an image, tampered with by those who change bytes and by those who sign: what
plinth never writes is refused, and what it writes of another level shows when it is built again.

The rows of layers are signed by the right key and true in all else, so that their compression alone
can be wrong.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from plinth.core.digest import Digest, canonical_json
from plinth.core.settings import Config
from plinth.evidence.statement import PROVENANCE
from plinth.formats import zstd
from plinth.formats.oci.model import LAYER_GZIP, LAYER_ZSTD
from support.forge import Copy, Forger, Json, Judge, link_tree, rejected, relayered, resigned
from support.small_checkout import SmallCheckout
from tampering.conftest import FORM, IMAGE

LAYER = "demo"


@pytest.fixture
def copy(both: SmallCheckout, tmp_path: Path) -> Copy:
    link_tree(both.ws.layout.root, tmp_path / "oci")
    return Copy(tmp_path / "oci", FORM)


def layer_of(copy: Copy) -> tuple[int, bytes, str]:
    """A layer: its number, its blob, its diff id."""
    number = copy.layer(LAYER)
    blob = copy.blob(copy.manifest()["layers"][number]["digest"])
    return number, blob, copy.config()["rootfs"]["diff_ids"][number].removeprefix("sha256:")


def tar_of(blob: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True) as reader:
        return reader.read()


def test_both_forms_verify_and_have_one_config(copy: Copy, judge: Judge) -> None:
    other = Copy(copy.root, IMAGE)
    assert judge.problems(copy) == judge.problems(other) == []
    assert copy.manifest()["config"] == other.manifest()["config"]
    assert copy.digest != other.digest
    kinds = [{one["mediaType"] for one in each.manifest()["layers"]} for each in (copy, other)]
    assert kinds == [{LAYER_ZSTD}, {LAYER_GZIP}]
    details = {check.name: check.detail for check in judge.verdict(copy).checks}
    assert "layers in zstd" in details["form"]
    assert details["contract"].endswith("in zstd")


def test_one_form_is_not_the_other(copy: Copy, judge: Judge) -> None:
    """By name, by the statements of the other, and by what they say."""
    other = Copy(copy.root, IMAGE)
    entry = other.entry()
    copy.edit_entry(digest=entry["digest"], size=entry["size"])
    rejected(judge, copy, "asked for the form in zstd, this is in gzip")


def test_statements_of_the_other_form_do_not_count(copy: Copy, judge: Judge) -> None:
    copy.attach(Copy(copy.root, IMAGE).bundles())
    rejected(judge, copy, "no valid provenance found", "not this image")


@pytest.mark.parametrize("said", [None, "gzip", "xz", 1])
def test_a_provenance_that_says_another_form(
    copy: Copy, judge: Judge, forger: Forger, said: object
) -> None:
    def change(predicate: Json) -> None:
        parameters = predicate["buildDefinition"]["externalParameters"]
        del parameters["compression"]
        if said is not None:
            parameters["compression"] = said
        else:
            del predicate["buildDefinition"]["internalParameters"]["zstd"]

    forger.restate(copy, PROVENANCE, change)
    problem = "application/vnd.oci.image.layer.v1.tar+gzip" if said is None else "compression"
    rejected(judge, copy, problem)


def with_level(level: int, **options: bool) -> Callable[[bytes], bytes]:
    made = {"write_content_size": True, "write_checksum": True, **options}
    return lambda tar: zstandard.ZstdCompressor(level, **made).compress(tar)  # type: ignore[arg-type]


def windowed(tar: bytes) -> bytes:
    """Streamed, so that its header has a window: of 64 MiB."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        9, window_log=26, write_content_size=False, write_checksum=True
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(tar) + packer.flush()


SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"evil"
LAYERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a frame that is skipped behind it": (
        lambda tar: zstd.frame(tar) + SKIPPABLE,
        "bytes, not 8388608, as plinth writes it",
    ),
    "a frame that is skipped before it": (
        lambda tar: SKIPPABLE + zstd.frame(tar),
        "the zstd frame at byte 0 is one that decoders skip; plinth writes none",
    ),
    "a frame that is skipped within": (
        lambda tar: zstd.frame(tar[:512]) + SKIPPABLE + zstd.frame(tar[512:]),
        "unpacks to 512 bytes, not 8388608, as plinth writes it",
    ),
    "an empty frame behind it": (
        lambda tar: zstd.frame(tar) + zstd.frame(b""),
        "not 8388608, as plinth writes it",
    ),
    "two frames": (
        lambda tar: zstd.frame(tar[:1024]) + zstd.frame(tar[1024:]),
        "unpacks to 1024 bytes, not 8388608, as plinth writes it",
    ),
    "no checksum": (with_level(9, write_checksum=False), "no size, no checksum"),
    "no size": (with_level(9, write_content_size=False), "another window, no size"),
    "a window of 64 MiB": (windowed, "another window, no size"),
    "trailing bytes": (lambda tar: zstd.frame(tar) + b"evil", "data behind a zstd frame"),
    "trailing zeros": (lambda tar: zstd.frame(tar) + bytes(512), "data behind a zstd frame"),
    "gzip behind it": (
        lambda tar: zstd.frame(tar) + gzip.compress(b""),
        "data behind a zstd frame",
    ),
    "cut short": (lambda tar: zstd.frame(tar)[:-1], "it ends within a zstd frame"),
    "a window of 256 MiB": (
        lambda tar: zstd.MAGIC + b"\x00\x90" + zstd.frame(tar)[8:],
        "needs too much memory",
    ),
    "a dictionary": (
        lambda tar: zstd.MAGIC + b"\x65\x01" + zstd.frame(tar)[5:],
        "needs a dictionary",
    ),
    "gzip": (lambda tar: gzip.compress(tar, mtime=0), "it is gzip, the manifest calls it zstd"),
    "a plain tar": (lambda tar: tar, "it is not compressed, the manifest calls it zstd"),
    "a bomb": (
        lambda tar: zstd.frame(tar) + zstd.frame(bytes(zstd.PLAIN)) * 200,
        "unpacks to too much",
    ),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_that_plinth_never_writes(
    kind: str, copy: Copy, judge: Judge, forger: Forger
) -> None:
    change, message = LAYERS[kind]
    number, blob, diff_id = layer_of(copy)
    relayered(copy, forger, number, change(tar_of(blob)), diff_id)
    rejected(judge, copy, message)


def test_a_layer_in_gzip_among_those_in_zstd(copy: Copy, judge: Judge, forger: Forger) -> None:
    number, _, diff_id = layer_of(copy)
    other = Copy(copy.root, IMAGE)
    blob = other.blob(other.manifest()["layers"][number]["digest"])
    relayered(copy, forger, number, blob, diff_id, LAYER_GZIP)
    rejected(judge, copy, f'layers[{number}].mediaType: expected "{LAYER_ZSTD}"')


def test_another_tar(copy: Copy, judge: Judge, forger: Forger) -> None:
    number, blob, diff_id = layer_of(copy)
    changed = tar_of(blob).replace(b"VERSION = '1.0'", b"VERSION = '6.6'")
    relayered(copy, forger, number, zstd.frame(changed), diff_id)
    rejected(judge, copy, "blobs: layer", "unpacked it is sha256:")


def test_a_stranger_changes_a_blob(copy: Copy, judge: Judge) -> None:
    number, blob, diff_id = layer_of(copy)
    copy.become_layer(number, with_level(3)(tar_of(blob)), diff_id)
    rejected(judge, copy, "no valid provenance found")
    digest = copy.manifest()["layers"][number]["digest"]
    copy.write(copy.path(digest), zstd.frame(tar_of(blob)))
    rejected(judge, copy, "no valid provenance found")


def test_a_blob_that_is_not_the_named_one(copy: Copy, judge: Judge) -> None:
    number, blob, _ = layer_of(copy)
    digest = copy.manifest()["layers"][number]["digest"]
    copy.write(copy.path(digest), with_level(3)(tar_of(blob)))
    rejected(judge, copy, "blobs: layer", "the manifest names")


def test_another_level_shows_when_it_is_built_again(
    copy: Copy, judge: Judge, forger: Forger, both: SmallCheckout
) -> None:
    """What another level writes is a frame like any other: all but its bytes is as plinth has it,
    and what it unpacks to is what was signed."""
    config = replace(Config(), files={"wheels": str(both.wheels)})
    again = replace(judge, rebuild=True, inputs=both.ws.cache, config=config)
    assert again.problems(copy) == []
    number, blob, diff_id = layer_of(copy)
    data = with_level(19)(tar_of(blob))
    assert data != blob
    relayered(copy, forger, number, data, diff_id)
    assert judge.problems(copy) == []
    rejected(again, copy, "rebuild: ", "the same files, packed differently")


def test_forms_are_built_again_as_what_they_are(judge: Judge, both: SmallCheckout) -> None:
    config = replace(Config(), files={"wheels": str(both.wheels)})
    again = replace(judge, rebuild=True, inputs=both.ws.cache, config=config)
    for name, form in ((FORM, "zstd"), (IMAGE, "gzip")):
        checks = again.verdict(Copy(both.ws.layout.root, name)).checks
        (rebuilt,) = [check for check in checks if check.name == "rebuild"]
        assert (rebuilt.problems, f"built again in {form}" in rebuilt.detail) == ((), True)


def test_a_manifest_of_both_forms_at_once(copy: Copy, judge: Judge, forger: Forger) -> None:
    """A layer called gzip that is zstd: engines go by the bytes, or by the name."""
    manifest = copy.manifest()
    number, _, _ = layer_of(copy)
    manifest["layers"][number]["mediaType"] = LAYER_GZIP
    resigned(copy, forger, canonical_json(manifest))
    rejected(judge, copy, "it is zstd, the manifest calls it gzip", "mediaType: expected")
    assert Digest.of(canonical_json(manifest)) == copy.digest
