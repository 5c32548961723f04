"""What a person sees while plinth works: steps as they happen, then one line a layer."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

Progress = Callable[[str], None]
"""Receives one line of progress, without its newline."""


_told: set[str] = set()


def on_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _is_new(line: str) -> bool:
    """Whether a line of progress is to be shown; a note that holds for several images once."""
    if line.startswith("note:"):
        if line in _told:
            return False
        _told.add(line)
    return True


def to_stderr(line: str) -> None:
    """Show a line of progress; a note that holds for several images once."""
    if _is_new(line):
        print(line, file=sys.stderr, flush=True)


def discard_output() -> None:
    """Discard what is still written to standard output, whose reader (head, less) has ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def quiet(line: str) -> None:
    """Show nothing."""


@contextlib.contextmanager
def working(what: str) -> Iterator[Progress]:
    """Where progress goes during the block: lines on standard error; on a terminal also a last
    line with `what` and the time it takes so far, which is gone afterwards."""
    if not on_terminal(sys.stderr):
        yield to_stderr
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(what))

        def show(line: str) -> None:
            if line.startswith("note:"):
                if _is_new(line):
                    console.print(
                        line, style="yellow", markup=False, highlight=False, soft_wrap=True
                    )
                return
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            bar.update(task, description=escape(f"{what}: {line}"[: console.width - 20]))

        yield show


def counted(number: int, noun: str) -> str:
    """So many things of a noun whose plural ends in s: 1 layer, 2 layers."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def human_size(size: int) -> str:
    """`size` bytes in decimal units, as registries count: 999 B, 12.3 kB, 4.5 MB."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95 or unit == "GB":
            break
    return f"{value:.1f} {unit}"
