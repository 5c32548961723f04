"""Is every blob the one that the manifest, and the config, name?"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from plinth.core.digest import Digest, parse_oci
from plinth.core.errors import LayoutError
from plinth.core.report import human_size
from plinth.evidence.verify.verdict import Check
from plinth.fetch.sources.model import ImageSource, SourceLayer
from plinth.formats.oci.documents import document
from plinth.formats.oci.manifest import Manifest, parse_manifest
from plinth.formats.oci.model import CONFIG, LAYERS, MANIFEST
from plinth.formats.oci.strict import CONFIG_KEYS
from plinth.inspect.contents.cache import ContentsCache
from plinth.inspect.contents.hashing import Hashing
from plinth.inspect.contents.model import LayerContents
from plinth.inspect.contents.read import read_layers

UNSIGNED = "not read: no valid signature is about this manifest"
"""Why layers were not read."""


def read_image(data: bytes) -> Manifest:
    """The image manifest in `data`.

    Raises:
        LayoutError: it is not an OCI image manifest of gzip or zstd layers.
    """
    manifest = parse_manifest(data, "manifest", media_type=MANIFEST)
    if not manifest.layers:
        raise LayoutError("the manifest has no layers", where="manifest")
    layers = ((f"layers[{n}]", one, tuple(LAYERS)) for n, one in enumerate(manifest.layers))
    for where, entry, kinds in (("config", manifest.config, (CONFIG,)), *layers):
        if entry.media_type not in kinds:
            raise LayoutError(
                f"{where} is not a descriptor of {' or '.join(kinds)}", where="manifest"
            )
    return manifest


def read_config(data: bytes) -> dict[str, Any]:
    """The image config in `data`.

    Raises:
        LayoutError: it is not a JSON object with diff_ids.
    """
    config = document(data, "config", CONFIG_KEYS)
    rootfs = config.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
        raise LayoutError("the config has no rootfs.diff_ids", where="config")
    return config


def read_signed(
    source: ImageSource,
    manifest: Manifest,
    config: Mapping[str, Any],
    cache: ContentsCache | None,
    hashing: Hashing | None = None,
) -> list[LayerContents | str]:
    """What each layer of a signed `manifest` holds, or why it cannot be read. Nothing is unpacked
    that is not, byte for byte, what manifest or config name, and nothing twice; what `hashing` has
    begun with is not hashed again."""
    layers, diff_ids = source.layers(), config["rootfs"]["diff_ids"]
    if not len(layers) == len(manifest.layers) == len(diff_ids):
        return ["not read: there are not as many layers as are named"] * len(layers)
    if not source.compressed:
        named = zip(layers, manifest.layers, diff_ids, strict=True)
        layers = [_as_unpacked(layer, entry.digest, diff_id) for layer, entry, diff_id in named]
    distinct = {(layer.digest, layer.name): layer for layer in layers}
    read = read_layers([*distinct.values()], cache, hashing=hashing)
    found = dict(zip(distinct, read, strict=True))
    return [found[layer.digest, layer.name] for layer in layers]


def _as_unpacked(layer: SourceLayer, digest: Digest, diff_id: object) -> SourceLayer:
    """A layer of a docker archive, which is the one of the manifest or, unpacked, its tar."""
    with layer.open() as stream:
        size = stream.seek(0, io.SEEK_END)
    if size != digest.size:
        digest = Digest(parse_oci(str(diff_id)), size)
    return replace(layer, digest=digest)


def check_blobs(
    manifest: Manifest,
    config_bytes: bytes,
    config: Mapping[str, Any],
    contents: Sequence[LayerContents | str],
    compressed: bool,
) -> Check:
    """Compare what was read with what names it: the config with the manifest's descriptor, each
    layer's bytes likewise, and each layer's tar with the config's diff_id.

    `contents` has, for each layer, what it holds or why it could not be read. Where layers are
    not `compressed` as the manifest has them (a docker archive), their diff_ids alone tell.
    """
    if UNSIGNED in contents:
        return Check("blobs", "", (UNSIGNED,))
    problems = []
    named = manifest.config.digest
    found = Digest.of(config_bytes)
    if found != named:
        problems.append(f"config: it is {_shown(found)}, the manifest names {_shown(named)}")
    diff_ids = config["rootfs"]["diff_ids"]
    layers = manifest.layers
    if not len(layers) == len(diff_ids) == len(contents):
        problems.append(
            f"{len(layers)} layers in the manifest, {len(diff_ids)} diff_ids in the config, "
            f"{len(contents)} layers there"
        )
        return Check("blobs", "", tuple(problems))
    total = 0
    for number, (entry, diff_id, held) in enumerate(zip(layers, diff_ids, contents, strict=True)):
        title = f"layer {number} ({entry.title or entry.digest.oci})"
        if isinstance(held, str):
            problems.append(f"{title}: {held}")
            continue
        wanted = entry.digest
        if compressed and held.digest != wanted:
            problems.append(
                f"{title}: it is {_shown(held.digest)}, the manifest names {_shown(wanted)}"
            )
        if compressed and held.compression != (named_form := LAYERS[entry.media_type]):
            problems.append(
                f"{title}: it is {held.compression or 'not compressed'}, the manifest calls it "
                f"{named_form}: engines go by one or the other"
            )
        if diff_id != f"sha256:{held.diff_id}":
            problems.append(
                f"{title}: unpacked it is sha256:{held.diff_id}, the config names {diff_id}"
            )
        total += wanted.size
    detail = f"{len(layers)} layers and the config, {human_size(total)}"
    return Check("blobs", detail, tuple(problems))


def _shown(digest: Digest) -> str:
    return f"{digest.oci} of {digest.size} bytes"
