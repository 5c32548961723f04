"""Core metadata: one name, one version, requirements as worded, licences as declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import WheelError
from plinth.formats.wheel import metadata
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.metadata import parse
from support.helpers import make_wheel

HEAD = "Metadata-Version: 2.1\nName: A_b\nVersion: 1.0\n"


def test_requires_dist_is_read_as_worded() -> None:
    text = (
        f"{HEAD}Requires-Dist: b (>=1)\nRequires-Dist: c;\n  extra == 'x'\nRequires: old\n\n"
        "Requires-Dist: in the description\n"
    )
    for data in (text.encode() + b"\xff", text.replace("\n", "\r\n").encode()):
        assert parse(data).requires == ("b (>=1)", "c; extra == 'x'")


def test_name_and_version_are_compared_as_packaging_normalizes_them() -> None:
    found = parse(HEAD.encode())
    assert (found.name, found.version) == ("A_b", "1.0")
    assert found.is_of("a-b", "1")
    assert not found.is_of("a-b", "1.1")
    assert not found.is_of("a", "1.0")


@pytest.mark.parametrize("line", ["Name: A_b\n", "name: other\n", "Version: 1.0\n", "VERSION: 2\n"])
def test_a_second_name_or_version_leaves_it_without_one(line: str) -> None:
    found = parse(f"{HEAD}{line}".encode())
    assert "" in (found.name, found.version)
    assert not found.is_of("a-b", "1.0")


@pytest.mark.parametrize(
    ("lines", "licences"),
    [
        ("", ()),
        ("License: MIT\n", ("MIT",)),
        (
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: BSD License\n",
            ("BSD License",),
        ),
        ("License-Expression: MIT OR Apache-2.0\nLicense: x\n", ("MIT OR Apache-2.0",)),
        (f"License: {'x' * 101}\nClassifier: License :: OSI Approved\n", ()),
        ("License: Zope\n  and more\n", ("Zope",)),
        (
            "Classifier: License :: B\nClassifier: License :: A\nClassifier: License :: A\n",
            ("A", "B"),
        ),
    ],
)
def test_licences_as_declared(lines: str, licences: tuple[str, ...]) -> None:
    assert parse(f"{HEAD}{lines}".encode()).licences == licences


def test_a_description_of_nested_parts_is_not_parsed() -> None:
    parts = "".join(
        f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(3000)
    )
    data = f"{HEAD}Content-Type: multipart/mixed; boundary=b0\n\n{parts}".encode()
    assert parse(data).is_of("a-b", "1.0")


def test_metadata_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_wheel(tmp_path)
    monkeypatch.setattr(metadata, "MAX", 20)
    with WheelArchive(path, path.name) as wheel, pytest.raises(WheelError) as raised:
        metadata.read(wheel)
    assert raised.value.where == f"{path.name}: demo-1.0.dist-info/METADATA"
    assert raised.value.what == "larger than 20 bytes"
