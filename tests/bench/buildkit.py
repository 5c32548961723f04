"""The same lock and base built by BuildKit and by us, in one run; ratios are what counts.

    python tests/bench/buildkit.py [--images FOLDER]

Wants root, the image built once in this checkout (for its inputs), and BuildKit of today
(`tests/field/build buildkit runc`). BuildKit runs what a careful user would write: wheels and
requirements bind-mounted, `pip install --no-index --require-hashes`. What it builds stays in its
cache, uncompressed and without a name, unless it is written as an image, as ours is. `--images`
measures nothing: it leaves BuildKit's image in FOLDER/gzip and FOLDER/zstd, as OCI layouts for
`deploy.py --also`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from plinth.build.contract import contract_layer  # noqa: E402
from plinth.build.contract_files import RUNTIME  # noqa: E402
from plinth.build.sdists import cached_wheel  # noqa: E402
from plinth.build.wheels import WheelFile  # noqa: E402
from plinth.core.digest import Digest  # noqa: E402
from plinth.formats.oci.image import assemble  # noqa: E402
from plinth.formats.python.place import Base  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.recipe.base import load_base  # noqa: E402
from plinth.recipe.locks.stale import check  # noqa: E402
from support import buildkit, judges  # noqa: E402
from support.bases import known_base  # noqa: E402
from support.helpers import make_wheel  # noqa: E402
from support.sessions import session_of  # noqa: E402

IMAGE, BASE = "sklearn-0.24.1", "debian12-py37"
ROUNDS = 3
WHEELS = ("wheel-layer", "wheel-part", "group-layer")
DOCKERFILE = """FROM base
ARG BUST
USER root
RUN --mount=type=bind,source=wheels,target=/wheels \\
    --mount=type=bind,source=requirements.txt,target=/requirements.txt \\
    : "$BUST" && /opt/python/bin/python3.7 /wheels/{pip}/pip install --quiet --no-cache-dir \\
    --no-index --find-links /wheels --no-warn-script-location --root-user-action=ignore \\
    --require-hashes -r /requirements.txt
"""


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def wheels_of(ws: Workspace, base: Base, image: str = IMAGE) -> list[WheelFile]:
    """The wheels that the lock of `image` names, on the base `BASE`."""
    found = []
    for package in check(ws, image).packages:
        if package.is_sdist:
            settings = load_base(ws.bases, BASE).sdists.get(package.name)
            wheel = cached_wheel(ws, package, base, settings.environment if settings else {})
            assert wheel is not None
        else:
            file = package.file
            wheel = WheelFile(package.name, package.version, file.name, file.digest)
        found.append(wheel)
    return found


def base_image(ws: Workspace, base: Base) -> str:
    """The digest of an image in the layout that holds the base and the contract."""
    image = assemble(
        ws.layout,
        [*base.layers, contract_layer(session_of(ws), (), base.interpreter.version)],
        architecture="amd64",
        created="1970-01-01T00:00:00Z",
        runtime=RUNTIME,
        annotations={},
    )
    return image.manifest.digest.oci


class Peer:
    """Builds the lock by BuildKit, in a folder of wheels."""

    def __init__(
        self,
        running: buildkit.BuildKit,
        ws: Workspace,
        base: Base,
        wheels: list[WheelFile],
        folder: Path,
    ) -> None:
        self.running, self.folder, self.count = running, folder, 0
        self.base = buildkit.from_layout("base", ws.layout.root, base_image(ws, base))
        (folder / "wheels").mkdir(parents=True)
        lines = []
        for wheel in wheels:
            shutil.copyfile(ws.cache.path(wheel.digest), folder / "wheels" / wheel.filename)
            lines.append(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.digest.hex}")
        (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
        (pip,) = (wheel.filename for wheel in wheels if wheel.name == "pip")
        (folder / "Dockerfile").write_text(DOCKERFILE.format(pip=pip))

    def build(
        self, output: Path | None = None, *, again: bool = False, compression: str = "gzip"
    ) -> None:
        """Build, and write an image into the new folder `output`; with `again`, the same as last
        time, which BuildKit knows. Layers of the base stay as they are, but for zstd."""
        self.count += not again
        options = [f"--opt=build-arg:BUST={self.count}", "--opt=force-network-mode=none"]
        if output is not None:
            form = f"compression={compression},force-compression={compression != 'gzip'}".lower()
            options.append(f"--output=type=oci,tar=false,dest={output},{form}")
        self.running.build(self.folder, *options, *self.base)


class Plinth:
    """Builds in copies of a prepared checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        for name in filter(None, names.decode().split("\0")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
        self.ws = Workspace(folder, folder / "build")

    def prepare(self, source: Workspace, base: Base) -> None:
        """Inputs fetched, base and sdists built, no wheel layer."""
        shutil.rmtree(self.folder / "build", ignore_errors=True)
        for store, other in ((source.cache, self.ws.cache), (source.layout, self.ws.layout)):
            other.prepare()
            keep = {layer.digest.hex for layer in base.layers} if store is source.layout else None
            for blob in store.blobs.iterdir():
                if keep is None or blob.name in keep:
                    os.link(blob, other.blobs / blob.name)
        for entry in source.actions.root.glob("*.json"):
            if json.loads(entry.read_bytes())["mnemonic"] not in WHEELS:
                self.ws.actions.root.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(entry, self.ws.actions.root / entry.name)

    def build(self, image: str = IMAGE) -> None:
        self.run("-m", "plinth", "build", image)

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)

    def second_image(self) -> str:
        """Another image with the same lock: all its wheels are shared."""
        other = f"{IMAGE}-twin"
        shutil.copyfile(
            self.folder / "images" / f"{IMAGE}.toml", self.folder / "images" / f"{other}.toml"
        )
        shutil.copytree(
            self.folder / "locks" / IMAGE, self.folder / "locks" / other, dirs_exist_ok=True
        )
        return other

    def bump(self, number: int) -> None:
        """Give one small package another wheel, as a new version would."""
        with tempfile.TemporaryDirectory() as folder:
            wheel = make_wheel(
                Path(folder),
                {"threadpoolctl.py": f"BUMP = {number}\n".encode()},
                name="threadpoolctl",
                version="3.1.0",
            )
            digest = self.ws.cache.put_file(wheel)
        locks = self.folder / "locks" / IMAGE
        lock = check(self.ws, IMAGE)
        (old,) = (p.file.digest for p in lock.packages if p.name == "threadpoolctl")
        requirements = (locks / "requirements.txt").read_text().replace(old.hex, digest.hex)
        (locks / "requirements.txt").write_text(requirements)
        text = (locks / "pylock.toml").read_text().replace(old.hex, digest.hex)
        text = text.replace(f"size = {old.size}\n", f"size = {digest.size}\n")
        text = text.replace(lock.requirements_digest, Digest.of(requirements.encode()).hex)
        (locks / "pylock.toml").write_text(text)


