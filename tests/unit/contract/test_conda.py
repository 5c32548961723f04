"""The images' command `conda`: what it reads, what pip is asked for, what is refused by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MINICONDA = Path(__file__).resolve().parents[3] / "base/rootfs/opt/miniconda"
# Runs the package's own code, whose bytecode must not get into the checkout.
DRIVER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from plinth_conda import specs, subset
from plinth_conda.errors import CondaError
names, found = specs.Names(), []
for kind, text in json.load(sys.stdin):
    try:
        if kind == "yaml":
            found.append(subset.read(text, "conda.yml"))
        else:
            found.append(specs.requirement(text, names, (3, 7, 17)))
    except (specs.UnavailableError, CondaError) as error:
        found.append("refused: %s" % error)
print(json.dumps(found))
"""


def answers(kind: str, texts: list[str]) -> list[Any]:
    """What the package makes of each text, as a specification or as YAML."""
    done = subprocess.run(
        [sys.executable, "-IB", "-c", DRIVER, str(MINICONDA / "lib")],
        input=json.dumps([[kind, text] for text in texts]),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def test_a_specification_becomes_a_requirement() -> None:
    cases = {
        "numpy": "numpy",
        "numpy=1.21": "numpy==1.21.*",
        "numpy=1.21.*": "numpy==1.21.*",
        "numpy==1.21.6": "numpy==1.21.6",
        "numpy=1.21.6=py37h976b520_0": "numpy==1.21.6",
        "numpy 1.21.6": "numpy==1.21.6",
        "numpy 1.21.6 py37_0": "numpy==1.21.6",
        "numpy 1.21.*": "numpy==1.21.*",
        "numpy >=1.2, <2": "numpy>=1.2,<2",
        "numpy>=1.2,!=1.3.*": "numpy>=1.2,!=1.3.*",
        "numpy=*": "numpy",
        "numpy=1.0rc1": "numpy==1.0rc1",
        "conda-forge::numpy=1.21": "numpy==1.21.*",
        "pytorch=1.6.0": "torch==1.6.0.*",
        "py-xgboost": "xgboost",
        "opencv=4.6": "opencv-python-headless==4.6.*",
        "msgpack-python": "msgpack",
        "pip=23.0": "pip==23.0.*",
        "NumPy": "numpy",
    }
    found = answers("spec", list(cases))
    assert dict(zip(cases, (requirement for requirement, _ in found), strict=True)) == cases


def test_what_is_there_is_named_and_not_installed() -> None:
    cases = {
        "python=3.7": "Python 3.7.17 is there",
        "python=3.7.9": "Python 3.7.17 is there",
        "python>=3.6,<3.8": "Python 3.7.17 is there",
        "python": "Python 3.7.17 is there",
        "pip": "pip is there",
        "libgcc-ng=9.1.0=hdf63c60_0": "part of this image's Python or operating system; "
        "indexes have no builds such as hdf63c60_0",
        "mkl=2020.2": "wheels carry the libraries that they need",
        "aws-c-io": "wheels carry the libraries that they need",
    }
    assert dict(zip(cases, answers("spec", list(cases)), strict=True)) == {
        spec: ["", note] for spec, note in cases.items()
    }


@pytest.mark.parametrize("spec", ["python=3.8", "python>=3.8", "python<3.7", "python!=3.7.*"])
def test_another_python_is_refused(spec: str) -> None:
    assert answers("spec", [spec]) == [
        "refused: this image has Python 3.7: ask for that one, or take an image of the other"
    ]


def test_what_no_index_has_is_refused_with_what_to_do() -> None:
    cases = {
        "cudatoolkit=11.0": "leave the line out",
        "nodejs": "apt-get install",
        "gcc_linux-64": "apt-get install gcc",
        "r-base": "R is not in this image",
        "anaconda": "name those that you need",
        "numpy>=1.2|<1": "name one version",
        "numpy[version='>=1']": "name=1.2",
        "openblas-x=1.1.1k": "no index has a version such as 1.1.1k",
        "-e .": "not a package",
        "numpy=1=2=3": "not a version",
    }
    found = dict(zip(cases, answers("spec", list(cases)), strict=True))
    assert [spec for spec, part in cases.items() if part not in str(found[spec])] == []
    assert all(str(answer).startswith("refused: ") for answer in found.values())


def test_environment_files_as_people_write_them_are_read() -> None:
    cases: dict[str, object] = {
        "": "",
        "a: b\n": {"a": "b"},
        "---\na: 'it''s'\nb: \"x\\ty\"  # note\n": {"a": "it's", "b": "x\ty"},
        "c: [conda-forge, 'a#b', \"d, e\"]\n": {"c": ["conda-forge", "a#b", "d, e"]},
        "c: []\n": {"c": []},
        "d:\n- x=1\n- pip:\n  - y==2 # why\n  - z\n": {"d": ["x=1", {"pip": ["y==2", "z"]}]},
        "d:\n  - f::x >=1,<2\n  -   pip:\n      - y\n": {"d": ["f::x >=1,<2", {"pip": ["y"]}]},
        "d:\n-\n  - a\n- - b\n": {"d": [["a"], ["b"]]},
        "v:\n  A: b c\n  B:\nn: x\r\n": {"v": {"A": "b c", "B": ""}, "n": "x"},
        "d:\n- --find-links https://x/y#z\n": {"d": ["--find-links https://x/y#z"]},
    }
    assert dict(zip(cases, answers("yaml", list(cases)), strict=True)) == cases


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x b\n", 1),
        ("a: *x\n", 1),
        ("a: !t b\n", 1),
        ("a: |\n  b\n", 1),
        ("a: {b: c}\n", 1),
        ("a: [b,\n  c]\n", 1),
        ("a: b\na: c\n", 2),
        ("a:\n\t- b\n", 2),
        ("a: b\n---\nc: d\n", 2),
        ("a: b: c\n", 1),
        ("d:\n- a\n  b\n", 3),
        ("d:\n- a\n b: c\n", 3),
        ("a: 'b\n", 1),
        ("just text\nmore\n", 1),
    ],
)
def test_other_yaml_is_refused_by_its_line(text: str, line: int) -> None:
    (answer,) = answers("yaml", [text])
    assert str(answer).startswith(f"refused: conda.yml: line {line}: cannot be read: ")


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """A Miniconda of ours whose environment has a Python that prints its calls."""
    root = tmp_path / "miniconda"
    shutil.copytree(MINICONDA, root, ignore=shutil.ignore_patterns("envs"))
    python = tmp_path / "python" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # As `python -m venv PREFIX`, and pip with what it is given.
    python.write_text(
        '#!/bin/sh\nif [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit; fi\n'
        'echo "in $PWD: $*"; [ "$4" != --no-cache-dir ] || [ "$3" != install ] || cat\n'
        'exit "${FAILS:-0}"\n'
    )
    python.chmod(0o755)
    (root / "envs").mkdir()
    (root / "envs" / "amlenv").symlink_to(tmp_path / "python")
    return root


