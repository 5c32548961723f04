"""Mutations of JSON documents: name → function(rng, document, the other image's) → document."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any


class Pairs(list[Any]):
    """A JSON object as its keys and values, which may be there twice."""


class Raw(str):
    """A value as it stands in the text."""


Edit = Callable[[Random, Pairs, Any], object]
"""A change of one object, in place, of which the other image's document has another."""


def load(data: bytes) -> Any:
    """The value in a document; objects are `Pairs`."""
    return json.loads(data, object_pairs_hook=lambda pairs: Pairs(map(list, pairs)))


def dump(value: Any) -> str:
    """The text of a value."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{dump(key)}:{dump(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def encode(text: str) -> bytes:
    """UTF-8; lone surrogates as bytes that are none."""
    return text.encode("utf-8", "surrogatepass")


def objects(value: Any, other: Any) -> list[tuple[Pairs, Any]]:
    """All objects in a document, each with what the other document has in its place."""
    found = []
    if isinstance(value, Pairs):
        found.append((value, other))
        beside = dict(map(tuple, other)) if isinstance(other, Pairs) else {}
        for key, item in value:
            found += objects(item, beside.get(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            there = isinstance(other, list) and number < len(other)
            found += objects(item, other[number] if there else None)
    return found


def edited(edit: Edit) -> Callable[[Random, bytes, bytes], bytes]:
    """Change an object of the document, rather one that differs in the other's."""

    def change(rng: Random, data: bytes, other: bytes) -> bytes:
        value = load(data)
        found = [pair for pair in objects(value, load(other)) if pair[0]]
        differ = [pair for pair in found if pair[1] is not None and pair[0] != pair[1]]
        edit(rng, *rng.choice(differ if differ and rng.random() < 0.7 else found))
        return encode(dump(value))

    return change


def _picked(rng: Random, there: Pairs, other: Any) -> list[tuple[int, Any]]:
    """Numbers of keys of the object, and another value for each: all that the other's differs in,
    for a digest alone leads nowhere, or one."""
    beside = dict(map(tuple, other)) if isinstance(other, Pairs) else {}
    differ = [n for n, (key, item) in enumerate(there) if key in beside and beside[key] != item]
    if differ and rng.random() < 0.8:
        chosen = differ if rng.random() < 0.7 else [rng.choice(differ)]
    else:
        chosen = [rng.randrange(len(there))]
    wild: list[Any] = [None, "", 0, [], Pairs()]
    return [
        (n, copy.deepcopy(beside.get(there[n][0], rng.choice([there[n][1], *wild]))))
        for n in chosen
    ]


def twice(respell: Callable[[Random, str], Any]) -> Edit:
    """Other values, in front or behind, under the keys or ones like them."""

    def edit(rng: Random, there: Pairs, other: Any) -> None:
        picked = _picked(rng, there, other)
        made = [[respell(rng, there[at][0]), value] for at, value in picked]
        at = rng.choice([0, len(there), picked[0][0], picked[-1][0] + 1])
        there[at:at] = made

    return edit


def respelled(respell: Callable[[Random, str], Any]) -> Edit:
    """Keys in another spelling, alone."""

    def edit(rng: Random, there: Pairs, other: Any) -> None:
        for at, _ in _picked(rng, there, other):
            there[at][0] = respell(rng, there[at][0])

    return edit


def valued(make: Callable[[Random, Any], Any]) -> Edit:
    """Another form of a value."""

    def edit(rng: Random, there: Pairs, other: Any) -> None:
        at, _ = rng.choice(_picked(rng, there, other))
        there[at][1] = make(rng, there[at][1])

    return edit


def same(rng: Random, key: str) -> str:
    return key


def other_case(rng: Random, key: str) -> str:
    return rng.choice([key.upper(), key.lower(), key.capitalize(), key.swapcase()])


def folded(rng: Random, key: str) -> str:
    for plain, like in rng.sample([("s", "\u017f"), ("k", "\u212a"), ("i", "\u0131")], 3):
        if plain in key:
            return key.replace(plain, like, 1)
    return key + rng.choice(["\u200b", "\0", " ", "\u0301"])


def escaped(rng: Random, text: str) -> Raw:
    at = rng.randrange(len(text) or 1)
    letter = text[at : at + 1]
    if not letter or letter in '"\\':
        return Raw(json.dumps(text))
    first, last = (
        json.dumps(part, ensure_ascii=False)[1:-1] for part in (text[:at], text[at + 1 :])
    )
    return Raw(f'"{first}\\u{ord(letter):04x}{last}"')


def _from_other(rng: Random, there: Pairs, other: Any) -> None:
    for at, value in _picked(rng, there, other):
        there[at][1] = value


def _removed(rng: Random, there: Pairs, other: Any) -> None:
    del there[rng.choice(_picked(rng, there, other))[0]]


def _shuffled(rng: Random, there: Pairs, other: Any) -> None:
    rng.shuffle(there)


def _retyped(rng: Random, value: Any) -> Any:
    return rng.choice([None, [value], {}, str(value), 0, True, "", Pairs([["", value]]), []])


def _as_float(rng: Random, value: Any) -> Any:
    if type(value) is not int:
        return Raw(rng.choice(["0.0", "-0", "1e999", "NaN", "Infinity", "01", "0x1", "1_0"]))
    forms = [f"{value}.0", f"{value}e0", f"{value}0e-1", f"{value}.5", f"-{value}", f"0{value}"]
    return Raw(rng.choice([*forms, f"+{value}", f"{value + (1 << 64)}", f"{value}E+0"]))


