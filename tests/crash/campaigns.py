"""What is done to builds; a campaign raises `WrongError` for the first thing that is wrong."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from crash import check, run
from crash.check import WrongError
from support.clocks import faketime
from support.small_checkout import IMAGE, SmallCheckout


def kills(checkout: SmallCheckout, count: int, drawn: random.Random) -> None:
    """Kill `count` builds (and now and then a gc) at moments drawn at random; a few on one store,
    then the next build must give the same digest, and nothing half-written may be left. What
    ended before it could be killed does not count."""
    run.fresh(checkout)
    whole = run.completed(checkout)
    expected = check.digest(checkout)
    killed = {run.build: 0, run.gc: 0}
    late = 0
    while (left := count - sum(killed.values())) > 0:
        run.fresh(checkout)
        if drawn.random() < 0.3:
            # From here on the next build finds much of it made.
            run.completed(checkout)
            _lose(checkout, drawn)
        for _ in range(min(drawn.randint(1, 4), left)):
            work = run.gc if drawn.random() < 0.15 else run.build
            forked = run.fork(checkout, work)
            time.sleep(drawn.uniform(0, whole * (0.15 if work is run.gc else 0.9)))
            if forked.kill(workers=drawn.random() < 0.5) == 0:
                late += 1
            else:
                killed[work] += 1
            check.layout_is_valid(checkout)
        again(checkout, expected)
    print(
        f"{killed[run.build]} builds and {killed[run.gc]} collections killed ({late} more were "
        "too quick): all valid, one digest",
        flush=True,
    )


def _lose(checkout: SmallCheckout, drawn: random.Random) -> None:
    """Lose a part of the results, as after an upgrade or a gc."""
    (checkout.ws.layout.root / "index.json").unlink()
    for path in checkout.ws.actions.root.glob("*.json"):
        if drawn.random() < 0.5:
            path.unlink()
    for path in checkout.ws.layout.blobs.iterdir():
        if drawn.random() < 0.3:
            path.unlink()


def again(checkout: SmallCheckout, expected: str) -> None:
    """Build once more: it must succeed, give `expected`, and leave nothing half-written."""
    run.completed(checkout)
    if (found := check.digest(checkout)) != expected:
        raise WrongError(f"the digest is {found}, and was {expected}")
    check.layout_is_valid(checkout)
    # Deletes what a killed one left; only what a build itself sweeps is gone before.
    run.completed(checkout, run.gc)
    if left := check.half_written(checkout):
        raise WrongError(f"half-written files are left: {', '.join(left[:5])}")
    if (found := check.digest(checkout)) != expected:
        raise WrongError("gc took the image's name")
    check.layout_is_valid(checkout)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system in memory at `folder`, while the block runs.

    Raises:
        PermissionError: this machine does not let us mount one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder)):
        raise PermissionError("the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode


def _remount(folder: Path, options: str) -> None:
    if _mount("-o", f"remount,{options}", str(folder)):
        raise WrongError(f"the file system cannot be remounted: {options}")


NOTES = 400_000
"""What doit and locks may write (bytes) before a build looks whether there is room."""


def disks(checkout: SmallCheckout, count: int, drawn: random.Random) -> None:
    """Build until `count` disks were full, at points drawn at random; each build must fail in one
    sentence, leave a valid layout, and succeed once there is room."""
    folder = checkout.ws.build
    failed = enough = 0
    with small_disk(folder):
        run.fresh(checkout)
        run.completed(checkout)
        expected = check.digest(checkout)
        needed = shutil.disk_usage(folder).used
        while failed < count:
            run.fresh(checkout)
            room = shutil.disk_usage(folder).used
            # Page by page near the beginning, where small files are written, and near the end.
            size = room + int((needed * 1.05 - room) * drawn.betavariate(0.5, 0.5))
            # Only once something is written: a build that finds little room does not begin.
            fill = functools.partial(_fill, folder, room, size)
            done = _told_to_build(checkout, doit=drawn.random() < 0.5, meanwhile=fill)
            if done.returncode:
                failed += 1
                _said(done, "No space left")
            else:
                enough += 1
            check.layout_is_valid(checkout)
            _remount(folder, "size=1g")
            again(checkout, expected)
    print(f"{failed} full disks ({enough} more had room): all valid, one digest", flush=True)


def _fill(folder: Path, room: int, size: int, build: subprocess.Popen[str]) -> None:
    """Let the file system at `folder`, of which `room` bytes are used, have `size` bytes from when
    the build has more than its notes there."""
    while (used := shutil.disk_usage(folder).used) <= room + NOTES and build.poll() is None:
        time.sleep(0.001)
    # It takes no size below what is used, which grows.
    while _mount("-o", f"remount,size={max(size, used) // 4096 * 4096}", str(folder)):
        used = shutil.disk_usage(folder).used


def _told_to_build(
    checkout: SmallCheckout,
    *,
    doit: bool,
    meanwhile: Callable[[subprocess.Popen[str]], None] = lambda _: None,
) -> subprocess.CompletedProcess[str]:
    words = [f"build:{IMAGE}"] if doit else ["build", IMAGE]
    return run.told(checkout, *words, doit=doit, meanwhile=meanwhile)


def _said(done: subprocess.CompletedProcess[str], what: str) -> None:
    if not done.returncode or what not in done.stdout + done.stderr:
        raise WrongError(f"it does not say {what!r}: {(done.stdout + done.stderr)[-1000:]}")


def read_only(checkout: SmallCheckout) -> None:
    """A store nobody can write: what only reads works, the rest says so in one sentence."""
    folder = checkout.ws.build
    with small_disk(folder):
        for built in (False, True):
            run.fresh(checkout)
            if built:
                run.completed(checkout)
            _remount(folder, "ro")
            before = sorted(folder.rglob("*"))
            for doit in (False, True):
                _said(_told_to_build(checkout, doit=doit), "Read-only file system")
            for verb in (["gc", "--delete"], ["doctor"]):
                run.told(checkout, *verb)
            for verb in (["validate"], ["gc"], ["du"], ["explain", IMAGE]) if built else ():
                if (done := run.told(checkout, *verb)).returncode:
                    raise WrongError(f"{verb} only reads, and fails: {done.stderr[-1000:]}")
            if built and (done := run.told(checkout, "validate", doit=True)).returncode:
                raise WrongError(f"doit validate only reads, and fails: {done.stdout[-1000:]}")
            if sorted(folder.rglob("*")) != before:
                raise WrongError("something was written all the same")
            _remount(folder, "rw")
            run.completed(checkout)
            check.layout_is_valid(checkout)
    print("read-only: told in one sentence, nothing changed", flush=True)


def clocks(checkout: SmallCheckout, count: int, drawn: random.Random) -> None:
    """Builds under `count` clocks that are wrong, under one that jumps while it is read, and gc
    decades ahead."""
    run.fresh(checkout)
    run.completed(checkout)
    expected = check.digest(checkout)
    clock = checkout.root / "clock"
    moments = ["1971-01-01 00:00:00", "2000-02-29 23:59:59", "2038-01-19 03:14:08", "2105-01-01"]
    env = {
        "LD_PRELOAD": faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for moment in [*itertools.islice(itertools.cycle(reversed(moments)), count), ""]:
        run.fresh(checkout)
        _set(clock, moment or moments[0])
        process = subprocess.Popen(
            checkout.command("build", IMAGE),
            cwd=checkout.root,
            env={**run.environment(checkout), **env},
            stdout=subprocess.DEVNULL,
        )
        while process.poll() is None:
            if not moment:
                _set(clock, drawn.choice(moments))
            time.sleep(0.005)
        if process.returncode:
            raise WrongError(f"a build in {moment or 'leaps'} ended with {process.returncode}")
        _set(clock, moments[-1])
        run.told(checkout, "gc", "--delete", env=env)
        again(checkout, expected)
    print(f"{count} wrong clocks and one in leaps: one digest", flush=True)


def _set(clock: Path, moment: str) -> None:
    """Let the clock stand at `moment`; whole, for somebody reads it all the time."""
    new = clock.with_suffix(".new")
    new.write_text(moment + ("\n" if " " in moment else " 00:00:00\n"))
    new.replace(clock)


def crowd(checkout: SmallCheckout, builders: int, drawn: random.Random) -> None:
    """Many builders on one empty store, some of them killed: the others finish, one digest."""
    run.fresh(checkout)
    whole = run.completed(checkout)
    expected = check.digest(checkout)
    run.fresh(checkout)
    processes = [run.fork(checkout, run.build) for _ in range(builders)]
    killed = drawn.sample(processes, builders // 4)
    for one in killed:
        time.sleep(drawn.uniform(0, whole))
        one.kill(workers=True)
    codes = {one: one.wait() for one in processes if one not in killed}
    for one, code in codes.items():
        if code:
            raise WrongError(f"one of {builders} builders: {code}; {one.log.read_text()[-2000:]}")
    again(checkout, expected)
    print(f"{builders} builders, {len(killed)} killed: one digest", flush=True)


def collected(checkout: SmallCheckout, seconds: float, drawn: random.Random) -> None:
    """Builds of two images while somebody collects all the time, names come and go."""
    from plinth.formats.oci.layout import editing

    run.fresh(checkout)
    run.completed(checkout)
    expected = check.digest(checkout)
    deadline = time.monotonic() + seconds
    rounds = 0

    def forever(checkout: SmallCheckout) -> int:
        while True:
            run.gc(checkout)

    collecting = run.fork(checkout, forever)
    try:
        while time.monotonic() < deadline:
            builders = [run.fork(checkout, run.build) for _ in range(drawn.randint(1, 3))]
            codes = {one: one.wait() for one in builders}
            for one, code in codes.items():
                if code:
                    raise WrongError(f"a build during gc: {code}; {one.log.read_text()[-2000:]}")
            if (found := check.digest(checkout)) != expected:
                raise WrongError(f"the digest is {found}, and was {expected}")
            rounds += 1
            if drawn.random() < 0.5:
                with editing(checkout.ws.layout) as entries:
                    entries.clear()
    finally:
        collecting.kill(workers=True)
    again(checkout, expected)
    print(f"{rounds} rounds of builds during gc: one digest", flush=True)
