"""File names of wheels and sdists: read as packaging reads them, within bounds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)

import plinth
from plinth.formats.wheel.filename import MAX_TAGS, excess, parse_sdist, parse_wheel

MANY = "demo-1-" + ".".join(f"py{n}" for n in range(25)) + "-a.b.c.d.e.f.g.h.i.j-{}.whl"


@pytest.mark.parametrize(
    "name",
    [
        "demo-1.0-py3-none-any.whl",
        "demo-1.0-2b-py2.py3-none-any.whl",
        "numpy-1.21-cp37-cp37m-manylinux_2_12_x86_64.manylinux2010_x86_64.whl",
        MANY.format("a.b.c.d"),
        "a" * 233 + "-1.0-py3-none-any.whl",
    ],
)
def test_what_people_publish_is_read_as_packaging_reads_it(name: str) -> None:
    assert parse_wheel(name) == parse_wheel_filename(name)
    assert excess(name) == ""


def test_an_sdist_is_read_as_packaging_reads_it() -> None:
    assert parse_sdist("demo_x-1.0.tar.gz") == parse_sdist_filename("demo_x-1.0.tar.gz")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (MANY.format("a.b.c.d.e"), f"1250 tags; at most {MAX_TAGS}"),
        ("demo-1-" + "-".join([".".join(f"p{n}" for n in range(999))] * 3) + ".whl", "longer than"),
        ("a" * 235 + "-1.0-py3-none-any.whl", "longer than 255 bytes"),
        ("\u00e9" * 120 + "-1.0-py3-none-any.whl", "longer than 255 bytes"),
        ("demo-1.0.whl", "wrong number of parts"),
    ],
)
def test_names_that_are_not_worth_reading(name: str, message: str) -> None:
    with pytest.raises(InvalidWheelFilename, match=message):
        parse_wheel(name)


def test_a_version_with_too_many_digits() -> None:
    with pytest.raises(InvalidSdistFilename, match="longer than 255 bytes"):
        parse_sdist(f"demo-{'1' * 5000}.tar.gz")


def test_nothing_else_reads_names_without_bounds() -> None:
    """A name costs as much as the product of its tags: one place bounds it."""
    root = Path(plinth.__file__).parent
    reads = re.compile(r"\bparse_(wheel|sdist)_filename\b")
    found = [
        str(path.relative_to(root)) for path in root.rglob("*.py") if reads.search(path.read_text())
    ]
    assert found == ["formats/wheel/filename.py"]