def _text(rng: Random, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    ways = [value.upper(), f"{value} ", f" {value}", f"{value}\0", f"{value}\n", value + "\u0301"]
    return rng.choice([*ways, f"{value}\udcff", value[:-1], value.replace("sha256", "sha512"), "x"])


def _text_escaped(rng: Random, value: Any) -> Any:
    return escaped(rng, value) if isinstance(value, str) else value


_KNOWN: tuple[tuple[str, Any], ...] = (
    ("urls", ["http://127.0.0.1:1/x"]),
    ("data", "eA=="),
    ("artifactType", "application/vnd.example"),
    ("platform", Pairs([["os", "linux"], ["architecture", "arm64"]])),
    ("annotations", Pairs([["x", "y"]])),
    ("manifests", []),
    ("layers", []),
    ("config", Pairs()),
    ("subject", None),
    ("fsLayers", []),
    ("schemaVersion", 1),
    ("mediaType", "application/vnd.docker.distribution.manifest.v2+json"),
    ("mediaType", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ("mediaType", "application/vnd.oci.image.layer.v1.tar"),
    ("mediaType", "application/vnd.oci.image.layer.v1.tar+zstd"),
    ("mediaType", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    ("os.version", "1"),
    ("variant", "v8"),
    ("architecture", "arm64"),
    ("container_config", Pairs([["User", "0"]])),
    ("User", "0"),
    ("Entrypoint", ["/bin/sh"]),
    ("parent", "x"),
    ("Parent", "x"),
    ("LayerSources", Pairs()),
    ("throwaway", True),
    ("empty_layer", True),
    ("x", 1),
    ("", ""),
)


def _known_key(rng: Random, there: Pairs, other: Any) -> None:
    key, value = rng.choice(_KNOWN)
    kept = [pair for pair in there if pair[0] != key]
    there[:] = kept
    there.insert(rng.randrange(len(there) + 1), [key, copy.deepcopy(value)])


def listed(data: bytes, rng: Random, edit: Callable[[list[Any], Any], None], other: bytes) -> bytes:
    """Change a list of the document."""
    value = load(data)
    found = [
        (item, dict(map(tuple, beside)).get(key) if isinstance(beside, Pairs) else None)
        for there, beside in objects(value, load(other))
        for key, item in there
        if isinstance(item, list) and not isinstance(item, Pairs) and item
    ]
    if isinstance(value, list) and not isinstance(value, Pairs):
        found.append((value, load(other)))
    if found:
        edit(*rng.choice(found))
    return encode(dump(value))


def _list(rng: Random, data: bytes, other: bytes) -> bytes:
    def edit(items: list[Any], beside: Any) -> None:
        more = copy.deepcopy(beside[0] if isinstance(beside, list) and beside else items[0])
        kind = rng.randrange(6)
        if kind == 0:
            rng.shuffle(items)
        elif kind == 1:
            del items[rng.randrange(len(items))]
        elif kind == 2:
            items.append(copy.deepcopy(rng.choice(items)))
        else:
            items.insert(0 if kind == 3 else len(items), None if kind == 5 else more)

    return listed(data, rng, edit, other)


def _around(rng: Random, data: bytes, other: bytes) -> bytes:
    front = [b"\xef\xbb\xbf", b" ", b"\n", b"\0", b"//\n", b"[]", b"\x1e"]
    behind = [b"\n", b" ", b"\0", b"{}", other, b",", b"\xff", b"\r\n\t ", b"]", b"\n" * 5000]
    return rng.choice(front) + data if rng.random() < 0.4 else data + rng.choice(behind)


def _coded(rng: Random, data: bytes, other: bytes) -> bytes:
    return data.decode().encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]))


def _spaced(rng: Random, data: bytes, other: bytes) -> bytes:
    value = json.loads(data)
    return json.dumps(value, indent=rng.choice([None, 1, 4, "\t"]), ensure_ascii=False).encode()


def _byte(rng: Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data))
    what = rng.choice([b"", bytes([rng.randrange(256)]), bytes([data[at] ^ 1 << rng.randrange(8)])])
    return data[:at] + what + data[at + rng.randrange(2) :]


def _cut(rng: Random, data: bytes, other: bytes) -> bytes:
    return rng.choice([data[: rng.randrange(len(data))], other, b"", b"null", b"[]", b"{}"])


def _deep(rng: Random, data: bytes, other: bytes) -> bytes:
    deep = rng.choice([100, 9_000, 100_000])
    text = rng.choice(
        ["[" * deep + "]" * deep, '{"a":' * deep + "0" + "}" * deep, '"' + "x" * deep * 20 + '"']
    )
    value = load(data)
    there = value[0] if isinstance(value, list) and not isinstance(value, Pairs) else value
    there.append([rng.choice(["x", "annotations", "z"]), Raw(text)])
    return encode(dump(value))


DOCUMENT = {
    "key twice": edited(twice(same)),
    "key twice, in another case": edited(twice(other_case)),
    "key twice, folded": edited(twice(folded)),
    "key twice, escaped": edited(twice(escaped)),
    "key in another case": edited(respelled(other_case)),
    "key folded": edited(respelled(folded)),
    "key escaped": edited(respelled(escaped)),
    "value of the other": edited(_from_other),
    "value of another type": edited(valued(_retyped)),
    "number": edited(valued(_as_float)),
    "text": edited(valued(_text)),
    "text escaped": edited(valued(_text_escaped)),
    "key removed": edited(_removed),
    "keys in another order": edited(_shuffled),
    "known key": edited(_known_key),
    "list": _list,
    "around": _around,
    "coding": _coded,
    "white space": _spaced,
    "byte": _byte,
    "cut": _cut,
    "deep or long": _deep,
}
