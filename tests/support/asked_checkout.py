"""A small checkout with the files of a project, to be locked from an index."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tomli
import tomli_w

from plinth.recipe.asked.requirements import logical_lines
from support import small_checkout
from support.asked_project import DATA, wheel
from support.index_server import IndexServer
from support.small_checkout import IMAGE, SmallCheckout

HEAD = f"""\
framework = "{IMAGE}"
accelerator = "cpu"
base = "{IMAGE}"
summary = "a test"
[python]
"""


def checkout(root: Path, tools: Path, python: str) -> SmallCheckout:
    """A checkout that builds, whose image has `python` as its table, with the data in app/."""
    made = small_checkout.make(root, [wheel(root.parent, "unused", "1")])
    shutil.rmtree(made.ws.locks / IMAGE)
    shutil.copytree(DATA, root / "app")
    text = (DATA / "requirements.txt").read_text()
    plain = [line.text.partition("--hash")[0] for line in logical_lines(text)]
    (root / "app" / "plain.txt").write_text("\n".join(plain))
    (made.ws.images / f"{IMAGE}.toml").write_text(HEAD + python)
    (made.ws.build / "cache").mkdir(parents=True, exist_ok=True)
    (made.ws.build / "cache" / "tools").symlink_to(tools)
    return made


def commanded(made: SmallCheckout, server: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command run in the checkout, with the index."""
    settings = tomli.loads(made.settings.read_text())
    # The machine's own, which runs the resolver.
    settings.pop("python")
    made.settings.write_text(tomli_w.dumps({"index-url": server.url, **settings}))
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("PLINTH_CONFIG", str(made.settings))
