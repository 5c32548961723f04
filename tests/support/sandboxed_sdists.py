"""Building sdists of tests in a real sandbox of this machine's own programs, whatever the base.

Run as a program it is `plinth`, whose sdists never end: `sandboxed_sdists.py ROOT WORDS…`, where
`ROOT` is a folder for `host_root`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from plinth.build import sdists
from plinth.commands.main import main
from support.sandboxes import host_root, run_python

BEGUN = "begun"
"""The file in the folder of a build that shows that it has begun."""

SLEEPING = f"open({BEGUN!r}, 'w').close(); import time; time.sleep(600)"
"""What runs in the sandbox: 600 seconds of nothing."""


def never_ending(root: Path) -> Callable[..., Path]:
    """What to put in the place of `plinth.build.sdists._run`; `root` is of `host_root`."""

    def build(*arguments: object) -> Path:
        folder = next(one for one in arguments if isinstance(one, Path))
        run_python(root, folder, SLEEPING)
        raise AssertionError("nothing ended it")

    return build


if __name__ == "__main__":
    sdists._run = never_ending(host_root(Path(sys.argv.pop(1))))
    sys.exit(main())
