"""Is every blob the one that the manifest, and the config, name?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from plinth.core.digest import Digest, parse_oci
from plinth.core.errors import IntegrityError
from plinth.core.report import human_size
from plinth.evidence.verify.verdict import Check
from plinth.formats.layer.estargz import TOC_DIGEST, UNCOMPRESSED_SIZE
from plinth.formats.oci.layout import descriptor_digest
from plinth.formats.oci.model import CONFIG, LAYER_GZIP, MANIFEST, TITLE
from plinth.formats.oci.strict import CONFIG_KEYS, MANIFEST_KEYS, AmbiguousJsonError, loads
from plinth.inspect.contents.model import LayerContents


class MalformedError(ValueError):
    """A manifest or config that is none; says why."""


def read_manifest(data: bytes) -> dict[str, Any]:
    """The image manifest in `data`.

    Raises:
        MalformedError: it is not an OCI image manifest of gzip layers.
    """
    document = _object(data, "manifest", MANIFEST_KEYS)
    if "manifests" in document:
        raise MalformedError("the manifest is an index as well (CVE-2021-41190)")
    if document.get("mediaType") != MANIFEST or document.get("schemaVersion") != 2:
        raise MalformedError(f"the manifest is not of type {MANIFEST}")
    config, layers = document.get("config"), document.get("layers")
    if not isinstance(layers, list) or not layers:
        raise MalformedError("the manifest has no layers")
    for where, entry, kind in (
        ("config", config, CONFIG),
        *((f"layers[{number}]", layer, LAYER_GZIP) for number, layer in enumerate(layers)),
    ):
        if not isinstance(entry, dict) or entry.get("mediaType") != kind:
            raise MalformedError(f"manifest: {where} is not a descriptor of {kind}")
        size = entry.get("size")
        try:
            Digest(parse_oci(str(entry.get("digest"))), size if type(size) is int else -1)
        except IntegrityError as error:
            raise MalformedError(f"manifest: {where}: {error.what}, {error.found}") from None
    if not isinstance(document.get("annotations", {}), dict):
        raise MalformedError("manifest: annotations are not an object")
    return document


def read_config(data: bytes) -> dict[str, Any]:
    """The image config in `data`.

    Raises:
        MalformedError: it is not a JSON object with diff_ids.
    """
    document = _object(data, "config", CONFIG_KEYS)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
        raise MalformedError("the config has no rootfs.diff_ids")
    return document


def _object(data: bytes, what: str, known: Collection[str]) -> dict[str, Any]:
    try:
        document = loads(data, known)
    except AmbiguousJsonError as error:
        raise MalformedError(f"readers of the {what} would differ: {error}") from None
    except ValueError as error:
        raise MalformedError(f"the {what} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedError(f"the {what} is not a JSON object")
    return document


def check_blobs(
    manifest: Mapping[str, Any],
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
    problems = []
    named = descriptor_digest(manifest["config"])
    found = Digest.of(config_bytes)
    if found != named:
        problems.append(f"config: it is {_shown(found)}, the manifest names {_shown(named)}")
    diff_ids = config["rootfs"]["diff_ids"]
    layers = manifest["layers"]
    if not len(layers) == len(diff_ids) == len(contents):
        problems.append(
            f"{len(layers)} layers in the manifest, {len(diff_ids)} diff_ids in the config, "
            f"{len(contents)} layers there"
        )
        return Check("blobs", "", tuple(problems))
    total = 0
    for number, (entry, diff_id, held) in enumerate(zip(layers, diff_ids, contents, strict=True)):
        title = f"layer {number} ({_title(entry)})"
        if isinstance(held, str):
            problems.append(f"{title}: {held}")
            continue
        wanted = descriptor_digest(entry)
        if compressed and held.digest != wanted:
            problems.append(
                f"{title}: it is {_shown(held.digest)}, the manifest names {_shown(wanted)}"
            )
        if diff_id != f"sha256:{held.diff_id}":
            problems.append(
                f"{title}: unpacked it is sha256:{held.diff_id}, the config names {diff_id}"
            )
        problems += [f"{title}: {problem}" for problem in _table(entry, held)]
        total += wanted.size
    detail = f"{len(layers)} layers and the config, {human_size(total)}"
    return Check("blobs", detail, tuple(problems))


def _table(entry: Mapping[str, Any], held: LayerContents) -> Iterator[str]:
    """Where annotations that lazy pullers believe are not of the layer."""
    annotations = entry.get("annotations")
    for key, wanted in (
        (TOC_DIGEST, f"sha256:{held.toc}" if held.toc else None),
        (UNCOMPRESSED_SIZE, str(held.uncompressed) if held.toc else None),
    ):
        found = annotations.get(key) if isinstance(annotations, dict) else None
        if found != wanted:
            yield f"its annotation {key} should be {wanted or 'absent'}, it is {found or 'absent'}"


def _shown(digest: Digest) -> str:
    return f"{digest.oci} of {digest.size} bytes"


def _title(entry: Mapping[str, Any]) -> str:
    annotations = entry.get("annotations")
    title = annotations.get(TITLE) if isinstance(annotations, dict) else ""
    return str(title or entry["digest"])
