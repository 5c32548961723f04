"""The `plinth` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from plinth.commands.parser import command_line
from plinth.commands.verb import Verb
from plinth.core import loopback, utf8
from plinth.core.errors import PlinthError
from plinth.core.report import discard_output


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for an error shown, 2 for wrong usage, 130 for ^C,
    or what the command itself documents."""
    if argv is None:
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
    except (PlinthError, OSError) as error:
        # A full disk, a folder that cannot be written: the system's own words are the clearest.
        print(f"plinth: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("plinth: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
