"""Long use: many builds in one store, its packages bumped at random, gc now and then.

    python tests/bench/long.py --rounds 200

All builds run in this one process, as a service would. After each gc the store may take little
more than one that was built afresh from the same locks; in the end no descriptor, process, mount
or temporary file may be left of the builds. The first thing that is wrong ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash import check, run
from crash.check import WrongError
from plinth.commands.main import main as plinth
from support.small_checkout import IMAGE, SmallCheckout, make, wheel

PACKAGES = 6
DATA = 60_000
# What may stay beside what is referenced: results that cannot be told from it, lock files, and
# records, some of each image; see plinth.inspect.gc.
SPARE = 100_000


@dataclass
class Use:
    """A checkout in use: the version of each package locked, and of each gc the bytes of the store
    before and after it, and how many packages were locked then."""

    checkout: SmallCheckout
    drawn: random.Random
    versions: dict[str, int] = field(default_factory=dict)
    taken: list[tuple[int, int, int]] = field(default_factory=list)

    def bump(self) -> None:
        """Move one to three packages on, add one or drop one; the lock names what is then there."""
        for name in self.drawn.sample(sorted(self.versions), self.drawn.randint(1, 3)):
            self.versions[name] += 1
        if self.drawn.random() < 0.1:
            self.versions[f"package{len(self.versions)}"] = 1
        elif self.drawn.random() < 0.1 and len(self.versions) > PACKAGES:
            self.versions.popitem()
        self.lock()

    def lock(self) -> None:
        folder = self.checkout.wheels
        for old in folder.iterdir():
            old.unlink()
        wheels = [wheel(folder, n, f"{v}.0", data=DATA) for n, v in self.versions.items()]
        self.checkout.lock(wheels)

    def build(self) -> None:
        """Build as the command does, in this process."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = plinth(["build", IMAGE])
        if code:
            raise WrongError(f"a build ended with {code}: {said.getvalue()[-2000:]}")

    def collect(self) -> None:
        """gc; then the layout is valid."""
        before = size(self.checkout.ws.build)
        run.gc(self.checkout)
        check.layout_is_valid(self.checkout)
        self.taken.append((before, size(self.checkout.ws.build), len(self.versions)))


def size(folder: Path) -> int:
    """The bytes of all files in `folder`."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def descriptors() -> list[str]:
    """What this process holds open."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        # One is that of the folder itself.
        with contextlib.suppress(FileNotFoundError):
            found.append(str(one.readlink()))
    return sorted(path for path in found if not path.startswith("/proc/"))


def processes(root: Path) -> list[str]:
    """The command lines of other processes that are our children or work in `root`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            here = (folder / "cwd").readlink().is_relative_to(root)
            if (here or parent == os.getpid()) and folder.name != str(os.getpid()):
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


def mounts(root: Path) -> list[str]:
    """What is mounted below `root`."""
    return [one for one in Path("/proc/self/mounts").read_text().splitlines() if str(root) in one]


def used(use: Use, rounds: int, every: int) -> None:
    """Build `rounds` times, with a gc after each `every` on the average and after the last.

    Raises:
        WrongError: something is left that should not be, or the store grows.
    """
    root = use.checkout.root
    use.build()
    before = descriptors()
    for number in range(1, rounds + 1):
        use.bump()
        use.build()
        if number == rounds or use.drawn.random() < 1 / every:
            use.collect()
    for what, left in (
        ("descriptors", sorted(set(descriptors()) - set(before))),
        ("descriptors more than before", descriptors()[len(before) :]),
        ("processes", processes(root)),
        ("mounts", mounts(root)),
        ("half-written files", check.half_written(use.checkout)),
    ):
        if left:
            raise WrongError(f"{len(left)} {what} left: {', '.join(left[:5])}")
    expected = check.digest(use.checkout)
    kept = size(use.checkout.ws.build)
    run.fresh(use.checkout)
    use.checkout.seed(debs=True)
    use.build()
    if (found := check.digest(use.checkout)) != expected:
        raise WrongError(f"built afresh the digest is {found}, and was {expected}")
    afresh = size(use.checkout.ws.build)
    # Each package takes at least its data twice: as a wheel in the cache, in a layer.
    if not len(use.versions) * DATA * 2 < afresh:
        raise WrongError(f"a store of {len(use.versions)} packages takes {afresh} bytes only")
    for _, after, count in use.taken:
        if after > afresh * count / len(use.versions) + SPARE:
            raise WrongError(
                f"after a gc the store takes {after} bytes for {count} packages; "
                f"afresh {afresh} for {len(use.versions)}"
            )
    print(
        f"{rounds} builds, {len(use.taken)} gc, {len(use.versions)} packages: "
        f"at most {max(b for b, _, _ in use.taken):,} bytes before a gc and "
        f"{max(a for _, a, _ in use.taken):,} after; in the end {kept:,}, afresh {afresh:,}; "
        f"{len(before)} descriptors before and after; one digest"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="how many builds")
    parser.add_argument("--every", type=int, default=10, help="builds between two gc, on average")
    parser.add_argument("--seed", type=int, help="draw the same again")
    arguments = parser.parse_args()
    drawn = run.drawn(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="long-") as folder:
        checkout = make(Path(folder).resolve() / "checkout")
        check.temporary(checkout).mkdir()
        os.environ.update(run.environment(checkout))
        os.environ.pop("PLINTH_BUILD", None)
        tempfile.tempdir = None
        os.chdir(checkout.root)
        checkout.seed(debs=True)
        use = Use(checkout, drawn, {f"package{n}": 1 for n in range(PACKAGES)})
        use.lock()
        started = time.monotonic()
        try:
            used(use, arguments.rounds, arguments.every)
        except WrongError as error:
            print(f"WRONG: {error}", file=sys.stderr)
            return 1
        finally:
            os.chdir("/")
    print(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
