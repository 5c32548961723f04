"""`plinth extend --conda-file`: what the images' own reader finds, as requirements of a lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.build.extend import read_conda_file
from plinth.core.errors import ProblemsError
from plinth.graph.workspace import Workspace

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
