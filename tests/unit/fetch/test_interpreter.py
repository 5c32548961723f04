"""Finding the target interpreter: the settings, PATH, pyenv; what is another one is passed over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError
from plinth.core.settings import Config
from plinth.fetch import interpreter_places as places
from plinth.fetch.interpreter import find_python, find_tree
from support import needs
from support.elves import program

NO_PYTHON = "it does not answer as Python does"


def fake(
    path: Path, version: str = "3.7", kind: str = "CPython", prefix: Path | None = None
) -> Path:
    """A shell script that answers as an interpreter of that version would."""
    prefix = prefix or path.parent.parent
    return script(path, f"printf '%s\\n' {path} {version} {kind} {prefix}")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def lost() -> bytes:
    """A program that finds its library only where the machine's linker is told of it. Made before
    there is an empty PATH."""
    return program(["libpython3.7m.so.1.0"])


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty PATH, without pyenv, uv, conda and a distribution's own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("CONDA_PREFIX", "MAMBA_ROOT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(places, "SYSTEM", (str(tmp_path / "usr" / "bin"),))
    monkeypatch.setattr(places, "SYSTEM_CONDAS", (str(tmp_path / "opt" / "conda"),))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("UV_PYTHON_INSTALL_DIR", raising=False)
    return tmp_path


def refused(config: Config) -> InterpreterError:
    with pytest.raises(InterpreterError) as raised:
        find_python("3.7", config)
    assert raised.value.what == "there is no CPython 3.7 on this machine"
    assert raised.value.expected == (
        "python3.7 on PATH, of the distribution, pyenv, uv or conda, or named in the settings"
    )
    return raised.value


def test_the_one_on_path_is_found(machine: Path) -> None:
    path = fake(machine / "path" / "python3.7", prefix=machine / "real")
    real = fake(machine / "real" / "bin" / "python3.7")
    assert find_python("3.7", Config()) == real
    # Where its prefix has none, it is taken as it is.
    real.unlink()
    assert find_python("3.7", Config()) == path


def test_the_settings_come_first(machine: Path) -> None:
    fake(machine / "path" / "python3.7")
    own = fake(machine / "own" / "bin" / "python3.7")
    assert find_python("3.7", Config(python={"3.7": str(own)})) == own


def test_the_settings_of_another_version_do_not_count(machine: Path) -> None:
    path = fake(machine / "path" / "python3.7", prefix=machine)
    own = fake(machine / "own" / "bin" / "python3.8", "3.8")
    assert find_python("3.7", Config(python={"3.8": str(own)})) == path


def test_what_the_settings_name_is_that_or_nothing(machine: Path) -> None:
    fake(machine / "path" / "python3.7")
    gone = machine / "gone" / "python3.7"
    assert (
        refused(Config(python={"3.7": str(gone)})).found
        == f"tried {gone} (No such file or directory)"
    )


def test_pyenvs_newest_is_found_last(machine: Path) -> None:
    for version in ("3.7.9", "3.7.16", "3.8.1"):
        fake(machine / "pyenv" / "versions" / version / "bin" / "python3.7")
    newest = machine / "pyenv" / "versions" / "3.7.16" / "bin" / "python3.7"
    assert find_python("3.7", Config()) == newest
    path = fake(machine / "path" / "python3.7", prefix=machine)
    assert find_python("3.7", Config()) == path


@pytest.mark.parametrize("folder", ["data/uv/python", "elsewhere"])
def test_what_uv_installed_is_found(
    machine: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    if folder == "elsewhere":
        monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(machine / folder))
    for version in ("3.7.3", "3.7.9", "3.8.20"):
        fake(machine / folder / f"cpython-{version}-linux-x86_64-gnu" / "bin" / "python3.7")
    # uv's own link to the newest.
    link = machine / folder / "cpython-3.7-linux-x86_64-gnu"
    link.symlink_to("cpython-3.7.9-linux-x86_64-gnu")
    newest = machine / folder / "cpython-3.7.9-linux-x86_64-gnu" / "bin" / "python3.7"
    assert find_python("3.7", Config()) == newest
    path = fake(machine / "pyenv" / "versions" / "3.7.1" / "bin" / "python3.7")
    assert find_python("3.7", Config()) == path


@pytest.mark.parametrize(
    "folder",
    [
        "home/miniconda3",
        "home/miniforge3/envs/models",
        "home/anaconda3/envs/py37",
        "opt/conda",
        "opt/conda/envs/models",
        "listed/env",
        "active",
        "mamba/envs/one",
    ],
)
def test_what_conda_installed_is_found(
    machine: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("CONDA_PREFIX", str(machine / "active"))
    monkeypatch.setenv("MAMBA_ROOT_PREFIX", str(machine / "mamba"))
    listed = machine / "home" / ".conda" / "environments.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text(f"{machine}/gone\n\n{machine}/listed/env\n")
    # A newer one in the same conda is no hindrance.
    fake(machine / folder / "bin" / "python3.8", "3.8")
    python = fake(machine / folder / "bin" / "python3.7")
    assert find_python("3.7", Config()) == python


def test_what_a_distribution_installed_is_found_also_where_path_lacks_it(machine: Path) -> None:
    python = fake(machine / "usr" / "bin" / "python3.7")
    assert find_python("3.7", Config()) == python


def test_of_several_the_locked_one_is_taken_and_else_the_first(machine: Path) -> None:
    trees = {}
    for name in ("3.7.16", "3.7.9", "3.7.3"):
        python = fake(machine / "pyenv" / "versions" / name / "bin" / "python3.7")
        library = python.parents[1] / "lib" / "python3.7"
        library.mkdir(parents=True)
        (library / "os.py").write_text(f"# {name}\n")
        trees[name] = find_tree("3.7", Config(python={"3.7": str(python)})).tree
    assert len(set(trees.values())) == 3
    for name, tree in trees.items():
        found = find_tree("3.7", Config(), tree)
        assert (found.python.parents[1].name, found.tree) == (name, tree)
    assert find_tree("3.7", Config(), Digest.of(b"another")).tree == trees["3.7.16"]
    assert find_tree("3.7", Config()).tree == trees["3.7.16"]


def test_one_that_cannot_be_taken_into_an_image_is_passed_over(lost: bytes, machine: Path) -> None:
    fake(machine / "path" / "python3.7", prefix=machine / "own")
    for path, data in (("bin/python3.7", lost), ("lib/libpython3.7m.so.1.0", b"\x7fELF")):
        (machine / "own" / path).parent.mkdir(parents=True)
        (machine / "own" / path).write_bytes(data)
    with pytest.raises(InterpreterError) as raised:
        find_tree("3.7", Config())
    assert "would not find its own libraries in an image" in raised.value.found
    good = fake(machine / "home" / "miniconda3" / "bin" / "python3.7")
    assert find_tree("3.7", Config()).python == good


@pytest.mark.skipif(os.geteuid() != 0, reason=needs.reason(needs.ROOT))
def test_another_users_pyenv_is_passed_over(machine: Path) -> None:
    fake(machine / "pyenv" / "versions" / "3.7.9" / "bin" / "python3.7")
    machine.chmod(0o700)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            find_python("3.7", Config())
        except InterpreterError:
            os._exit(0)
        except BaseException:
            os._exit(2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_shim_that_does_not_answer_is_passed_over(machine: Path) -> None:
    # pyenv's shims fail where no version is chosen.
    script(
        machine / "path" / "python3.7", "echo 'pyenv: python3.7: command not found' >&2; exit 127"
    )
    real = fake(machine / "pyenv" / "versions" / "3.7.9" / "bin" / "python3.7")
    assert find_python("3.7", Config()) == real


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("printf '%s\\n' /usr/bin/python3.7 3.8 CPython /usr", "it is CPython 3.8"),
        ("printf '%s\\n' /usr/bin/python3.7 3.7 PyPy /usr", "it is PyPy 3.7"),
        ("printf '%s\\n' /usr/bin/python3.7 3.7 CPython", NO_PYTHON),
        ("printf '%s\\n' /usr/bin/python3.7 3.7 CPython /usr; exit 1", "exit status 1"),
        ("echo one >&2; echo 'not here' >&2; exit 127", "exit status 127: not here"),
        ("printf '\\377\\376'", NO_PYTHON),
        ("echo hello", NO_PYTHON),
        ("exit 0", NO_PYTHON),
        ("kill -9 $$", "exit status -9"),
    ],
    ids=["version", "kind", "short", "code", "said", "bytes", "text", "nothing", "killed"],
)
def test_what_is_no_such_interpreter_is_passed_over_by_name(
    machine: Path, text: str, why: str
) -> None:
    path = script(machine / "path" / "python3.7", text)
    assert refused(Config()).found == f"tried {path} ({why})"


def test_what_cannot_be_run_is_passed_over(machine: Path) -> None:
    path = machine / "path" / "python3.7"
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF garbage")
    path.chmod(0o755)
    assert refused(Config()).found == f"tried {path} (Exec format error)"


def test_what_does_not_answer_is_not_waited_for(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.fetch.interpreter._TIMEOUT", 1)
    path = script(machine / "path" / "python3.7", "exec /bin/sleep 60")
    assert refused(Config()).found == f"tried {path} (no answer in 1 seconds)"


def test_without_any_the_ways_to_get_one_are_said() -> None:
    error = refused(Config())
    assert error.found == "nothing called python3.7"
    ways = ("uv python install 3.7", "conda create -n py3.7 python=3.7", "pyenv install 3.7")
    places = [error.remedy.index(way) for way in ways]
    assert places == sorted(places)
    assert 'set python."3.7" = "/path/to/python3.7" in the settings' in error.remedy


def test_the_machines_environment_does_not_reach_the_question(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # -I and -S: neither the user's nor the machine's packages may print or fail.
    path = script(
        machine / "path" / "python3.7",
        f'[ "$1 $2 $3" = "-I -S -c" ] && printf "%s\\n" {machine}/x 3.7 CPython {machine}',
    )
    assert find_python("3.7", Config()) == machine / "x"
    assert path.exists()


def test_nothing_of_the_current_folder_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever verifies a folder that somebody sent them stands in it."""
    for name in ("os", "platform", "sys", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    version = "{}.{}".format(*sys.version_info)
    assert find_python(version, Config(python={version: sys.executable})).exists()
    assert not (tmp_path / "ran").exists()


def test_an_interpreter_is_found_where_the_locale_has_no_backslash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localedef = Path("/usr/bin/localedef")
    if not localedef.exists() or not Path("/usr/share/i18n/charmaps").is_dir():
        needs.skip(needs.LOCALES)
    japanese = ["-c", "-i", "ja_JP", "-f", "SHIFT_JIS", str(tmp_path / "ja_JP.SHIFT_JIS")]
    subprocess.run([localedef, *japanese], check=False, capture_output=True, env={"PATH": "/bin"})
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "ja_JP.SHIFT_JIS")
    monkeypatch.setenv("PYTHONUTF8", "0")
    version = "{}.{}".format(*sys.version_info)
    found = find_python(version, Config(python={version: sys.executable}))
    assert found == Path(sys.base_prefix, "bin", f"python{version}")
