"""Control text: what python-debian reads is read alike, what readers differ about is refused."""

from __future__ import annotations

import pytest
from debian.deb822 import Deb822
from hypothesis import given
from hypothesis import strategies as st

from plinth.core.errors import PackageError
from plinth.formats.debian.control import paragraphs, parse

TEXT = """\
Package: demo
Version:  1.0\t
Description: a package
 of two lines
 .
\tand more
X-Empty:
"""


def test_fields_are_found_in_any_case_without_the_space_around_them() -> None:
    fields = parse(TEXT)
    assert fields["Package"] == fields["package"] == fields.get("PACKAGE") == "demo"
    assert fields["Version"] == "1.0"
    assert fields["Description"] == "a package\n of two lines\n .\n\tand more"
    assert (fields["X-Empty"], fields.get("Depends"), fields.get("Depends", "x")) == ("", "", "x")
    assert fields.has("Package", "x-empty")
    assert not fields.has("Package", "Depends")
    with pytest.raises(PackageError, match="the field Depends is missing"):
        fields["Depends"]


def test_paragraphs_are_divided_by_empty_lines() -> None:
    assert list(paragraphs("\n\nA: 1\nB: 2\n\n\n\nA: 3\n\n")) == ["A: 1\nB: 2", "A: 3"]
    assert list(paragraphs("\n")) == list(paragraphs("")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A: 1\nnonsense\n", "line 2 is not a field: 'nonsense'"),
        (" goes on\nA: 1", "line 1 is not a field: ' goes on'"),
        ("A: 1\n \n B: 2", "line 2 is not a field: ' '"),
        ("A: 1\n\nB: 2", "line 2 is not a field: ''"),
        ("A: 1\n# B: 2", "line 2 is not a field: '# B: 2'"),
        ("-A: 1", "line 1 is not a field: '-A: 1'"),
        ("A b: 1", "line 1 is not a field: 'A b: 1'"),
        ("Grüße: 1", "line 1 is not a field: 'Grüße: 1'"),
        (": 1", "line 1 is not a field: ': 1'"),
        ("", "line 1 is not a field: ''"),
        ("A: 1\nB: 2\nA: 1", "duplicate field 'a' in line 3"),
        ("Depends: x\nDEPENDS: y", "duplicate field 'depends' in line 2"),
    ],
)
def test_text_that_readers_read_differently_is_refused(text: str, message: str) -> None:
    with pytest.raises(PackageError) as raised:
        parse(text)
    assert raised.value.what == message


def test_comments_are_skipped_where_they_are_allowed() -> None:
    fields = parse("# x\nA: 1\n#B: 2\n 3\n", comments=True)
    assert fields["A"] == "1\n 3"
    assert not fields.has("B")


NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1
)
LINES = st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Z"]), min_size=1)


@given(
    st.lists(
        st.tuples(NAMES.filter(lambda name: name[0] not in "#-"), st.lists(LINES, min_size=1)),
        min_size=1,
        unique_by=lambda field: field[0].lower(),
    )
)
def test_sound_paragraphs_are_read_as_python_debian_reads_them(
    fields: list[tuple[str, list[str]]],
) -> None:
    text = "\n".join(name + ": " + "\n ".join(lines) for name, lines in fields)
    found = parse(text)
    other = Deb822(text)
    assert {name: found[name] for name, _ in fields} == {name: other[name] for name, _ in fields}
