"""Which files the target can install, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.tags import Tag

from plinth.core.digest import Digest
from plinth.fetch.pypi.candidates import Candidate, best, candidates
from plinth.fetch.pypi.page import IndexFile
from plinth.recipe.image import Target, load_target
from plinth.recipe.target import fits, tags

ROOT = Path(__file__).resolve().parents[3]
TARGET = Target("3.7", (2, 27), "amd64", ())


def chosen(*names: str, requires_python: str = "") -> list[Candidate]:
    files = [
        IndexFile(name, "", Digest.of(name.encode()), "", requires_python, False, "")
        for name in names
    ]
    return list(candidates(files, TARGET))


def accepted(tag: str) -> bool:
    return bool(chosen(f"demo-1.0-{tag}.whl"))


@pytest.mark.parametrize(
    "tag",
    [
        "cp37-cp37m-manylinux_2_27_x86_64",
        "cp37-cp37m-manylinux_2_5_x86_64",
        "cp37-cp37m-manylinux2014_x86_64",
        "cp37-cp37m-manylinux2010_x86_64",
        "cp37-cp37m-manylinux1_x86_64",
        "cp37-cp37m-linux_x86_64",
        "cp37-cp37m-manylinux_2_12_x86_64.manylinux2010_x86_64",
        "cp37-cp37m-manylinux_2_28_x86_64.manylinux_2_17_x86_64",
        "cp37-abi3-manylinux2014_x86_64",
        "cp36-abi3-manylinux2014_x86_64",
        "cp32-abi3-manylinux1_x86_64",
        "cp37-none-manylinux2014_x86_64",
        "cp37-none-any",
        "py37-none-any",
        "py3-none-any",
        "py2.py3-none-any",
        "py30-none-any",
        "py3-none-manylinux2014_x86_64",
    ],
)
def test_wheels_the_target_can_install(tag: str) -> None:
    assert accepted(tag)


@pytest.mark.parametrize(
    "tag",
    [
        "cp37-cp37m-manylinux_2_28_x86_64",
        "cp37-cp37m-manylinux_2_31_x86_64",
        "cp37-abi3-manylinux_2_28_x86_64",
        "py3-none-manylinux_2_34_x86_64",
        "cp37-cp37m-manylinux_3_5_x86_64",
        "cp37-cp37m-manylinux2014_aarch64",
        "cp37-cp37m-manylinux2014_i686",
        "cp37-cp37m-musllinux_1_1_x86_64",
        "cp37-cp37m-macosx_10_9_x86_64",
        "cp37-cp37m-win_amd64",
        # From 3.8 on there is no m; before, without it is another ABI.
        "cp37-cp37-manylinux2014_x86_64",
        "cp37-cp37dm-manylinux2014_x86_64",
        "cp38-cp38-manylinux2014_x86_64",
        "cp36-cp36m-manylinux2014_x86_64",
        "cp38-abi3-manylinux2014_x86_64",
        "cp38-none-any",
        "py38-none-any",
        "py2-none-any",
        "pp37-pypy37_pp73-manylinux2014_x86_64",
    ],
)
def test_wheels_the_target_cannot_install(tag: str) -> None:
    assert not accepted(tag)


def test_the_best_fitting_comes_first() -> None:
    names = [
        "demo-1.0-cp37-cp37m-manylinux_2_27_x86_64.whl",
        "demo-1.0-cp37-cp37m-manylinux_2_17_x86_64.whl",
        "demo-1.0-cp37-cp37m-manylinux2014_x86_64.whl",
        "demo-1.0-cp37-cp37m-manylinux2010_x86_64.whl",
        "demo-1.0-cp37-cp37m-manylinux1_x86_64.whl",
        "demo-1.0-cp37-cp37m-linux_x86_64.whl",
        "demo-1.0-cp37-abi3-manylinux2014_x86_64.whl",
        "demo-1.0-cp36-abi3-manylinux2014_x86_64.whl",
        "demo-1.0-py37-none-any.whl",
        "demo-1.0-py3-none-any.whl",
        "demo-1.0.tar.gz",
    ]
    found = sorted(chosen(*reversed(names)), key=lambda candidate: candidate.rank)
    assert [candidate.file.name for candidate in found] == names
    assert [candidate.is_sdist for candidate in found] == [False] * 10 + [True]
    assert len({candidate.rank for candidate in found}) == len(names)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        # PEP 427: a number, then text; none is least.
        (["demo-1.0-py3-none-any.whl", *(f"demo-1.0-{n}-py3-none-any.whl" for n in (1, 2, 10))], 3),
        (["demo-1.0-2a-py3-none-any.whl", "demo-1.0-2b-py3-none-any.whl"], 1),
        # The tag comes before the build.
        (["demo-1.0-9-py3-none-any.whl", "demo-1.0-1-py37-none-any.whl"], 1),
        (["demo-1.0-py3-none-any.whl", "demo-1.0-py2.py3-none-any.whl"], 1),
    ],
)
def test_of_one_version_the_most_specific_tag_then_the_highest_build_is_best(
    names: list[str], wanted: int
) -> None:
    assert best(chosen(*names)).file.name == names[wanted]
    assert best(chosen(*reversed(names))).file.name == names[wanted]


def test_a_wheel_of_several_tags_ranks_as_its_best() -> None:
    one, several = chosen(
        "demo-1.0-cp37-cp37m-manylinux_2_17_x86_64.whl",
        "demo-1.0-py3.cp37-none.cp37m-any.manylinux_2_17_x86_64.whl",
    )
    assert several.rank == one.rank


def test_the_first_tag_is_the_most_specific_and_the_last_the_least() -> None:
    ranks = tags("3.7", (2, 27), "amd64")
    assert min(ranks, key=ranks.__getitem__) == Tag("cp37", "cp37m", "manylinux_2_27_x86_64")
    assert max(ranks, key=ranks.__getitem__) == Tag("py30", "none", "any")
    assert not any(tag.platform.startswith("manylinux_2_28") for tag in ranks)


def test_another_python_and_glibc_have_other_tags() -> None:
    ranks = tags("3.10", (2, 35), "amd64")
    assert min(ranks, key=ranks.__getitem__) == Tag("cp310", "cp310", "manylinux_2_35_x86_64")
    assert Tag("cp37", "abi3", "manylinux_2_28_x86_64") in ranks


@pytest.mark.parametrize(
    ("requires", "fits"),
    [
        ("", True),
        (">=3.7", True),
        (">=3.7.1", True),
        ("~=3.7", True),
        ("==3.7.*", True),
        (">=2.7, !=3.0.*, !=3.1.*", True),
        ("<4", True),
        (">=3.8", False),
        ("<3.7", False),
        ("==2.7.*", False),
        ("!=3.7.*", False),
        # What cannot be read excludes nothing, as in pip.
        ("3.6 or so", True),
    ],
)
def test_requires_python_decides(requires: str, fits: bool) -> None:
    assert bool(chosen("demo-1.0-py3-none-any.whl", requires_python=requires)) is fits
    assert bool(chosen("demo-1.0.tar.gz", requires_python=requires)) is fits


@pytest.mark.parametrize(
    ("requires", "canonical", "both"),
    [
        (">=3.7.9", True, True),
        (">=3.7.10", False, False),
        # The other base has an interpreter that is found, of any release.
        ("<3.7.10", True, False),
        (">=3.7", True, True),
    ],
)
def test_the_interpreters_of_all_bases_decide_by_their_release(
    requires: str, canonical: bool, both: bool
) -> None:
    pair = load_target(ROOT / "base", "ubuntu18.04-py37")
    assert pair.releases == ("3.7.9", "3.7.99")
    alone = replace(pair, bases=pair.bases[:1])
    file = IndexFile("demo-1.0.tar.gz", "", Digest.of(b""), "", requires, False, "")
    assert bool([*candidates([file], alone)]) is canonical
    assert bool([*candidates([file], pair)]) is both


def test_names_that_cost_more_than_a_file_can_have_are_passed_over() -> None:
    wide = ".".join(f"py{number}" for number in range(300))
    names = [f"demo-1.0-{wide}.py3-{wide}.none-{wide}.any.whl", f"demo-{'1' * 5000}.tar.gz"]
    assert [one.file.name for one in chosen(*names, "demo-1.0.tar.gz")] == ["demo-1.0.tar.gz"]


def test_sdists_count_with_their_version() -> None:
    (gz,) = chosen("demo-1.0rc1.tar.gz")
    assert (str(gz.version), gz.is_sdist) == ("1.0rc1", True)
    (old,) = chosen("Demo_Name-1.0.zip")
    assert (str(old.version), old.is_sdist) == ("1.0", True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "demo",
        "demo-1.0.exe",
        "demo-1.0.win32.msi",
        "demo-1.0-py3.7.egg",
        "demo-1.0.tar.bz2",
        "demo-1.0.dev-r1.rpm",
        "demo-latest.tar.gz",
        "demo.tar.gz",
        "demo-1.0-py3-none.whl",
        "demo-one-py3-none-any.whl",
        "demo-1.0-build-py3-none-any.whl",
    ],
)
def test_names_that_are_neither_are_passed_over(name: str) -> None:
    sound = "demo-1.0-py3-none-any.whl"
    assert [candidate.file.name for candidate in chosen(name, sound)] == [sound]


def test_what_is_passed_over_hides_nothing_behind_it() -> None:
    names = ["demo-1.0.exe", "demo-one-py3-none-any.whl", "demo-1.0-py3-none-any.whl"]
    assert [one.file.name for one in chosen(*names)] == names[2:]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo-1.0-py3-none-any.whl", True),
        ("demo-1.0-cp38-cp38-any.whl", False),
        ("demo-1.0.tar.gz", False),
        ("demo-one-py3-none-any.whl", False),
        ("", False),
    ],
)
def test_names_of_wheels_that_fit(name: str, expected: bool) -> None:
    assert fits(name, TARGET) is expected
