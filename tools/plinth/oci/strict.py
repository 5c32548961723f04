"""JSON in which every reader finds the same: no key twice, none in a case of its own.

Go's encoding/json, which engines use, takes a key for a field's whatever its case, with the folding
of Unicode (U+017F is an s, U+212A a k), and lets the last one win; others take the first, or only
the exact one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

_PLATFORM = {"architecture", "os", "os.version", "os.features", "variant", "features"}
_DESCRIPTOR = {"mediaType", "artifactType", "digest", "size", "urls", "data", "platform"}
MANIFEST_KEYS = frozenset(
    {"schemaVersion", "config", "layers", "manifests", "subject", "annotations"}
    | _DESCRIPTOR
    | _PLATFORM
)
"""Fields of indexes, manifests and descriptors (OCI image-spec)."""

_PROCESS = {"User", "Env", "Entrypoint", "Cmd", "WorkingDir", "StopSignal", "ArgsEscaped"}
_CONTAINER = {"ExposedPorts", "Volumes", "Labels", "Healthcheck", "OnBuild", "Shell", "StopTimeout"}
CONFIG_KEYS = frozenset(
    {"created", "author", "config", "rootfs", "type", "diff_ids"}
    | {"history", "created_by", "comment", "empty_layer"}
    | _PLATFORM
    | _PROCESS
    | _CONTAINER
)
"""Fields of image configs (OCI image-spec, config.md, with Docker's additions)."""

ARCHIVE_KEYS = frozenset({"Config", "RepoTags", "Layers", "Parent", "LayerSources"})
"""Fields of manifest.json in what `docker save` writes."""

# Every reader takes their keys as they are.
_MAPS = ("annotations", "Labels", "ExposedPorts", "Volumes")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class AmbiguousJsonError(ValueError):
    """JSON that readers would differ about."""


def loads(data: bytes, known: Collection[str] = ()) -> Any:
    """The value in `data`, whose objects have, among others, the fields `known`.

    Raises:
        AmbiguousJsonError: an object has a key twice, two keys that differ only in case, or one
            that differs only in case from one of `known`; the message names both and the object.
        ValueError: it is not JSON in UTF-8 (RFC 8259), or has half of a surrogate pair.
    """
    text = data.decode("utf-8")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_not_a_number)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        _check(value, "", {key.casefold(): key for key in known})
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise AmbiguousJsonError(f"the key {twice[:100]!r} is there twice")
    return found


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _check(value: object, path: str, known: Mapping[str, str], *, exact: bool = False) -> None:
    """Check every object in `value`; where `exact`, but for the keys of the outermost."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check(item, f"{path}[{number}]", known)
    elif isinstance(value, dict):
        if not exact:
            _check_keys(value, path, known)
        for key, item in value.items():
            _check(item, f"{path}.{key}" if path else key, known, exact=key in _MAPS)


def _check_keys(keys: Collection[str], path: str, known: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    at = f" (in {path[:200]})" if path else ""
    for key in keys:
        folded = key.casefold()
        if seen.setdefault(folded, key) != key:
            both = f"{seen[folded][:100]!r} and {key[:100]!r}"
            raise AmbiguousJsonError(f"the keys {both} differ only in case{at}")
    for folded, key in seen.items():
        if known.get(folded, key) != key:
            raise AmbiguousJsonError(
                f"the key {key[:100]!r} differs only in case from {known[folded]!r}{at}"
            )
