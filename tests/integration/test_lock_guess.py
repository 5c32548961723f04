"""What the resolver is shown at first changes no lock: with and without it, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from integration.conftest import resolver_tools
from plinth.core.report import Progress, quiet
from plinth.core.settings import Config, load
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.lock.request import Work
from plinth.lock.resolver import Job, Resolver
from plinth.recipe.locks import pylock
from support import helpers
from support.helpers import make_wheel
from support.index_server import IndexServer

# By image: what it asks for, what the lock holds, whether the guess holds.
CASES: dict[str, tuple[Sequence[str], dict[str, str], bool]] = {
    "newest": (["app"], {"app": "3.0", "leaf": "4.0"}, True),
    # What is asked for later bounds what was chosen before.
    "bounded": (["app", "bounds"], {"app": "3.0", "bounds": "1.0", "leaf": "2.0"}, True),
    "asked": (["app<3", "leaf!=4.0"], {"app": "2.0", "leaf": "3.0"}, True),
    "a-pre-release": (["early>=1"], {"early": "1.0"}, True),
    "a-pre-release-asked-for": (["early>=2.0rc1"], {"early": "2.0rc1"}, True),
    # Its newest version conflicts, so an older one is taken, which needs an older leaf.
    "conflict": (["old-leaf", "app"], {"app": "1.0", "leaf": "1.0", "old-leaf": "1.0"}, False),
}
STOCK = (
    *(("leaf", version, ()) for version in ("1.0", "2.0", "3.0", "4.0")),
    ("app", "1.0", ("leaf",)),
    ("app", "2.0", ("leaf>=2",)),
    ("app", "3.0", ("leaf>=2",)),
    ("bounds", "1.0", ("leaf<3",)),
    ("old-leaf", "1.0", ("leaf<2",)),
    *(("early", version, ()) for version in ("0.9", "1.0", "2.0rc1")),
)


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    with IndexServer() as server:
        for name, version, needs in STOCK:
            more = "".join(f"Requires-Dist: {need}\n" for need in needs)
            # Every other one without PEP 658 metadata.
            wheel = make_wheel(tmp_path, name=name.replace("-", "_"), version=version, more=more)
            server.add(wheel, metadata=version != "2.0")
        yield replace(load(), index_url=server.url, files={})


def locked(root: Path, config: Config) -> dict[str, dict[str, str]]:
    """Both files of each image's lock."""
    ws = Workspace(root, root / "build")
    for folder in (ws.images, ws.bases, ws.build / "cache"):
        folder.mkdir(parents=True)
    (ws.bases / "tiny.toml").write_text(helpers.BASE.format(requirements=""))
    for name, (asked, _, _) in CASES.items():
        requirements = ", ".join(f'"{one}"' for one in asked)
        text = helpers.IMAGE.format(name=name, requirements=requirements)
        (ws.images / f"{name}.toml").write_text(text)
    (ws.build / "cache" / "tools").symlink_to(resolver_tools("3.7"))
    lock_images(ws, CASES, config=config, progress=quiet)
    for name, (_, wanted, _) in CASES.items():
        found = pylock.load(ws.locks / name / "pylock.toml").packages
        assert {package.name: package.version for package in found} == wanted
    return {
        name: {path.name: path.read_text() for path in (ws.locks / name).iterdir()}
        for name in CASES
    }


@pytest.mark.network
def test_a_guess_that_holds_or_not_gives_the_lock_of_no_guess(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[list[Job]] = []
    compile_ = Resolver.compile

    def noted(self: Resolver, jobs: Sequence[Job], progress: Progress) -> list[str | None]:
        runs.append(list(jobs))
        return compile_(self, jobs, progress)

    monkeypatch.setattr(Resolver, "compile", noted)
    guessed = locked(tmp_path / "guessed", config)
    assert [[job.guessed for job in jobs] for jobs in runs] == [[True] * len(CASES), [False]]
    missed = [name for name, case in CASES.items() if not case[2]]
    assert [job.command for job in runs[1]] == [f"doit lock:{name}" for name in missed]

    monkeypatch.setattr(Work, "guess", Work.job)
    assert locked(tmp_path / "whole", config) == guessed
