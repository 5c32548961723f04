"""Images of several Python versions locked in one run, each by its own; no lock that lacks a
requirement of one of its packages."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from packaging.utils import canonicalize_name

from integration.conftest import resolver_tools
from plinth.core.errors import LockError
from plinth.core.report import Progress, quiet
from plinth.core.settings import Config, load
from plinth.fetch.interpreter import find_python
from plinth.fetch.pypi.index import Index
from plinth.graph.workspace import Workspace
from plinth.lock.compilation import compile_requests
from plinth.lock.image import lock_images
from plinth.lock.request import Work
from plinth.lock.resolver import Resolver
from plinth.recipe.locks import pylock
from plinth.recipe.requires import unmet
from support import helpers
from support.helpers import make_wheel
from support.index_server import IndexServer

IMAGE = """\
framework = "{name}"
accelerator = "cpu"
base = "base-{python}"
summary = "a test"

[python]
requirements = ["demo-app"]
as-of = 2021-06-01T00:00:00Z
"""
IMAGES = {"older": "3.7", "newer": "3.8"}
WANTED = {
    "older": {"demo-app": "1.0", "demo-older": "1.0"},
    "newer": {"demo-app": "1.0", "demo-newer": "1.0"},
}


@pytest.fixture(scope="module")
def tools() -> Path:
    return resolver_tools(*IMAGES.values())


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """Settings that name an index in which what `demo-app` requires depends on the Python."""
    requires = (
        "Requires-Dist: demo-older; python_version < '3.8'\n"
        "Requires-Dist: demo-newer; python_version >= '3.8'\n"
    )
    with IndexServer() as server:
        server.add(make_wheel(tmp_path, name="demo_app", more=requires))
        for name in ("demo_older", "demo_newer"):
            server.add(make_wheel(tmp_path, name=name))
        yield replace(load(), index_url=server.url, files={})


def checkout(root: Path, tools: Path) -> Workspace:
    """A checkout with one image for each Python, and nothing locked."""
    ws = Workspace(root, root / "build")
    for folder in (ws.images, ws.bases, ws.build / "cache"):
        folder.mkdir(parents=True)
    for name, python in IMAGES.items():
        base = helpers.BASE.format(requirements="").replace('"3.7"', f'"{python}"')
        (ws.bases / f"base-{python}.toml").write_text(base)
        (ws.images / f"{name}.toml").write_text(IMAGE.format(name=name, python=python))
    (ws.build / "cache" / "tools").symlink_to(tools)
    return ws


@pytest.mark.network
@pytest.mark.parametrize(
    "order", [["older", "newer"], pytest.param(["newer", "older"], marks=pytest.mark.nightly)]
)
def test_images_of_two_pythons_lock_in_one_run_as_they_do_alone(
    order: list[str], tmp_path: Path, tools: Path, config: Config
) -> None:
    together, alone = checkout(tmp_path / "both", tools), checkout(tmp_path / "alone", tools)
    lock_images(together, order, config=config, progress=quiet)
    for name, wanted in WANTED.items():
        lock_images(alone, [name], config=config, progress=quiet)
        path = together.locks / name / "pylock.toml"
        assert {p.name: p.version for p in pylock.load(path).packages} == wanted
        for file in ("pylock.toml", "requirements.txt"):
            one, other = (ws.locks / name / file for ws in (together, alone))
            assert one.read_text() == other.read_text()


@pytest.mark.network
def test_an_answer_that_lacks_a_requirement_is_not_locked(
    tmp_path: Path, tools: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(resolver: Resolver, work: Sequence[Work], progress: Progress) -> None:
        compile_requests(resolver, work, progress)
        for one in work:
            path = one.folder / "requirements.txt"
            path.write_text(path.read_text().partition("demo-older==")[0])

    monkeypatch.setattr("plinth.lock.image.compile_requests", cut)
    ws = checkout(tmp_path / "checkout", tools)
    with pytest.raises(LockError, match="does not meet every requirement") as raised:
        lock_images(ws, ["older"], config=config, progress=quiet)
    assert raised.value.where == "images/older.toml"
    assert raised.value.found == "demo-app 1.0 requires demo-older: not in the lock"
    assert not (ws.locks / "older").exists()


# Metadata of every form that pip check looks at, each package 1.0.
INSTALLED = {
    "Demo.One": [
        "demo-two (>=0.9)",
        "demo_two<1; python_version < '3.8'",
        "Demo.Two!=1.0; python_version >= '3.8'",
        "demo-gone>=2; sys_platform == 'linux'",
        "demo-gone-too; sys_platform == 'win32'",
        "demo-extra; extra == 'more'",
    ],
    "demo-two": ["demo_one", "demo-legacy (>=1.0.*)", "demo-url @ https://example.org/u.whl"],
    "demo-three": ["demo-two (>=1.0.*)", "demo-one==1.*", "demo-three>=1"],
}


@pytest.mark.network
@pytest.mark.parametrize("python", IMAGES.values())
def test_unmet_finds_what_pip_check_finds(tmp_path: Path, tools: Path, python: str) -> None:
    for name, requires in INSTALLED.items():
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
    executable = find_python(python, load())
    packages = Resolver(tools, executable, cast(Index, None)).packages(quiet)
    done = subprocess.run(
        [str(executable), "-S", "-m", "pip", "check", "--disable-pip-version-check"],
        env={"PYTHONPATH": f"{tmp_path}:{packages}", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    # "a 1.0 requires b, which is not installed."; "a 1.0 has requirement b<1, but you have b 2."
    wording = re.compile(r"(\S+) \S+ (?:requires|has requirement) ([\w.-]+)(.*)")
    theirs = {
        (match[1], canonicalize_name(match[2]), "not installed" in match[3])
        for match in map(wording.match, done.stdout.splitlines())
        if match
    }
    declared = {str(canonicalize_name(name)): texts for name, texts in INSTALLED.items()}
    ours = {
        (match[1], canonicalize_name(match[2]), "not in the lock" in match[3])
        for match in map(wording.match, unmet(dict.fromkeys(declared, "1.0"), declared, {}, python))
        if match
    }
    assert len(theirs) == 4
    assert ours == {(canonicalize_name(name), wanted, gone) for name, wanted, gone in theirs}
