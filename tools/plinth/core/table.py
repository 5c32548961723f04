"""Tables for people: drawn by rich on a terminal, aligned plain text everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size

from plinth.core.report import on_terminal

COLOURS: Mapping[str, str] = {"ok": "green", "warn": "yellow", "fail": "red"}
"""How cells that hold one of these words are shown on a terminal."""

# Texts are broken into lines of at least this width.
_FOLDED = 20


@dataclass(frozen=True)
class Column:
    """One column: its heading, and whether its cells are numbers, which stand to the right."""

    heading: str
    number: bool = False


def plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The table as aligned text, the headings first, two blanks between columns."""
    table = [[column.heading for column in columns], *rows]
    widths = [max(len(row[number]) for row in table) for number in range(len(columns))]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if column.number else f"{cell:<{width}}"
            for column, cell, width in zip(columns, row, widths, strict=True)
        ).rstrip()
        for row in table
    )


def _whole(number: int, column: Column) -> bool:
    """Whether cells of the column stay in one line: names, which come first, and figures."""
    return column.number or number == 0


def _needed(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    """How wide a terminal must be: rich would cut figures off, and 847.0 is not 847.0 MB."""
    widths = [
        max(map(len, (column.heading, *(row[number] for row in rows))))
        for number, column in enumerate(columns)
    ]
    return 2 * len(columns) + sum(
        width if _whole(number, column) else min(width, _FOLDED)
        for number, (column, width) in enumerate(zip(columns, widths, strict=True))
    )


def show(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print the table; NO_COLOR (no-color.org) is respected."""
    if not on_terminal(sys.stdout) or _needed(columns, rows) > get_terminal_size().columns:
        print(plain(columns, rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(
            column.heading,
            justify="right" if column.number else "left",
            no_wrap=_whole(number, column),
            overflow="fold",
        )
    for row in rows:
        # As Text: names with brackets are no markup.
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    Console().print(table)
