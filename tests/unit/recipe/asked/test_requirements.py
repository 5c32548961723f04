"""Requirement files: what pip reads in them, and what a lock cannot be made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements

from plinth.core.errors import SpecError
from plinth.recipe.asked.files import MAX, Files
from plinth.recipe.asked.requirements import Asked, read_requirements

SPEC = "images/demo.toml"
HASH = "a" * 64


def read(root: Path, files: dict[str, str | bytes], *, bounds: bool = False) -> list[Asked]:
    """What `requirements.txt` among `files` asks for."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_requirements(Files(root), "requirements.txt", SPEC, bounds=bounds)


FILES: dict[str, str | bytes] = {
    "requirements.txt": (
        "# a comment\n"
        "numpy>=1.16 # why\n"
        "pandas \\\n  ~=1.1 \\\n  ; python_version < '3.8'\n"
        "\n-r more/inner.txt\n"
        "--constraint=more/bounds.txt\n"
        f"pinned==1.0 --hash=sha256:{HASH} \\\n    --hash sha256:{'b' * 64}\n"
        "Extra_Name[b,a]==2\n"
        "last===1.0"
    ),
    "more/inner.txt": "\ufeffinner<2\r\n-c bounds.txt\r\n",
    "more/bounds.txt": "protobuf<3.21\n",
}


def test_a_file_is_read_as_pip_reads_it(tmp_path: Path) -> None:
    found = read(tmp_path, FILES)
    session = PipSession()
    theirs = parse_requirements(str(tmp_path / "requirements.txt"), session)
    # pip reads a file again each time it is named.
    expected = {(one.requirement.replace("\ufeff", ""), one.constraint) for one in theirs}
    session.close()
    texts = {(text.replace(" ", ""), bounds) for text, bounds in expected}
    assert {(_text(one), one.bounds) for one in found} == texts
    pinned = next(one for one in found if one.requirement.name == "pinned")
    assert pinned.hashes == {HASH, "b" * 64}
    places = {one.requirement.name: one.where for one in found}
    assert places["pandas"] == "requirements.txt line 3"
    assert places["inner"] == "more/inner.txt line 1"
    assert places["protobuf"] == "more/bounds.txt line 1"


def _text(asked: Asked) -> str:
    one = asked.requirement
    # As it is written in the files above.
    extras = "[b,a]" if one.extras else ""
    marker = f";{one.marker}".replace('"', "'").replace(" ", "") if one.marker else ""
    return f"{one.name}{extras}{one.specifier}{marker}"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("numpy\n-i https://there/simple\n", 2, "-i is a setting of the machine"),
        ("--extra-index-url=https://there\n", 1, "--extra-index-url is a setting of the machine"),
        ("--find-links ./wheels\n", 1, "--find-links is a setting of the machine"),
        ("-e .\n", 1, "no editable install"),
        ("--pre\n", 1, "the option '--pre' has no meaning in a lock"),
        ("--no-binary :all:\n", 1, "has no meaning in a lock"),
        ("numpy==${VERSION}\n", 1, "a variable of the environment cannot decide a lock"),
        ("-r ${HOME}/x.txt\n", 1, "a variable of the environment"),
        ("a\nb\n./wheels/x-1-py3-none-any.whl\n", 3, "only names and versions, not the file"),
        ("x-1.0-py3-none-any.whl\n", 1, "only names and versions, not the file"),
        ("x @ https://there/x.whl\n", 1, "a URL has no place in a lock"),
        ("git+https://there/x\n", 1, "not a PEP 508 requirement"),
        ("numpy==1.0 --hash=sha256:xyz\n", 1, "not a hash that pip takes: 'sha256:xyz'"),
        ("numpy==1.0 --hash=md5:abc\n", 1, "not a hash that pip takes"),
        (f"numpy==1.0 --hash=sha512:{HASH}{HASH}\n", 1, "no sha256 among its hashes"),
        ("--require-hashes\nnumpy==1.0\n", 2, "numpy==1.0 has no --hash"),
        ("numpy==1.0 --config-settings=a=b\n", 1, "an option of one requirement"),
        ("a\nnumpy==1.0 \\ \n", 2, "a blank follows the backslash"),
        ("a==1 \\\n  --hash=x \\\t\n  --hash=y\n", 2, "a blank follows the backslash"),
        ("a\nnumpy==1.0 \\ # old\n", 2, "a comment follows the backslash"),
        ("-r a.txt b.txt\n", 1, "takes one file"),
        ("-r https://there/x.txt\n", 1, "is a URL; copy the file into the checkout"),
        ("numpy\n-r missing.txt\n", 2, "there is no file 'missing.txt'"),
        ("-r ../../etc/passwd\n", 1, "is outside the checkout"),
        ("-r /etc/passwd\n", 1, "is outside the checkout"),
        ("-r .hidden\n", 1, "cannot be an input"),
        ("-r build/x.txt\n", 1, "cannot be an input"),
        ("-r locks/demo/requirements.txt\n", 1, "cannot be an input"),
    ],
)
def test_what_a_lock_cannot_be_made_of_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    with pytest.raises(SpecError) as raised:
        read(tmp_path, {"requirements.txt": text})
    assert raised.value.where == "requirements.txt"
    (problem,) = raised.value.problems
    assert problem.path == f"line {line}"
    assert message in problem.message


def test_every_wrong_line_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as raised:
        read(tmp_path, {"requirements.txt": "a=1\nb\n-e c\n"})
    assert [problem.path for problem in raised.value.problems] == ["line 1", "line 3"]


def test_files_that_name_each_other_are_refused(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": "-r a/b.txt\n",
        "a/b.txt": "x\n-r ../requirements.txt\n",
    }
    with pytest.raises(SpecError, match="line 2: files name each other") as raised:
        read(tmp_path, files)
    assert raised.value.where == "a/b.txt"
    assert "requirements.txt -> a/b.txt -> requirements.txt" in str(raised.value)


def test_files_that_fan_out_are_read_once(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"f{n}.txt": f"-r f{n + 1}.txt\n" * 2 + f"p{n}\n" for n in range(60)
    }
    files |= {"requirements.txt": "-r f0.txt\n", "f60.txt": "p60\n"}
    assert len(read(tmp_path, files)) == 61


def test_a_line_of_blanks_takes_no_time(tmp_path: Path) -> None:
    blanks = " " * 1_900_000
    (found,) = read(tmp_path, {"requirements.txt": f"{blanks}\nnumpy{blanks}#c\n#d\n"})
    assert found.requirement.name == "numpy"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("/etc/hostname"), "a symbolic link"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.write_bytes(b"#" * (MAX + 1)), f"has {MAX + 1} bytes"),
        (lambda path: path.write_bytes("Grüße".encode("latin-1")), "not UTF-8"),
    ],
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, make: object, message: str) -> None:
    assert callable(make)
    make(tmp_path / "requirements.txt")
    with pytest.raises(SpecError, match=message):
        read(tmp_path, {})


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "x.txt").write_text("numpy\n")
    root = tmp_path / "root"
    root.mkdir()
    (root / "in").symlink_to(tmp_path / "away")
    with pytest.raises(SpecError, match="goes through a symbolic link"):
        read(root, {"requirements.txt": "-r in/x.txt\n"})
