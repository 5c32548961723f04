"""Who requires what: chains from what is asked for, with the words of the packages themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.graph.workspace import Workspace
from plinth.inspect.requires import deb_requires, wheel_requires
from plinth.inspect.why import Needs, chains, why
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.locks.accelerator import AcceleratorLock
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from plinth.recipe.recipe import Recipe
from support.debs import Package
from support.helpers import make_wheel
from support.layer_files import locked_deb, locked_wheel

ROOT = Path(__file__).resolve().parents[3]
NEEDS = """\
Provides-Extra: fast
Requires-Dist: Six>=1.5
Requires-Dist: flask[async]<3,>=2; python_version < "3.8"
Requires-Dist: numpy==2; python_version >= "3.8"
Requires-Dist: turbo; extra == 'fast'
Requires-Dist: colorama; sys_platform == "win32"
Requires-Dist: not a requirement
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """This checkout, whose build folder is empty."""
    return Workspace(ROOT, tmp_path / "build")


def test_every_way_from_what_is_asked_for_is_told_shortest_first(ws: Workspace) -> None:
    (reason,) = why(ws, "sklearn-0.24.1", "NumPy")
    assert (reason.kind, reason.name, reason.more) == ("Python", "numpy", False)
    names = [tuple(step.name for step in chain) for chain in reason.chains]
    assert names == [
        ("numpy",),
        ("pandas", "numpy"),
        ("scikit-learn", "numpy"),
        ("scikit-learn", "scipy", "numpy"),
    ]
    assert reason.chains[0][0].wanted == "images/sklearn-0.24.1.toml: numpy>=1.16.0"
    # No wheel is in this store, so how pandas words it is not known, and that is said.
    assert reason.chains[1][1].wanted == ""
    assert any("pandas" in note for note in reason.notes)


def test_os_packages_of_the_base_are_explained_as_far_as_files_are_there(ws: Workspace) -> None:
    (reason,) = why(ws, "minimal", "libssl3")
    assert reason.kind == "OS"
    assert [chain[0].wanted for chain in reason.chains] == ["base/debian12-py37.toml: libssl3"]
    assert any("not in the store" in note for note in reason.notes)


def test_what_is_not_there_is_said_with_what_is_near(ws: Workspace) -> None:
    with pytest.raises(PlinthError) as raised:
        why(ws, "minimal", "flaks")
    assert raised.value.what == "minimal holds no package called 'flaks'"
    assert "flask" in raised.value.found


def test_a_wheel_says_what_it_needs_for_the_target(ws: Workspace, tmp_path: Path) -> None:
    path = make_wheel(tmp_path, more=NEEDS)
    file = LockedFile(path.name, ws.cache.put_file(path), "1970")
    package = LockedPackage("demo", "1.0", file, False)
    assert wheel_requires(ws, package, "3.7") == {
        "six": "Six>=1.5",
        "flask": "flask[async]<3,>=2",
        "turbo": "turbo (extra fast)",
    }
    newer = wheel_requires(ws, package, "3.9")
    assert newer is not None
    assert newer["numpy"] == "numpy==2"
    ws.cache.path(file.digest).write_bytes(b"x" * file.digest.size)
    assert wheel_requires(ws, package, "3.7") is None


def test_control_files_say_what_debian_packages_need(ws: Workspace) -> None:
    fields = {
        "mail": {"Depends": "libc6 (>= 2.3), exim | mta"},
        "postfix": {"Provides": "mta", "Pre-Depends": "libc6"},
        "libc6": {},
    }
    packages = [
        LockedDeb(name, "1", "amd64", "s", f"{name}.deb", ws.cache.put(Package(name, fields=f).deb))
        for name, f in fields.items()
    ]
    absent = LockedDeb("gone", "1", "amd64", "s", "gone.deb", Digest.of(b"gone"))
    found, unread = deb_requires(ws, [*packages, absent])
    assert found == {
        "mail": {"libc6": "libc6 (>= 2.3)", "postfix": "mta"},
        "postfix": {"libc6": "libc6"},
    }
    assert unread == ["gone"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=25))
def test_chains_are_the_simple_paths_that_exist_each_once(pairs: list[tuple[int, int]]) -> None:
    needs = Needs("Python", {str(number): "1" for number in range(6)}, {"0": ["asked"]})
    for parent, child in pairs:
        needs.edges.setdefault(str(child), {})[str(parent)] = "words"
    found = [tuple(step.name for step in chain) for chain in chains(needs, "5", 1000)]
    assert len(set(found)) == len(found)
    assert [len(path) for path in found] == sorted(len(path) for path in found)
    known = {(str(parent), str(child)) for parent, child in pairs}

    def paths(path: tuple[str, ...]) -> set[tuple[str, ...]]:
        if path[-1] == "5":
            return {path}
        return {
            whole
            for parent, child in known
            if parent == path[-1] and child not in path
            for whole in paths((*path, child))
        }

    assert set(found) == paths(("0",))


def test_the_command_shows_chains_and_gives_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PLINTH_BUILD", str(tmp_path))
    assert main(["why", "sklearn-0.24.1", "scipy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("scipy ")
    assert lines[0].endswith("(Python package) is in sklearn-0.24.1 because")
    assert lines[1:3] == [
        "  images/sklearn-0.24.1.toml: scikit-learn==0.24.1",
        "    scikit-learn 0.24.1 needs scipy",
    ]
    assert main(["why", "sklearn-0.24.1", "scipy", "--json"]) == 0
    (reason,) = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in reason["chains"][0]] == ["scikit-learn", "scipy"]


def test_a_set_and_os_packages_ask_too(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    mail, libc = (
        LockedDeb(name, "1", "amd64", "s", f"{name}.deb", ws.cache.put(Package(name, fields=f).deb))
        for name, f in (("mail", {"Depends": "libtiny (>= 2)"}), ("libtiny", {}))
    )
    recipe = Recipe.load(ws, "minimal")
    recipe = replace(
        recipe,
        spec=replace(recipe.spec, os_packages=("mail=1",)),
        os_packages=(mail, libc, locked_deb("alone", "1")),
        accelerator=load_accelerator(ws.bases, "cuda11.8"),
        accelerator_lock=AcceleratorLock((), (locked_wheel("cudnn", "8.9"),), {}, {}),
    )
    monkeypatch.setattr(Recipe, "load", lambda *_: recipe)
    (reason,) = why(ws, "minimal", "libtiny")
    ((first, second),) = reason.chains
    assert (first.name, first.wanted) == ("mail", "images/minimal.toml: mail=1")
    assert (second.name, second.wanted) == ("libtiny", "libtiny (>= 2)")
    (reason,) = why(ws, "minimal", "alone")
    assert reason.chains == ()
    assert "nothing that is asked for leads to it, as far as the locks tell" in reason.notes
