"""File names of wheels and sdists, and versions as text: read in one way, bounded."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from packaging.version import Version

import plinth
from plinth.core.errors import WheelError
from plinth.formats.wheel import record
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.filename import (
    MAX_FILENAME,
    MAX_TAGS,
    identity,
    is_normal_name,
    is_of,
    normal_version,
    of_url,
    parse_wheel,
)
from plinth.formats.wheel.metadata import parse
from support.helpers import make_wheel

DIGITS = "9" * 5000
BOMB = ".".join(f"a{number}" for number in range(200))


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.0", "1.0"), ("v1.0-POST1", "1.0.post1"), (" 1!2+Cpu.1\n", "1!2+cpu.1"), ("01.a", "1a0")],
)
def test_a_version_has_one_normal_form(text: str, version: str) -> None:
    assert normal_version(text) == version


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "x", "1.0\nevil==2", "1.0;a", "1.0,>2", "1.*", "1.0 # a", "1.0 --hash=x", "\uff11.0"),
        *(DIGITS, 1, None),
    ],
)
def test_what_is_no_version_is_refused_in_a_short_sentence(wrong: object) -> None:
    with pytest.raises(ValueError, match="is not a version") as raised:
        normal_version(wrong)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("name", ["a", "a-b", "3d"])
def test_a_normal_name(name: str) -> None:
    assert is_normal_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "a_b", "a--b", "-a", "a-", "a\n", "a[b]", "a b", "\u00e9"]
)
def test_what_is_no_normal_name(name: str) -> None:
    assert not is_normal_name(name)


def test_a_file_name_has_a_name_and_a_version() -> None:
    assert identity("Demo_App-1.0-1-py3-none-any.whl") == ("demo-app", Version("1"))
    assert identity("Demo.App-1.0.tar.gz") == identity("demo-app-1.0.zip")
    assert is_of("demo_app-1.0.0-py3-none-any.whl", "demo-app", "1")
    assert not is_of("demo_app-1.0.1-py3-none-any.whl", "demo-app", "1")
    assert not is_of("demo_app-1.0-py3-none-any.whl", "demo", "1")
    assert not is_of("demo_app-1.0.tar.gz", "demo-app", "x")


@pytest.mark.parametrize(
    "filename",
    [
        *(
            "",
            "a",
            "a-1.0",
            "a-1.0.egg",
            "a-1.0.whl",
            "a b-1.0.tar.gz",
            "a\n-1.0.zip",
            "-1.0.tar.gz",
        ),
        *(f"a-{DIGITS}.tar.gz", f"a-{DIGITS}-py3-none-any.whl", f"a-1-{DIGITS}-py3-none-any.whl"),
    ],
)
def test_what_is_no_file_name_of_either_is_refused(filename: str) -> None:
    with pytest.raises(ValueError):
        identity(filename)
    assert not is_of(filename, "a", "1.0")


def test_a_name_of_very_many_tags_is_refused_before_they_are_multiplied() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_FILENAME} bytes"):
        parse_wheel(f"a-1-{BOMB}-{BOMB}-{BOMB}.whl")
    with pytest.raises(ValueError, match=f"at most {MAX_FILENAME} bytes"):
        parse_wheel("\u00e9" * 120 + "-1.0-py3-none-any.whl")
    few = ".".join("abcdefghij")
    assert len(parse_wheel(f"a-1-{few}-{few}-{few}.whl")[3]) == MAX_TAGS
    with pytest.raises(ValueError, match=f"at most {MAX_TAGS} tags"):
        parse_wheel(f"a-1-{few}-{few}-{few}.k.whl")
    fitting = f"{'a' * (MAX_FILENAME - 19)}-1.0-py3-none-a.whl"
    assert len(fitting) == MAX_FILENAME
    assert parse_wheel(fitting)[1] == Version("1.0")


def test_the_file_name_of_a_url_is_decoded() -> None:
    assert of_url("https://h/a/b-1.0%2Bcpu.tar.gz?x=/y#z/z") == "b-1.0+cpu.tar.gz"
    assert of_url("https://h") == ""
    with pytest.raises(ValueError):
        of_url("http://[::1")


def test_metadata_of_a_version_without_end_is_of_no_package() -> None:
    assert not parse(f"Name: a\nVersion: {DIGITS}\n".encode()).is_of("a", "1")


def test_a_wheel_whose_version_has_no_end_is_a_wheel_error(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    for filename in (f"demo-{'9' * 5000}-py3-none-any.whl", f"demo-1-{BOMB}-{BOMB}-{BOMB}.whl"):
        with pytest.raises(WheelError):
            WheelArchive(path, filename)


def test_the_sha256_of_a_row() -> None:
    assert record.sha256_of(record.hash_of(b"x")) == hashlib.sha256(b"x").hexdigest()
    for wrong in ("", "sha256=", "sha256=\u00e9", f"sha512={'A' * 43}", f"sha256={'A' * 42}"):
        with pytest.raises(ValueError, match="is not a SHA-256"):
            record.sha256_of(wrong)


def test_nothing_else_reads_names_without_bounds() -> None:
    """A name costs as much as the product of its tags: one place bounds it."""
    root = Path(plinth.__file__).parent
    reads = re.compile(r"\bparse_(wheel|sdist)_filename\b")
    found = [path for path in root.rglob("*.py") if reads.search(path.read_text(encoding="utf-8"))]
    assert found == [root / "formats/wheel/filename.py"]
