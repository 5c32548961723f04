"""What must hold of a checkout after whatever happened to it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from plinth.formats.oci.layout import references
from plinth.formats.oci.validate import validate
from support.small_checkout import IMAGE, SmallCheckout


class WrongError(Exception):
    """Something that must hold does not: this is what the harness is there to find."""


def layout_is_valid(checkout: SmallCheckout) -> None:
    """Whatever was named is whole: the layout is valid, or there is none yet.

    Raises:
        WrongError: with every problem of it.
    """
    root = checkout.ws.layout.root
    if (root / "index.json").exists() and (problems := validate(root)):
        raise WrongError("the layout is not valid: " + "; ".join(map(str, problems)))


def digest(checkout: SmallCheckout, image: str = IMAGE) -> str:
    """The digest of what `image` stands for.

    Raises:
        WrongError: there is no such name.
    """
    found = references(checkout.ws.layout)
    if image not in found:
        raise WrongError(f"no image is called {image}")
    return found[image].manifest.hex


def half_written(checkout: SmallCheckout) -> list[str]:
    """Files and folders that somebody began and nobody finished, relative to the checkout's own
    folder; what is in the folder for temporary files is one, too."""
    root = checkout.root
    return sorted(path.relative_to(root).as_posix() for path in _half_written(checkout))


def _half_written(checkout: SmallCheckout) -> Iterator[Path]:
    for path in checkout.ws.build.rglob("*"):
        if path.name.startswith(("part-", ".")):
            yield path
    yield from temporary(checkout).iterdir()


def temporary(checkout: SmallCheckout) -> Path:
    """The folder that the harness gives plinth for temporary files."""
    return checkout.root / "tmp"


def processes_of(group: int) -> list[int]:
    """The processes of a process group that are alive."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                state, _, of = (path / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(of) == group and state != "Z":
                found.append(int(path.name))
    return found


def nobody_left(group: int, seconds: float = 10.0) -> None:
    """The processes that a dead one started end by themselves.

    Raises:
        WrongError: some are alive after `seconds`; they are ended.
    """
    deadline = time.monotonic() + seconds
    while left := processes_of(group):
        if time.monotonic() > deadline:
            for process in left:
                os.kill(process, 9)
            raise WrongError(f"{len(left)} processes outlive the build that started them")
        time.sleep(0.005)
