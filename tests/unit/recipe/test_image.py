"""Specifications: what is accepted, and every problem reported with file and field path."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from pathlib import Path

import pytest

from plinth.core.errors import SpecError
from plinth.graph.workspace import Workspace
from plinth.recipe.base import DebianRootfs, ImageRootfs, load_base
from plinth.recipe.ids import all_images
from plinth.recipe.image import load_image, load_target

ROOT = Path(__file__).resolve().parents[3]

GOOD = """
framework = "sklearn"
version = "0.24.1"
accelerator = "cpu"
base = "ubuntu18.04-py37"
summary = "a summary"
[python]
requirements = ["scikit-learn==0.24.1", "numpy>=1.16.0"]
as-of = 2026-11-01T02:00:00+02:00
[[python.constraints]]
requirement = "protobuf<3.21"
reason = "breaks"
"""


def problems_of(folder: Path, text: str, name: str = "sklearn-0.24.1") -> list[str]:
    (folder / f"{name}.toml").write_text(text)
    with pytest.raises(SpecError) as raised:
        load_image(folder, name)
    assert all(
        f"images/{name}.toml: {problem}" in str(raised.value) for problem in raised.value.problems
    )
    return [str(problem) for problem in raised.value.problems]


def test_a_good_image(tmp_path: Path) -> None:
    (tmp_path / "sklearn-0.24.1.toml").write_text(GOOD)
    spec = load_image(tmp_path, "sklearn-0.24.1")
    assert spec.requirements == ("scikit-learn==0.24.1", "numpy>=1.16.0")
    assert spec.as_of == datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
    assert spec.constraints[0].reason == "breaks"
    assert (
        spec.published("ubuntu18.04-py37")
        == "azureml/sklearn-0.24.1-ubuntu18.04-py37-cpu-inference"
    )


def test_the_checkouts_specifications_are_good() -> None:
    for image_id in all_images(Workspace(ROOT, ROOT / "build")):
        spec = load_image(ROOT / "images", image_id)
        assert load_target(ROOT / "base", spec.base).glibc == (2, 27)
    minimal = load_image(ROOT / "images", "minimal")
    assert minimal.published("debian12-py37") == "azureml/minimal-debian12-py37-cpu-inference"


def test_the_canonical_base_pins_the_final_ubuntu() -> None:
    base = load_base(ROOT / "base", "ubuntu18.04-py37")
    assert isinstance(base.rootfs, ImageRootfs)
    assert base.rootfs.layer.size == 25_691_281
    assert base.rootfs.manifest.hex.startswith("dca176c9663a7ba4")
    fallback = load_base(ROOT / "base", base.fallback)
    assert isinstance(fallback.rootfs, DebianRootfs)


def test_a_specification_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "sklearn-0.24.1.toml").write_text(GOOD, encoding="utf-8-sig")
    assert load_image(tmp_path, "sklearn-0.24.1").version == "0.24.1"


@pytest.mark.parametrize(
    ("lines", "again"),
    [
        (["a==1; python_version < '3.8'", "A==2; python_version >= '3.8'"], ""),
        (["a_b==1; python_version < '3.8'", "a.b==2; python_version < '3.8'"], "a.b"),
        (["a==1", "a==2; python_version >= '3.8'"], "a"),
        (["a==1; python_version < '3.8'", "a==2"], "a"),
    ],
)
def test_a_project_is_on_several_lines_only_where_each_has_its_marker(
    tmp_path: Path, lines: list[str], again: str
) -> None:
    text = GOOD.replace('["scikit-learn==0.24.1", "numpy>=1.16.0"]', json.dumps(lines))
    if again:
        problem = f"python.requirements[1]: {again} is already required by requirements[0]"
        assert problems_of(tmp_path, text) == [problem]
    else:
        (tmp_path / "sklearn-0.24.1.toml").write_text(text)
        assert load_image(tmp_path, "sklearn-0.24.1").requirements == tuple(lines)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    text = """
