"""Images that differ in all that an index shows them, locked in one run: each as if alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from integration.test_lock import LATER, config_of, sdist, silent
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.locks import stale
from plinth.recipe.locks.pylock import LockedPackage, load
from support import helpers
from support.helpers import make_wheel
from support.index_server import IndexServer

pytestmark = pytest.mark.network

HEAD = 'framework = "demo"\naccelerator = "cpu"\nbase = "tiny"\nsummary = "a test"\n[python]\n'
EXTENSION = 'extends = "plain"\nsummary = "a test"\n[python]\n'
NEEDS = 'requirements = ["demo-clock", "demo-source"]\n'
# What an sdist's metadata is depends on what it is built with.
BACKEND = """\
import pathlib

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = pathlib.Path(directory, "demo_source-1.0.dist-info")
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: demo-source", "Version: 1.0"]
    folder.joinpath("METADATA").write_text("\\n".join([*lines, "Requires-Dist: {needs}", ""]))
    return folder.name
"""
IMAGES = {
    "plain": HEAD + NEEDS,
    "bound": f'{HEAD}{NEEDS}[python.indexes]\ndemo-build = "company"\n',
    "own": f'{HEAD}{NEEDS}[[python.local]]\npath = "own/demo_build-5.0-py3-none-any.whl"\n',
    "pinned": f'{HEAD}requirements-file = "app/requirements.txt"\n',
    "earlier": f"{HEAD}{NEEDS}as-of = 2021-06-01T00:00:00Z\n",
    "bounded": f'{HEAD}{NEEDS}[[python.constraints]]\nrequirement = "demo-ten<2"\nreason = "a"\n',
    "instead": f'{HEAD}{NEEDS}[[python.overrides]]\nrequirement = "demo-tool<2"\nreason = "a"\n',
    "mine": f'{EXTENSION}requirements = ["demo-more"]\n[python.indexes]\ndemo-build = "company"\n',
}
"""By id; `mine` binds what the image that it extends builds with."""

EXPECTED = {
    "plain": ("demo-clock 2.0, demo-ten 2.0", "demo-build 10.0, demo-tool 2.0"),
    "bound": ("demo-clock 2.0, demo-company 1.0", "demo-build 1.5"),
    "own": ("demo-clock 2.0, demo-own 1.0", "demo-build 5.0"),
    "pinned": ("demo-clock 2.0, demo-one 1.0", "demo-build 1.0"),
    "earlier": ("demo-clock 1.0, demo-nine 1.0", "demo-build 9.0"),
    "bounded": ("demo-clock 2.0, demo-ten 1.0", "demo-build 10.0, demo-tool 2.0"),
    "instead": ("demo-clock 2.0, demo-ten 2.0", "demo-build 10.0, demo-tool 1.0"),
    "mine": ("demo-clock 2.0, demo-ten 2.0", "demo-build 10.0, demo-tool 2.0"),
}
"""What is newest at the moment, what the sdist's code asks for, and what it is built with."""


@dataclass
class Lab:
    """Two indexes, and a checkout for each run, in which pages of an earlier day are kept."""

    folder: Path
    tools: Path
    config: Config
    digest: str = ""
    runs: int = 0

    def checkout(self) -> Workspace:
        self.runs += 1
        ws = Workspace(self.folder / f"run{self.runs}", self.folder / f"run{self.runs}" / "build")
        for path in (ws.images, ws.bases, ws.root / "own", ws.root / "app", ws.build / "cache"):
            path.mkdir(parents=True)
        (ws.bases / "tiny.toml").write_text(helpers.BASE.format(requirements=""))
        for name, text in IMAGES.items():
            named = text.replace('"demo"', f'"{name}"')
            (ws.images / f"{name}.toml").write_text(named)
        shutil.copy(self.folder / "own" / "demo_build-5.0-py3-none-any.whl", ws.root / "own")
        pin = f"demo-build==1.0 --hash=sha256:{self.digest}\ndemo-clock\ndemo-source\n"
        (ws.root / "app" / "requirements.txt").write_text(pin)
        (ws.build / "cache" / "tools").symlink_to(self.tools)
        if (self.folder / "pages").exists():
            # With their times.
            shutil.copytree(self.folder / "pages", ws.build / "cache" / "index")
        return ws

    def locked(self, *runs: Sequence[str]) -> dict[str, dict[str, bytes]]:
        """The files of each lock after these runs in one checkout."""
        ws = self.checkout()
        for ids in runs:
            assert sorted(lock_images(ws, ids, config=self.config, progress=silent)) == sorted(ids)
        for ids in runs:
            for image_id in ids:
                stale.check(ws, image_id)
        return {
            image_id: {path.name: path.read_bytes() for path in (ws.locks / image_id).iterdir()}
            for ids in runs
            for image_id in ids
        }


