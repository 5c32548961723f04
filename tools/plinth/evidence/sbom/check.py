"""An SBOM against the one that the image and its locks give: the same bytes, or which field
differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from plinth.core.errors import Problem

_KEYS = ("bom-ref", "ref", "name", "alg")
_SHOWN = 200


def check_sbom(document: bytes, wanted: bytes) -> list[Problem]:
    """Where the canonical JSON `document`, an object, is not `wanted`: each field by its path, in
    which a component is called by its `bom-ref`."""
    if document == wanted:
        return []
    found = [*_differences("", json.loads(document), json.loads(wanted))]
    return found or [Problem("", "no value differs, the bytes do")]


def _differences(path: str, said: object, made: object) -> Iterator[Problem]:
    if isinstance(said, list) and isinstance(made, list):
        ours, theirs = _named(said), _named(made)
        if ours is not None and theirs is not None:
            said, made = ours, theirs
        else:
            said, made = dict(enumerate(said)), dict(enumerate(made))
        shape = "{}[{}]"
    else:
        shape = "{}.{}" if path else "{}{}"
    if isinstance(said, Mapping) and isinstance(made, Mapping):
        for key in [*made, *(key for key in said if key not in made)]:
            yield from _differences(shape.format(path, key), said.get(key), made.get(key))
    elif json.dumps(said) != json.dumps(made):
        message = f"the SBOM has {_shown(said)}, image and locks give {_shown(made)}"
        yield Problem(path, message)


def _named(entries: list[Any]) -> dict[str, Any] | None:
    """`entries` by what names them; None where something does not, or names two."""
    named: dict[str, Any] = {}
    for entry in entries:
        names = [entry[key] for key in _KEYS if key in entry] if isinstance(entry, dict) else []
        if not names or not isinstance(names[0], str) or names[0] in named:
            return None
        named[names[0]] = entry
    return named


def _shown(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) < _SHOWN else f"{text[:_SHOWN]}…"
