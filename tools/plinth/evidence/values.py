"""Where a JSON value is not the one it should be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_ABSENT = object()
_SHOWN = 200


class Difference(NamedTuple):
    """The `path` of a value, and what is `wanted` and `found` there, as JSON for people, cut where
    it is long; "nothing" where there is none."""

    path: str
    wanted: str
    found: str


def differing(path: str, wanted: object, found: object) -> Iterator[Difference]:
    """Where the JSON value `found` at `path` is not the `wanted` one: a field that is null, and one
    that is absent, are two things, and so are 1, 1.0 and true."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in sorted({*wanted, *found}):
            at = f"{path}.{key}" if path else key
            yield from differing(at, wanted.get(key, _ABSENT), found.get(key, _ABSENT))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differing(f"{path}[{number}]", one, other)
    elif _text(wanted) != _text(found):
        yield Difference(path, _shown(wanted), _shown(found))


def _text(value: object) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _shown(value: object) -> str:
    text = _text(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
