"""Relationship fields and versions by Debian's rules."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from plinth.core.errors import PackageError
from plinth.formats.debian.relations import Relation, relations
from support import needs


def test_a_relation_field_is_groups_of_alternatives() -> None:
    assert relations(
        "libc6 (>= 2.36), debconf (>= 0.5) | debconf-2.0,\n zlib1g:any, a-b.c+d (<<2~)"
    ) == (
        (Relation("libc6", ">=", "2.36"),),
        (Relation("debconf", ">=", "0.5"), Relation("debconf-2.0")),
        (Relation("zlib1g", qualifier="any"),),
        (Relation("a-b.c+d", "<<", "2~"),),
    )
    assert relations("") == relations(" , ") == ()


@pytest.mark.parametrize(
    "text",
    [
        "Libc6",
        "libc6 >= 2",
        "libc6 (>= )",
        "libc6 (2.36)",
        "libc6 (=> 2)",
        "libc6 (== 2)",
        "libc6 (> 2)",
        "libc6 (>= 2_3)",
        "libc6 [amd64]",
        "aa |",
        "x",
    ],
)
def test_an_unreadable_relation_is_named(text: str) -> None:
    with pytest.raises(PackageError, match="unreadable relation") as raised:
        relations(f"good, {text}")
    assert repr(text.split("|")[-1].strip()) in raised.value.what


# From deb-version(7) and Debian policy 5.6.12.
ORDERED = ["1.0~~", "1.0~beta", "1.0", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-10", "1.0a", "1.0+dfsg",
           "1.0.1", "1.10", "1:0.5", "2:0"]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "below", "same", "above"),
    [
        ("<<", True, False, False),
        ("<=", True, True, False),
        ("=", False, True, False),
        (">=", False, True, True),
        (">>", False, False, True),
        ("", True, True, True),
    ],
)
def test_bounds_follow_debian_version_order(
    operator: str, below: bool, same: bool, above: bool
) -> None:
    for place, bound in enumerate(ORDERED):
        relation = Relation("x", operator, bound)
        answers = [relation.admits(version) for version in ORDERED]
        after = len(ORDERED) - place - 1
        assert answers == [below] * place + [same] + [above] * after


@pytest.mark.parametrize(("one", "other"), [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.00", "1.0")])
def test_versions_that_are_written_differently_may_be_equal(one: str, other: str) -> None:
    assert Relation("x", "=", one).admits(other)
    assert not Relation("x", ">>", one).admits(other)


@needs.without("dpkg")
def test_version_order_is_dpkgs() -> None:
    for one, other in itertools.pairwise(ORDERED):
        subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=True)


def test_a_relation_reads_as_it_was_written() -> None:
    assert str(Relation("libc6", ">=", "2.36")) == "libc6 (>= 2.36)"
    assert str(Relation("libc6")) == "libc6"
    assert str(relations("python3:any (>= 3)")[0][0]) == "python3:any (>= 3)"
