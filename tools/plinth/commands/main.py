"""The `plinth` command."""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Sequence

from plinth.commands.parser import command_line
from plinth.commands.verb import Verb
from plinth.core import ending, loopback, utf8
from plinth.core.errors import PlinthError
from plinth.core.report import discard_output
from plinth.core.store import NO_ROOM

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for an error shown, 2 for wrong usage, 130 for ^C,
    143 for SIGTERM, or what the command itself documents."""
    if argv is None:
        ending.meet_sigterm()
        utf8.start()
        loopback.ask_directly()
    keywords = vars(command_line().parse_args(argv))
    verb: Verb = keywords.pop("verb")
    try:
        code = verb.run(keywords)
        # What is buffered meets a reader that has ended here, and not when Python exits.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        discard_output()
        # As shells report SIGPIPE.
        return 141
    except PlinthError as error:
        print(f"plinth: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"plinth: {_told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        return ending.shown(error)


def _told(error: OSError) -> str:
    """An error of the system, in its own words, which are the clearest; of a disk that cannot be
    written to, which file it was and what to do."""
    if error.errno in _READ_ONLY:
        remedy = "let this user read and write there, or work in a copy where it may"
    elif error.errno in NO_ROOM:
        place = "there" if error.filename else f"for the checkout and {tempfile.gettempdir()}"
        remedy = f"make room {place} (plinth gc deletes what no image needs), and do the same again"
    else:
        return str(error)
    where = str(error.filename or "")
    return str(PlinthError(str(error.strerror), where=where, remedy=remedy))