def ran(conda: Path, *arguments: str, **environment: str) -> tuple[int, list[str], list[str]]:
    """Exit code, and the lines of output and of errors."""
    done = subprocess.run(
        [sys.executable, "-IB", str(conda / "bin" / "conda"), *arguments],
        env={"PATH": os.defpath, "HOME": str(conda.parent), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
FILE = f"""\
name: mine
channels: [conda-forge]
dependencies:
- python={VERSION}
- pytorch=1.6
- pip:
  - -r more.txt
  - tqdm
"""


def test_an_environment_is_made_in_two_steps_as_conda_does(conda: Path, tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text(FILE)
    code, out, errors = ran(conda, "env", "create", "-f", str(tmp_path / "env.yml"))
    assert (code, errors) == (0, [])
    pip = f"in {tmp_path}: -m pip install --no-cache-dir"
    said = "conda (plinth's): "
    there = ".".join(map(str, sys.version_info[:3]))
    assert out == [
        f"{said}channels (conda-forge): not asked, packages come from the index of pip's settings",
        f"{said}python={VERSION}: Python {there} is there",
        f"{said}pytorch=1.6: torch==1.6.*",
        f"{said}pip: -r more.txt",
        f"{said}pip: tqdm",
        f"{pip} -r /dev/stdin",
        "torch==1.6.*",
        f"{pip} --upgrade -r /dev/stdin",
        f"-r {tmp_path}/more.txt",
        "tqdm",
        f"{said}made {conda}/envs/mine",
    ]
    assert (conda / "envs/mine/bin/python").exists()
    again = ran(conda, "env", "create", "-f", str(tmp_path / "env.yml"))
    assert again[0] == 1
    assert f"there is something at {conda}/envs/mine already" in again[2][0]
    assert ran(conda, "env", "remove", "-n", "mine")[0] == 0
    assert not (conda / "envs/mine").exists()


def test_an_environment_that_cannot_be_filled_is_not_left(conda: Path, tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text(FILE)
    place = tmp_path / "elsewhere"
    arguments = ["env", "create", "-p", str(place), "-f", str(tmp_path / "env.yml")]
    code, _, errors = ran(conda, *arguments, FAILS="1")
    assert code == 98
    assert "pip could not install what was asked for (see above): torch==1.6.*" in errors[0]
    assert not place.exists()


def test_all_that_cannot_be_installed_is_named_and_nothing_is(conda: Path, tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text("dependencies: [cudatoolkit=11.0, numpy, nodejs]\n")
    file = str(tmp_path / "env.yml")
    code, out, errors = ran(conda, "env", "update", "-n", "amlenv", "--file", file)
    assert (code, out) == (98, [])
    assert errors[0] == f"conda (plinth's): {file}: 2 packages cannot be installed here"
    assert [line.partition(":")[0] for line in errors[1:]] == ["  cudatoolkit=11.0", "  nodejs"]
    assert ran(conda, "install", "-y", "nodejs")[0] == 98


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dependencies: numpy\n", "not an environment file"),
        ("dependencies:\n- conda: [x]\n", "not an environment file"),
        ("dependencies: []\nvariables:\n  A: b\n", "variables cannot be kept"),
        ("dependencies: []\npackages: []\n", "unknown key packages"),
        ("dependencies:\n- &a b\n", "line 2: cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(
    conda: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "env.yml").write_text(text)
    code, out, errors = ran(conda, "env", "update", "-f", str(tmp_path / "env.yml"))
    assert code != 0
    assert out == []
    assert message in errors[0]


def test_the_command_says_whose_it_is(conda: Path) -> None:
    code, (line,), _ = ran(conda, "--version")
    assert (code, line) == (0, "conda 4.12.0+plinth")
    # What Dockerfiles of the Azure SDK ask, before they would install conda itself.
    if shutil.which("dpkg"):
        version = line.rpartition(" ")[2]
        assert subprocess.run(["dpkg", "--compare-versions", version, "lt", "4.4.11"]).returncode
    assert "This is plinth's command, not conda" in "\n".join(ran(conda, "info")[1])
    assert "This is plinth's command, not conda" in " ".join(ran(conda, "--help")[1])


def test_a_command_runs_in_an_environment(conda: Path) -> None:
    script = 'echo "$CONDA_DEFAULT_ENV $CONDA_PREFIX"; command -v python; exit 7'
    code, out, _ = ran(conda, "run", "-n", "amlenv", "--no-capture-output", "sh", "-c", script)
    prefix = conda.parent / "python"
    assert (code, out) == (7, [f"amlenv {prefix}", f"{prefix}/bin/python"])
    assert ran(conda, "run", "-n", "gone", "true")[0] == 1
    assert ran(conda, "run", "no-such-program")[0] == 127


def test_a_shell_activates_an_environment(conda: Path) -> None:
    shell = f'#!/bin/sh\nexec {sys.executable} -IB {conda}/bin/conda.py "$@"\n'
    (conda / "bin" / "conda").rename(conda / "bin" / "conda.py")
    (conda / "bin" / "conda").write_text(shell)
    (conda / "bin" / "conda").chmod(0o755)
    function = (conda / "etc/profile.d/conda.sh").read_text()
    (conda / "etc/profile.d/conda.sh").write_text(function.replace("/opt/miniconda", str(conda)))
    script = (
        f". {conda}/etc/profile.d/conda.sh; conda activate amlenv && command -v python && "
        'echo "$CONDA_DEFAULT_ENV"; conda deactivate; echo "${CONDA_PREFIX-none}"; '
        "conda activate gone || echo failed"
    )
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": os.defpath}, capture_output=True, text=True, check=True
    )
    python = conda.parent / "python/bin/python"
    assert done.stdout.splitlines() == [str(python), "amlenv", "none", "failed"]
    assert "there is no environment gone" in done.stderr


def test_activation_without_the_function_says_what_to_do(conda: Path) -> None:
    code, _, errors = ran(conda, "activate", "mine")
    assert code == 1
    assert any(f". {conda}/etc/profile.d/conda.sh" in line for line in errors)
    inside = str(conda / "envs/amlenv/bin")
    assert ran(conda, "activate", "amlenv", PATH=f"{inside}:{os.defpath}")[0] == 0


def test_what_conda_would_do_and_this_need_not_is_said(conda: Path) -> None:
    for arguments in (["clean", "-aqy"], ["config", "--add", "channels", "x"]):
        code, (line,), _ = ran(conda, *arguments)
        assert code == 0
        assert line.startswith("conda (plinth's): ")
    assert ran(conda, "search", "numpy")[0] == 2
