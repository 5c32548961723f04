"""What a person sees while plinth works: steps as they happen, what is on its way between this
machine and servers, then one line a layer."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from plinth.core.errors import plain
from plinth.core.transfer import Moving, transfers

Progress = Callable[[str], None]
"""Receives one line of progress, without its newline."""

_NOW_AND_THEN = 20.0
"""Seconds between two lines about what is on its way, where there is no terminal."""
# Some say more than one line.
_KEPT = "\n\t"
_told: set[str] = set()
_telling = threading.Lock()


def on_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _is_new(line: str) -> bool:
    """Whether a line of progress is to be shown; a note that holds for several images once."""
    if line.startswith("note:"):
        with _telling:
            if line in _told:
                return False
            _told.add(line)
    return True


def to_stderr(line: str) -> None:
    """Show a line of progress; a note that holds for several images once. Lines of several threads
    are whole. Names in it may be anybody's: what a terminal would act upon is made visible."""
    if _is_new(line):
        with _telling:
            # At once: `print` writes the line's end by itself.
            sys.stderr.write(f"{plain(line, _KEPT)}\n")
            sys.stderr.flush()


def discard_output() -> None:
    """Discard what is still written to standard output, whose reader (head, less) has ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def quiet(line: str) -> None:
    """Show nothing."""


def moving(now: Moving) -> str:
    """`12.3 MB at 4.5 MB/s, waiting for scipy (1.2 MB of 3.4 MB) and 2 more`."""
    size = "" if now.size is None else f" of {human_size(now.size)}"
    more = f" and {now.others} more" if now.others else ""
    return (
        f"{human_size(now.total)} at {human_size(now.rate)}/s, waiting for {now.name} "
        f"({human_size(now.done)}{size}){more}"
    )


@contextlib.contextmanager
def working(what: str) -> Iterator[Progress]:
    """Where progress goes during the block: lines on standard error; on a terminal also a last
    line with `what`, what is on its way, and the time it takes so far, which is gone afterwards;
    elsewhere, now and then, a line with what is on its way."""
    if on_terminal(sys.stderr):
        with _bar(what) as show:
            yield show
        return
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_NOW_AND_THEN):
            if now := transfers.now():
                to_stderr(f"  {moving(now)}")

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield to_stderr
    finally:
        ended.set()
        teller.join()


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn, SpinnerColumn, Task, TimeElapsedColumn
    from rich.text import Text

    console = Console(stderr=True)

    class Now(ProgressColumn):
        """What is on its way; where nothing is, the last line."""

        def render(self, task: Task) -> Text:
            now = transfers.now()
            line = moving(now) if now else task.description
            text = Text(plain(f"{what}: {line}" if line else what), no_wrap=True)
            text.truncate(max(20, console.width - 12), overflow="ellipsis")
            return text

    columns = SpinnerColumn(), Now(), TimeElapsedColumn()
    with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("")

        def show(line: str) -> None:
            if _is_new(line):
                style = "yellow" if line.startswith("note:") else None
                text = plain(line, _KEPT)
                console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
            if not line.startswith("note:"):
                bar.update(task, description=line)

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
