"""`plinth extend`: what a conda file asks for, what is written, and what a failure leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.build.extend import (
    read_bindings,
    read_conda_file,
    undone_on_failure,
    write_extension,
)
from plinth.core.errors import PlinthError, ProblemsError
from plinth.graph.workspace import Workspace
from plinth.recipe.image import load_image

CHECKOUT = Path(__file__).resolve().parents[3]


def read(tmp_path: Path, text: str, said: list[str] | None = None) -> list[str]:
    path = tmp_path / "conda.yml"
    path.write_text(text)
    told = [] if said is None else said
    return read_conda_file(Workspace(CHECKOUT, tmp_path / "build"), "minimal", path, told.append)


def test_a_conda_file_gives_requirements_and_each_is_said(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("six  # why\n")
    said: list[str] = []
    text = (
        "dependencies:\n- python=3.7.9\n- pytorch=1.6\n- pip\n- pip:\n  - -r more.txt\n  - x==1\n"
    )
    assert read(tmp_path, text, said) == ["torch==1.6.*", "six", "x==1"]
    assert said == [
        f"{tmp_path}/conda.yml: python=3.7.9: Python 3.7 is there",
        f"{tmp_path}/conda.yml: pytorch=1.6: torch==1.6.*",
        f"{tmp_path}/conda.yml: pip: pip is there",
        f"{tmp_path}/conda.yml: pip: -r more.txt",
        f"{tmp_path}/conda.yml: pip: x==1",
    ]


def test_all_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as raised:
        read(tmp_path, "dependencies: [cudatoolkit=11.0, numpy, python=3.8]\n")
    text = str(raised.value)
    assert "2 packages cannot be installed here" in text
    assert "cudatoolkit=11.0: conda's package of CUDA" in text
    assert "python=3.8: this image has Python 3.7" in text


@pytest.mark.parametrize("line", ["-e .", "./x.whl", "--extra-index-url https://index.example"])
def test_options_and_paths_of_a_pip_section_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ProblemsError, match="only names and versions"):
        read(tmp_path, f"dependencies:\n- pip:\n  - {line}\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match=r"conda\.yml"):
        read_conda_file(
            Workspace(CHECKOUT, tmp_path / "build"), "minimal", tmp_path / "conda.yml", print
        )


SPECIFICATION = """\
# Made by plinth extend minimal; yours to edit.
extends = "minimal"
summary = "minimal with six, our-models"

[python]
requirements = [
    "six",
    "our-models",
]

[python.indexes]
our-models = "company"

[os]
packages = []
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A checkout with one image, and no locks."""
    (tmp_path / "images").mkdir()
    shutil.copy(CHECKOUT / "images" / "minimal.toml", tmp_path / "images")
    return Workspace(tmp_path, tmp_path / "build")


def write(ws: Workspace, *requirements: str) -> bool:
    return write_extension(
        ws,
        "minimal",
        "mine",
        requirements=requirements,
        packages=(),
        indexes=read_bindings(["our-models = company"]),
    )


def sources(ws: Workspace) -> dict[str, bytes]:
    found = [*ws.images.rglob("*"), *ws.locks.rglob("*")]
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


def fails(ws: Workspace, during: Callable[[], object] = lambda: None) -> list[str]:
    """What is said where a step fails after `during`."""
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), undone_on_failure(ws, "mine", said.append):
        during()
        raise KeyboardInterrupt
    return said


def locks(ws: Workspace, *names: str) -> None:
    for name in names:
        ws.locks.joinpath("mine").mkdir(parents=True, exist_ok=True)
        ws.locks.joinpath("mine", name).write_text("new")


def test_bindings_are_written(ws: Workspace) -> None:
    assert write(ws, "six", "our-models")
    assert (ws.images / "mine.toml").read_text() == SPECIFICATION
    assert load_image(ws.images, "mine").indexes == {"our-models": "company"}
    assert not write(ws, "six", "our-models")


@pytest.mark.parametrize("text", ["x", "x=", "=x", "", "=", "x=y=z", "x==y", "x==1.0"])
def test_a_binding_has_a_project_and_an_index(text: str) -> None:
    with pytest.raises(PlinthError, match="invalid binding") as raised:
        read_bindings(["a=b", text])
    assert raised.value.where == f"--bind {text}"
    with pytest.raises(PlinthError, match="a is bound twice"):
        read_bindings(["a=b", "a=c"])


def test_what_fails_leaves_nothing_of_what_was_written(ws: Workspace) -> None:
    before = sources(ws)
    write(ws, "six")
    said = fails(ws, lambda: locks(ws, "requirements.txt", "pylock.toml"))
    assert [text for text in sources(ws) if "mine" in text] == []
    assert {k: v for k, v in sources(ws).items() if k != str(ws.locks)} == before
    assert said == [
        "nothing of mine was left: images/mine.toml, which this command wrote, and its lock were "
        "removed; change the request and run it again"
    ]
    write(ws, "six")
    fails(ws)
    assert not (ws.images / "mine.toml").exists()


def test_what_was_there_before_stays(ws: Workspace) -> None:
    locks(ws, "pylock.toml")
    (ws.locks / "mine" / "pylock.toml").write_text("old")
    before = sources(ws)
    write(ws, "six")
    fails(ws, lambda: locks(ws, "pylock.toml", "os.toml"))
    assert sources(ws) == before


def test_a_specification_that_was_edited_meanwhile_stays(ws: Workspace) -> None:
    write(ws, "six")
    edited = ws.images / "mine.toml"
    assert fails(ws, lambda: edited.write_text("mine now")) == []
    assert edited.read_text() == "mine now"


def test_what_succeeds_stays(ws: Workspace) -> None:
    write(ws, "six")
    with undone_on_failure(ws, "mine", pytest.fail):
        locks(ws, "pylock.toml")
    assert (ws.images / "mine.toml").exists()
    assert (ws.locks / "mine" / "pylock.toml").exists()
