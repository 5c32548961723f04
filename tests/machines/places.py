"""What machines reach: the stand-in for the world (`support.world`) in its forms, the real Debian
archive; and a checkout in which the canonical base pins what the stand-in has."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from machines import trees
from machines.machine import Machine
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_python
from plinth.graph.workspace import Workspace
from support import canonical
from support.helpers import checkout_files
from support.world import Content, World, world

ROOT = Path(__file__).resolve().parents[2]
_GIT = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")

Form = Literal["plain", "company", "proxied"]
"""How the world is met: without TLS; by TLS of a company's authority; and behind its proxy."""


@dataclass
class Places:
    """The world in its forms, each made when it is first asked for; what it writes is in `folder`.
    `checkout` is a commit to clone, and never changed."""

    folder: Path
    checkout: Path
    content: Content
    stack: contextlib.ExitStack
    worlds: dict[Form, World] = field(default_factory=dict)

    def world(self, form: Form) -> World:
        """The world in this form."""
        if form not in self.worlds:
            made = world(
                self.folder / form,
                self.content,
                tls=form == "company",
                proxied=form == "proxied",
            )
            self.worlds[form] = self.stack.enter_context(made)
        return self.worlds[form]

    def asked(self) -> int:
        """How many requests there were so far."""
        return sum(len(one.asked()) for one in self.worlds.values())

    @cached_property
    def python(self) -> Path:
        """A layer with this machine's own CPython 3.7 where root's pyenv would have it."""
        found = find_python("3.7", Config()).parents[1]
        layer = self.folder / "python"
        target = layer / "root/.pyenv/versions" / found.name
        target.parent.mkdir(parents=True)
        shutil.copytree(found, target, symlinks=True)
        return layer


def port(url: str) -> int:
    """The port that `url` names."""
    found = urlsplit(url).port
    assert found
    return found


@contextlib.contextmanager
def places(folder: Path, built: Workspace, machines: Sequence[Machine]) -> Iterator[Places]:
    """The places, while the block runs, with what `machines` need; their images are built in
    `built`."""
    made = canonical.make(built, folder)
    wheels = canonical.wheels_of(built, {machine.image for machine in machines})
    for tree in {machine.tree for machine in machines}:
        packages = trees.packages(ROOT / "requirements" / "plinth.txt", tree)
        wheels |= {path.name: path for path in packages}
    content = made.content(wheels)
    checkout = folder / "checkout"
    for name in checkout_files(ROOT):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    made.pin(Workspace(checkout, checkout / "build"))
    for arguments in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "a checkout"]):
        subprocess.run(["git", *_GIT, *arguments], cwd=checkout, check=True)
    with contextlib.ExitStack() as stack:
        yield Places(folder, checkout, content, stack)