def no_op(ours: Plinth, folder: Path) -> tuple[float, float]:
    """`doit build` with nothing to do, and doit with as many empty tasks that are up to date."""
    ours.run("-m", "doit", "build")
    count = len(list((ours.folder / "images").glob("*.toml")))
    folder.mkdir()
    (folder / "dodo.py").write_text(
        "def task_empty():\n"
        f"    for number in range({count}):\n"
        "        yield {'name': str(number), 'actions': [], 'uptodate': [True]}\n"
    )
    ours_times, empty_times = [], []
    for _ in range(15):
        ours_times.append(seconds(lambda: ours.run("-m", "doit", "build")))
        empty = [sys.executable, "-m", "doit"]
        empty_times.append(
            seconds(
                lambda: subprocess.run(empty, cwd=folder, check=True, capture_output=True)  # noqa: B023
            )
        )
    return min(ours_times), min(empty_times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path)
    images: Path | None = parser.parse_args().images
    for judge in ("buildkit", "runc"):
        if judges.find(judge).missing:
            sys.exit(f"{judge} is missing; get it: {judges.find(judge).missing}")
    source = Workspace(ROOT, ROOT / "build")
    base = known_base(source, BASE)
    if base is None:
        sys.exit(f"build the image first: doit build:{IMAGE}")
    wheels = wheels_of(source, base)
    rows = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
        running = stack.enter_context(buildkit.buildkit(folder))
        theirs = Peer(running, source, base, wheels, folder / "peer")
        if images is not None:
            for compression in ("gzip", "zstd"):
                theirs.build(images / compression, again=True, compression=compression)
            return
        ours = Plinth(folder / "plinth")
        theirs.build()  # the context is known from here on
        cold: list[float] = []
        written: list[float] = []
        mine: list[float] = []
        for number in range(ROUNDS):
            out = folder / f"out-{number}"
            cold.append(seconds(theirs.build))
            ours.prepare(source, base)
            mine.append(seconds(ours.build))
            written.append(seconds(partial(theirs.build, out)))
        slow = min(cold)
        rows.append(("cold: base and wheels local", slow, min(mine)))
        rows.append(("cold, and BuildKit writes the image, too", min(written), min(mine)))
        twin = ours.second_image()
        ours.build(twin)
        rows.append(
            (
                "shared wheels warm: another image of the same wheels",
                slow,
                min(seconds(lambda: ours.build(twin)) for _ in range(ROUNDS)),
            )
        )
        bumped = []
        for number in range(ROUNDS):
            ours.bump(number)
            bumped.append(seconds(ours.build))
        rows.append(("one package bumped, whole command", slow, min(bumped)))
        again = min(seconds(lambda: theirs.build(again=True)) for _ in range(ROUNDS))
        quiet, empty = no_op(ours, folder / "empty")
        rows.append(("nothing changed", again, quiet))
    print("| work | BuildKit | plinth | ratio |\n|---|---|---|---|")
    for what, slow, fast in rows:
        print(f"| {what} | {slow:.2f} s | {fast:.3f} s | {slow / fast:.1f}x |")
    print(
        f"\nno-op `doit build` {quiet:.3f} s; doit with as many empty tasks {empty:.3f} s; "
        f"ratio {quiet / empty:.2f}"
    )


if __name__ == "__main__":
    main()
