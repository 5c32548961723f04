"""Packages of one's own: one file by digest, whatever the machine; what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.errors import SpecError
from plinth.formats.wheel.sdist import build_requirements, unpack
from plinth.recipe.asked.local import OwnFile, own_files, source_files
from plinth.recipe.asked.model import Local
from support.asked_project import wheel

SHOWN = "images/demo.toml"
PYPROJECT = '[project]\nname = "My.Lib"\nversion = "1.2"\n[build-system]\nrequires = ["x"]\n'
DIGEST = "38628580"


def local(path: str = "", **more: str) -> Local:
    fields = {"git": "", "commit": "", "name": "", "version": "", **more}
    return Local(path=path, **fields)


def tree(root: Path) -> Path:
    folder = root / "src" / "lib"
    for name, data in {
        "pyproject.toml": PYPROJECT,
        "my/lib.py": "x = 1\n",
        "my/build/kept.py": "",
        "run.sh": "#!/bin/sh\n",
        "build/lib.o": "left out",
        ".git/config": "left out",
        "my/__pycache__/lib.pyc": "left out",
        "my.egg-info/PKG-INFO": "left out",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data)
    (folder / "run.sh").chmod(0o755)
    return folder


def one(root: Path, package: Local) -> OwnFile:
    (found,) = own_files(root, (package,), SHOWN, {})
    return found


def test_a_source_tree_is_one_sdist_whatever_the_machine(tmp_path: Path) -> None:
    found = one(tmp_path, local("src/lib")) if tree(tmp_path) else None
    assert found is not None
    assert (found.name, found.version, found.filename) == ("my-lib", "1.2", "my_lib-1.2.tar.gz")
    for path in (tmp_path / "src").rglob("*"):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o700 if path.name == "run.sh" else 0o600)
    assert one(tmp_path, local("src/lib")) == found
    assert found.digest.hex.startswith(DIGEST)
    (tmp_path / "src" / "lib" / "my" / "lib.py").write_text("x = 2\n")
    assert one(tmp_path, local("src/lib")).digest != found.digest


def test_its_sdist_is_one_that_is_read_and_unpacked_as_any(tmp_path: Path) -> None:
    from plinth.recipe.asked.local import packed

    filename, data = packed(tree(tmp_path), local("src/lib"))
    path = tmp_path / filename
    path.write_bytes(data)
    assert build_requirements(path, filename) == ("x",)
    (tmp_path / "out").mkdir()
    top = unpack(path, filename, tmp_path / "out")
    unpacked = {
        file.relative_to(tmp_path / "out" / top).as_posix(): bool(file.stat().st_mode & 0o100)
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    }
    assert unpacked == {
        "pyproject.toml": False,
        "my/lib.py": False,
        "my/build/kept.py": False,
        "run.sh": True,
    }


def test_wheels_and_files_that_are_not_here_are_known_by_digest(tmp_path: Path) -> None:
    path = wheel(tmp_path, "my_lib", "1.0")
    found = one(tmp_path, local(path.name))
    assert (found.name, found.version, found.path) == ("my-lib", "1.0", path)
    path.unlink()
    (again,) = own_files(tmp_path, (local(path.name),), SHOWN, {found.key: found.recorded})
    assert (again.digest, again.filename, again.path) == (found.digest, found.filename, None)
    commit = local(git="https://there/lib", commit="a" * 40, name="lib", version="1.0")
    key = f"git lib {'a' * 40}"
    recorded = f"lib-1.0.tar.gz {found.digest.oci} 7"
    (of_git,) = own_files(tmp_path, (commit,), SHOWN, {key: recorded})
    assert (of_git.name, of_git.key) == ("lib", key)


def test_the_files_that_one_is_made_from_are_watched(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    names = [p.relative_to(folder).as_posix() for p in source_files(tmp_path, local("src/lib"))]
    assert names == ["my/build/kept.py", "my/lib.py", "pyproject.toml", "run.sh"]
    assert source_files(tmp_path, local("gone.whl")) == []


def link(root: Path) -> None:
    (root / "src" / "lib" / "a").symlink_to("/etc/passwd")


def aside(root: Path) -> None:
    (root / "src").rename(root / "away")
    (root / "src").symlink_to(root / "away")


@pytest.mark.parametrize(
    ("package", "change", "message"),
    [
        (local("../lib"), None, "'../lib' cannot be an input"),
        (local("/etc"), None, "'/etc' cannot be an input"),
        (local("build/lib"), None, "'build/lib' cannot be an input"),
        (local("gone"), None, "there is no 'gone'"),
        (local("src/lib"), link, "is a symbolic link, which no local source may have"),
        (local("src/lib"), aside, "is or goes through a symbolic link"),
        (local("src/lib/run.sh"), None, "is no wheel, no sdist (.tar.gz) and no folder"),
        (local("src/lib/my"), None, "does not state name and version; state them here"),
        (local("src/lib", version="one"), None, "'one' is not a version (PEP 440)"),
        (local("x-1-py3-none-any.whl"), None, "there is no 'x-1-py3-none-any.whl'"),
        (local(git="https://x/y", commit="a" * 40, name="y", version="1"), None, "not locked yet"),
    ],
)
def test_what_is_no_package_is_refused(
    tmp_path: Path, package: Local, change: Callable[[Path], None] | None, message: str
) -> None:
    tree(tmp_path)
    if change:
        change(tmp_path)
    with pytest.raises(SpecError) as raised:
        own_files(tmp_path, (package,), SHOWN, {})
    (problem,) = raised.value.problems
    assert problem.path == "python.local[0]"
    assert message in problem.message


def test_a_wheel_of_another_version_than_is_stated_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, "my_lib", "1.0")
    assert one(tmp_path, local(path.name, name="My_Lib", version="1.0.0"))
    with pytest.raises(SpecError, match=r"is my-lib 1\.0, not my-lib 2\.0"):
        one(tmp_path, local(path.name, version="2.0"))
    with pytest.raises(SpecError, match="my-lib is there twice"):
        own_files(tmp_path, (local(path.name), local(path.name)), SHOWN, {})
