"""JSON about which readers would differ is refused, and both keys are named."""

from __future__ import annotations

import json
from collections.abc import Collection

import pytest

from plinth.core.digest import canonical_json
from plinth.formats.oci.strict import (
    ARCHIVE_KEYS,
    CONFIG_KEYS,
    MANIFEST_KEYS,
    AmbiguousJsonError,
    loads,
)


@pytest.mark.parametrize(
    ("text", "known", "message"),
    [
        ('{"a": 1, "a": 1}', (), "the key 'a' is there twice"),
        ('{"a": 1, "\\u0061": 2}', (), "the key 'a' is there twice"),
        ('[{"b": {"a": 1, "A": 2}}]', (), "the keys 'a' and 'A' differ only in case (in [0].b)"),
        ('{"digest": 1, "DIGEST": 2}', (), "the keys 'digest' and 'DIGEST' differ only in case"),
        # What Go folds besides (unicode.SimpleFold): the long s and the Kelvin sign.
        ('{"size": 1, "\u017fize": 2}', (), "'size' and '\u017fize' differ only in case"),
        ('{"\\u212aey": 1, "key": 2}', (), "'\u212aey' and 'key' differ only in case"),
        ('{"DIGEST": 1}', MANIFEST_KEYS, "'DIGEST' differs only in case from 'digest'"),
        ('{"manife\u017ft\u017f": []}', MANIFEST_KEYS, "differs only in case from 'manifests'"),
        ('{"config": {"entrypoint": []}}', CONFIG_KEYS, "from 'Entrypoint' (in config)"),
        ('{"RootFS": {}}', CONFIG_KEYS, "'RootFS' differs only in case from 'rootfs'"),
        ('[{"config": ""}]', ARCHIVE_KEYS, "'config' differs only in case from 'Config' (in [0])"),
        # Keys of the maps themselves are fields.
        ('{"annotations": {}, "Annotations": {}}', (), "'annotations' and 'Annotations'"),
        ('{"annotations": {"a": "", "a": ""}}', (), "the key 'a' is there twice"),
        ('{"annotations": {"x": {"a": 1, "A": 2}}}', (), "(in annotations.x)"),
    ],
)
def test_ambiguous_keys_are_refused_naming_both(
    text: str, known: Collection[str], message: str
) -> None:
    with pytest.raises(AmbiguousJsonError) as raised:
        loads(text.encode(), known)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ('{"a": {"b": 1}, "b": [{"a": 1}]}', ()),
        ('{"mediaType": "x", "config": {"digest": ""}, "x": 1}', MANIFEST_KEYS),
        # Old configs of Docker have it, beside no "size".
        ('{"Size": 1, "config": {"Labels": {"config": "", "Config": ""}}}', CONFIG_KEYS),
        ('[{"Config": "", "LayerSources": {"x": {"size": 1}}}]', ARCHIVE_KEYS),
        # Every reader takes these by their exact keys.
        ('{"annotations": {"Name": "", "name": "", "Digest": ""}}', MANIFEST_KEYS),
    ],
)
def test_keys_that_every_reader_tells_apart_are_taken(text: str, known: Collection[str]) -> None:
    assert loads(text.encode(), known) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{} {}",
        b"NaN",
        b'{"a": -Infinity}',
        b"[1e999]",
        b'{"a": [-1.5E+400]}',
        b"9" * 5000,
        b'"\\ud800"',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        b"[" * 200_000,
        b"[" * 201 + b"]" * 201,
        b'{"a":' * 201 + b"1" + b"}" * 201,
    ],
)
def test_what_is_not_json_in_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        loads(data)


@pytest.mark.parametrize(
    "data", [b"1e308", b"[-1.5, 1e-999]", b'{"a": 123456789012345678901234567890}']
)
def test_what_is_read_can_be_written_again(data: bytes) -> None:
    assert json.loads(canonical_json(loads(data))) == json.loads(data)