framework = 3
accelerator = "TPU!"
surprise = true
[python]
requirements = ["numpy >=> 1", "pandas @ https://host/x.whl", "a", "A", 7]
as-of = "yesterday"
[[python.constraints]]
requirement = "protobuf<3.21"
reason = " "
"""
    problems = sorted(problems_of(tmp_path, text))
    (syntax,) = (one for one in problems if one.startswith("python.requirements[0]: not a PEP 508"))
    problems.remove(syntax)
    assert problems == [
        "accelerator: expected cpu or a set's name, found 'TPU!'",
        "base: missing; expected a string",
        "framework: expected a string, found 3",
        "python.as-of: expected a date-time with offset, found 'yesterday'",
        "python.constraints[0].reason: a constraint says why it is needed",
        "python.requirements[1]: a URL has no place in a lock; "
        "name a version of 'pandas @ https://host/x.whl'",
        "python.requirements[3]: A is already required by requirements[2]",
        "python.requirements[4]: expected a string, found 7",
        "summary: missing; expected a string",
        "surprise: unknown field; known here: accelerator, base, closure, compression, "
        "extends, framework, python, smoke, summary, version",
    ]


@pytest.mark.parametrize(
    ("own", "extension", "expected"),
    [
        ("", "", ("gzip", "gzip")),
        ("zstd", "", ("zstd", "zstd")),
        ("gzip", "zstd", ("gzip", "zstd")),
        ("zstd", "gzip", ("zstd", "gzip")),
    ],
)
def test_the_compression_of_an_image_is_that_of_its_extension_too(
    tmp_path: Path, own: str, extension: str, expected: tuple[str, str]
) -> None:
    def line(value: str) -> str:
        return f'compression = "{value}"\n' if value else ""

    (tmp_path / "sklearn-0.24.1.toml").write_text(line(own) + GOOD)
    (tmp_path / "mine.toml").write_text(
        'extends = "sklearn-0.24.1"\nsummary = "mine"\n' + line(extension)
    )
    specs = [load_image(tmp_path, name) for name in ("sklearn-0.24.1", "mine")]
    assert tuple(spec.compression for spec in specs) == expected


def test_a_compression_that_is_none_is_a_problem(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, 'compression = "xz"\n' + GOOD)
    assert problem.startswith("compression: ")
    assert "gzip" in problem and "zstd" in problem


def test_an_image_that_extends_another(tmp_path: Path) -> None:
    (tmp_path / "sklearn-0.24.1.toml").write_text(GOOD)
    (tmp_path / "mine.toml").write_text(
        'extends = "sklearn-0.24.1"\nsummary = "mine"\n'
        '[python]\nrequirements = ["lightgbm==3.3.5"]\n[os]\npackages = ["libgl1"]\n'
    )
    spec = load_image(tmp_path, "mine")
    assert spec.requirements == ("scikit-learn==0.24.1", "numpy>=1.16.0", "lightgbm==3.3.5")
    assert spec.os_packages == ("libgl1",)
    assert [constraint.requirement for constraint in spec.constraints] == ["protobuf<3.21"]
    assert (spec.framework, spec.base) == ("sklearn", "ubuntu18.04-py37")
    assert spec.published("debian12-py37") == "mine-debian12-py37-cpu-inference"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('extends = "none"\nsummary = "x"\n', "extends: there is no image 'none'"),
        (
            'extends = "middle"\nsummary = "x"\n',
            "extends: middle extends another image itself; extend that one",
        ),
        (
            'extends = "sklearn-0.24.1"\nsummary = "x"\nbase = "other"\n',
            "base: unknown field; known here: closure, compression, extends, os, python, smoke, "
            "summary",
        ),
    ],
)
def test_an_extension_that_cannot_be(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "sklearn-0.24.1.toml").write_text(GOOD)
    (tmp_path / "middle.toml").write_text('extends = "sklearn-0.24.1"\nsummary = "x"\n')
    assert problems_of(tmp_path, text, "mine") == [expected]


def test_an_extension_adds_bindings_and_keeps_those_below(tmp_path: Path) -> None:
    below = 'a_b = "company"\nc = {index = "other", fallback = "default"}\n'
    (tmp_path / "sklearn-0.24.1.toml").write_text(f"{GOOD}[python.indexes]\n{below}")
    text = 'extends = "sklearn-0.24.1"\nsummary = "x"\n[python.indexes]\n{}'
    more = 'D = "company"\ne = {index = "other", fallback = "default"}\n'
    # Said again, the same is the same.
    for lines in (more, more + below):
        (tmp_path / "mine.toml").write_text(text.format(lines))
        spec = load_image(tmp_path, "mine")
        assert spec.indexes == {"a-b": "company", "c": "other", "d": "company", "e": "other"}
        assert spec.fallbacks == {"c", "e"}


@pytest.mark.parametrize(
    ("line", "project", "bound"),
    [
        ('"A.B" = "other"', "a-b", "company alone"),
        ('a-b = {index = "company", fallback = "default"}', "a-b", "company alone"),
        ('c = "other"', "c", 'other with fallback = "default"'),
        ('c = {index = "company", fallback = "default"}', "c", 'other with fallback = "default"'),
    ],
)
def test_an_extension_cannot_change_a_binding(
    tmp_path: Path, line: str, project: str, bound: str
) -> None:
    below = 'a-b = "company"\nc = {index = "other", fallback = "default"}\n'
    (tmp_path / "sklearn-0.24.1.toml").write_text(f"{GOOD}[python.indexes]\n{below}")
    text = f'extends = "sklearn-0.24.1"\nsummary = "x"\n[python.indexes]\n{line}\n'
    assert problems_of(tmp_path, text, "mine") == [
        f"python.indexes.{project}: images/sklearn-0.24.1.toml binds it to {bound}, which an "
        "extension cannot change; leave it out here"
    ]


def test_where_requirements_and_bounds_are_written(tmp_path: Path) -> None:
    (tmp_path / "sklearn-0.24.1.toml").write_text(GOOD)
    (tmp_path / "mine.toml").write_text(
        'extends = "sklearn-0.24.1"\nsummary = "x"\n'
        '[python]\nrequirements = ["numpy>=1.16.0", "a"]\n'
        '[[python.constraints]]\nrequirement = "b<1"\nreason = "r"\n'
        '[[python.overrides]]\nrequirement = "c<1"\nreason = "r"\n'
    )
    spec = load_image(tmp_path, "mine")
    below, mine = "images/sklearn-0.24.1.toml: python", "images/mine.toml: python"
    assert spec.asked_at == {
        "scikit-learn==0.24.1": (f"{below}.requirements[0]",),
        "numpy>=1.16.0": (f"{below}.requirements[1]", f"{mine}.requirements[0]"),
        "a": (f"{mine}.requirements[1]",),
    }
    assert [one.where for one in spec.constraints] == [
        f"{below}.constraints[0]",
        f"{mine}.constraints[0]",
    ]
    assert [one.where for one in spec.overrides] == [f"{mine}.overrides[0]"]


def test_the_file_name_must_agree(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, GOOD, "sklearn-0.24.2")
    assert problem == (
        "framework: framework and version give 'sklearn-0.24.1', the file is 'sklearn-0.24.2'; "
        "name the file sklearn-0.24.1.toml or sklearn-0.24.1-….toml, or change the fields"
    )


@pytest.mark.parametrize("text", ["framework = ", "a = 1\na = 2", "\x00"])
def test_broken_toml(tmp_path: Path, text: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("not TOML")


def test_broken_encoding(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"summary = '\xff'")
    with pytest.raises(SpecError, match="not UTF-8"):
        load_image(tmp_path, "x")


def test_an_unknown_image_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "minimal.toml").write_text("")
    (tmp_path / "other.toml").write_text("")
    with pytest.raises(SpecError) as raised:
        load_image(tmp_path, "minmal")
    assert raised.value.remedy == "did you mean minimal? known here: minimal, other"
    with pytest.raises(SpecError) as raised:
        load_image(tmp_path, "zzz")
    assert raised.value.remedy == "known here: minimal, other"


def base_problems(folder: Path, name: str, old: str, new: str) -> list[str]:
    for path in (ROOT / "base").glob("*.toml"):
        shutil.copy(path, folder)
    path = folder / f"{name}.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(SpecError) as raised:
        load_target(folder, "ubuntu18.04-py37")
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("ubuntu18.04-py37", 'glibc = "2.27"', 'glibc = "two"', "glibc: expected a version"),
        (
            "ubuntu18.04-py37",
            'repository = "library',
            'repository = "../../library',
            "rootfs.repository: '../../library/ubuntu' is not the name of a repository",
        ),
        ("ubuntu18.04-py37", 'tag = "', 'tag = "../../', "python.tag: '../../20200822' cannot be"),
        ("ubuntu18.04-py37", 'asset = "', 'asset = "../', "python.asset: '../cpython-3.7.9-"),
        (
            "ubuntu18.04-py37",
            'index = "sha256:15',
            'index = "sha256:',
            "rootfs.index: expected sha",
        ),
        ("ubuntu18.04-py37", "size = 424", "size = true", "rootfs.manifest.size: expected a whole"),
        ("ubuntu18.04-py37", 'kind = "image"', 'kind = "iso"', "rootfs.kind: expected one of"),
        ("debian12-py37", 'version = "3.7"', 'version = "3.8"', "fallback: debian12-py37 differs"),
        ("debian12-py37", '"pip==24.0", ', "", "fallback: debian12-py37 differs in python.req"),
        ("debian12-py37", '["main"]', '["main", 1]', "rootfs.components[1]: expected a string"),
        ("debian12-py37", 'reason = "the C', 'raison = "the C', "python.sdists.wrapt.reason: miss"),
    ],
)
def test_bad_bases(tmp_path: Path, name: str, old: str, new: str, expected: str) -> None:
    problems = base_problems(tmp_path, name, old, new)
    assert any(problem.startswith(expected) for problem in problems), problems


def documented(heading: str) -> set[str]:
    """The fields in the table below a heading of docs/specification.md."""
    text = (ROOT / "docs" / "specification.md").read_text()
    part = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {field for cell in first for field in re.findall(r"`([^`]+)`", cell)}


def known(folder: Path, text: str, name: str, tables: tuple[str, ...]) -> set[str]:
    """The fields that the reader knows, by what it says of an unknown one in each table."""
    lines = [f"[{table}]\nunknown = 1\n" for table in tables]
    (folder / f"{name}.toml").write_text("\n".join(["unknown = 1", text, *lines]))
    with pytest.raises(SpecError) as raised:
        load_image(folder, name)
    found = set()
    for problem in raised.value.problems:
        table = problem.path.rpartition("unknown")[0]
        for field in problem.message.partition("known here: ")[2].split(", "):
            found.add(f"{table}{field}")
    return found - {*tables}


def test_the_documented_fields_are_those_there_are(tmp_path: Path) -> None:
    top = GOOD.partition("[python]")[0]
    tables = ("python", "smoke", "closure")
    text = top + "[python]\nrequirements = []\nunknown = 1\n"
    image = known(tmp_path, text, "sklearn-0.24.1", tables[1:]) - {"python"}
    assert image - {"extends"} == documented("Of an image")
    (tmp_path / "sklearn-0.24.1.toml").write_text(GOOD)
    extension = known(
        tmp_path, 'extends = "sklearn-0.24.1"\nsummary = "x"\n', "mine", (*tables, "os")
    )
    assert extension == documented("Of an extension")


@pytest.mark.parametrize(
    ("framework", "version", "name"),
    re.findall(
        r"^\| `\"(.+?)\"` \| (?:none|`\"(.+?)\"`) \| .*?`(\S+?)\.toml`",
        (ROOT / "docs" / "specification.md").read_text(),
        re.MULTILINE,
    ),
)
def test_the_documented_file_names_fit(
    tmp_path: Path, framework: str, version: str, name: str
) -> None:
    line = f'version = "{version}"' if version else ""
    text = GOOD.replace('version = "0.24.1"', line).replace('"sklearn"', f'"{framework}"')
    for other in (name, f"{name}-ours"):
        (tmp_path / f"{other}.toml").write_text(text)
        assert load_image(tmp_path, other).framework == framework
    with pytest.raises(SpecError, match="framework and version give"):
        (tmp_path / "other.toml").write_text(text)
        load_image(tmp_path, "other")
