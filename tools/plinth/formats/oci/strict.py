"""JSON in which every reader finds the same: no key twice, none in a case of its own.

Go's encoding/json, which engines use, takes a key for a field's whatever its case, with the folding
of Unicode (U+017F is an s, U+212A a k), and lets the last one win; others take the first, or only
the exact one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from plinth.core.digest import read_json

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

STATEMENT_KEYS = frozenset(
    {"_type", "subject", "predicateType", "predicate", "name", "uri", "digest", "sha256"}
    | {"content", "downloadLocation", "mediaType", "annotations"}
)
"""Fields of in-toto statements and of the resource descriptors in them (Statement v1)."""

MAX_DEPTH = 200
"""Objects and arrays within each other that are read; statements have a tenth of it. What is read
can be written again, and compared, without the end of Python's stack (1,000 calls)."""

# Every reader takes their keys as they are.
_MAPS = ("annotations", "Labels", "ExposedPorts", "Volumes")


class AmbiguousJsonError(ValueError):
    """JSON that readers would differ about."""


def loads(data: bytes, known: Collection[str] = ()) -> Any:
    """The value in `data`, whose objects have, among others, the fields `known`.

    Raises:
        AmbiguousJsonError: an object has a key twice, two keys that differ only in case, or one
            that differs only in case from one of `known`; the message names both and the object.
        ValueError: it cannot be read (`read_json`), or has more than `MAX_DEPTH` values within each
            other.
    """
    value = read_json(data, _once)
    try:
        folded = {key.casefold(): key for key in known}
        found = _difference(value, folded) if isinstance(value, dict | list) else None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if found:
        at = f" (in {found[1][:200].lstrip('.')})" if found[1] else ""
        raise AmbiguousJsonError(found[0] + at)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise AmbiguousJsonError(f"the key {key[:100]!r} is there twice")
        found[key] = value
    return found


def _difference(
    value: dict[str, Any] | list[Any],
    known: Mapping[str, str],
    *,
    exact: bool = False,
    depth: int = 1,
) -> tuple[str, str] | None:
    """What readers of `value` would differ about, and its path, if anything; where `exact`, the
    keys of the outermost object are not looked at. It is `depth` values deep in the document."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict) and not exact and (what := _alike(value, known)):
        return what, ""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict | list) and (
            found := _difference(item, known, exact=key in _MAPS, depth=depth + 1)
        ):
            at = f".{key}" if isinstance(key, str) else f"[{key}]"
            return found[0], at + found[1]
    return None


def _alike(keys: Collection[str], known: Mapping[str, str]) -> str:
    """Which of the keys are one but for their case, or one of `known`; empty if there are none."""
    seen: dict[str, str] = {}
    for key in keys:
        folded = key.casefold()
        if seen.setdefault(folded, key) != key:
            return f"the keys {seen[folded][:100]!r} and {key[:100]!r} differ only in case"
    for folded, key in seen.items():
        if known.get(folded, key) != key:
            return f"the key {key[:100]!r} differs only in case from {known[folded]!r}"
    return ""
