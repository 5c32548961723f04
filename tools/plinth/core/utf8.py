"""UTF-8, whatever the locale: file names decide digests, and text must not stop a command."""

from __future__ import annotations

import codecs
import io
import locale
import os
import sys

from plinth.core.errors import PlinthError

_ASCII = "ANSI_X3.4-1968"
"""What the C library calls ASCII, the encoding of the locale C."""


def start() -> None:
    """Begin a front end: file names are UTF-8 (PEP 540), and output replaces what it cannot show.

    Where Python began otherwise, which only a fresh process can change, this starts the same
    command once more.
    """
    if not _names_are_utf8():
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=_terminal(stream.encoding), errors="backslashreplace")


def check() -> None:
    """Refuse to work where file names are not UTF-8: they would be others in what is made.

    Raises:
        PlinthError: naming what Python uses instead.
    """
    if not _names_are_utf8():
        raise PlinthError(
            "file names are not UTF-8 in this process",
            where="the locale",
            expected="the encoding utf-8 for file names",
            found=sys.getfilesystemencoding(),
            remedy="set PYTHONUTF8=1, or use the command plinth, which does so itself",
        )


def _names_are_utf8() -> bool:
    return sys.getfilesystemencoding() == "utf-8"


def _terminal(encoding: str) -> str:
    """The encoding of output: what the locale says, although file names are UTF-8; `encoding`
    where the environment names one, or the locale's is ASCII, as it is where nobody chose any."""
    chosen = os.environ.get("PYTHONUTF8") == "1" or "PYTHONIOENCODING" in os.environ
    if chosen or not sys.flags.utf8_mode:
        return encoding
    named = locale.nl_langinfo(locale.CODESET)
    try:
        return encoding if named == _ASCII else codecs.lookup(named).name
    except LookupError:
        return encoding