def wheel(folder: Path, version: str, needs: str, *built_with: str) -> Path:
    folder.mkdir(exist_ok=True)
    files = {"demo_build.py": BACKEND.format(needs=needs).encode()}
    more = "".join(f"Requires-Dist: {one}\n" for one in built_with)
    return make_wheel(folder, files, name="demo_build", version=version, more=more)


@pytest.fixture
def lab(tmp_path: Path, tools: Path) -> Iterator[Lab]:
    files = tmp_path / "files"
    with IndexServer() as public, IndexServer() as private:
        config = replace(config_of(public), indexes={"company": private.url})
        made = Lab(tmp_path, tools, config)
        made.digest = public.add(wheel(files, "1.0", "demo-one"))["hashes"]["sha256"]
        public.add(wheel(files, "9.0", "demo-nine"))
        public.add(sdist(files, "demo_source-1.0"))
        for name in ("one", "nine", "company", "own", "more", "clock"):
            public.add(make_wheel(files, {f"{name}.py": b""}, name=f"demo_{name}", version="1.0"))
        for version in ("1.0", "2.0"):
            for name in ("ten", "tool"):
                path = make_wheel(files, {f"{name}.py": b""}, name=f"demo_{name}", version=version)
                public.add(path)
        private.add(wheel(tmp_path / "private", "1.5", "demo-company"))
        wheel(tmp_path / "own", "5.0", "demo-own")
        # What was fetched a week ago serves an image that looks at a moment before, and no other.
        made.locked(["earlier"])
        shutil.copytree(tmp_path / "run1" / "build" / "cache" / "index", tmp_path / "pages")
        for page in (tmp_path / "pages").glob("*/*.json"):
            os.utime(page, (page.stat().st_mtime - 7 * 86_400,) * 2)
        public.add(wheel(files, "10.0", "demo-ten", "demo-tool"), uploaded=LATER)
        newer = make_wheel(files, {"clock.py": b""}, name="demo_clock", version="2.0")
        public.add(newer, uploaded=LATER)
        yield made


def built(lock: bytes, folder: Path) -> tuple[str, str]:
    """What there is of demo-clock and of what the sdist asks for, and what it is built with."""
    (folder / "pylock.toml").write_bytes(lock)
    found = {one.name: one for one in load(folder / "pylock.toml").packages}
    source = found["demo-source"]

    def words(packages: Sequence[LockedPackage]) -> str:
        return ", ".join(f"{one.name} {one.version}" for one in packages)

    brought = [found[name] for name in source.dependencies]
    return words([found["demo-clock"], *brought]), words(source.build_requires)


def test_images_of_one_run_are_locked_as_each_alone(lab: Lab, tmp_path: Path) -> None:
    alone = {
        image_id: lab.locked(*([["plain"]] if image_id == "mine" else []), [image_id])[image_id]
        for image_id in IMAGES
    }
    shown = {name: built(files["pylock.toml"], tmp_path) for name, files in alone.items()}
    assert shown == EXPECTED
    ids = list(IMAGES)
    # Pages are asked for by whoever is first: also by one for which older ones do.
    for order in (ids, ids[::-1], ["earlier", *(one for one in ids if one != "earlier")]):
        together = lab.locked(order)
        for image_id in ids:
            assert together[image_id] == alone[image_id], f"{image_id} of {order}"
