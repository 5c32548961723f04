"""`python -m tests.crash`: kills, full disks and the like, as many as asked for."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash import campaigns, check, run
from support.small_checkout import SmallCheckout, make


def main() -> int:
    """Run what the arguments ask for; 1 for the first thing that does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="builds to kill")
    parser.add_argument("--disks", type=int, default=0, help="full disks (root only)")
    parser.add_argument("--read-only", action="store_true", help="a read-only store (root only)")
    parser.add_argument("--clocks", type=int, default=0, help="wrong clocks (needs faketime)")
    parser.add_argument("--builders", type=int, default=0, help="builders on one store")
    parser.add_argument("--gc", type=float, default=0, metavar="SECONDS", help="gc during builds")
    parser.add_argument("--seed", type=int, help="draw the same again")
    arguments = parser.parse_args()
    drawn = run.drawn(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        checkout = make(Path(folder) / "checkout")
        check.temporary(checkout).mkdir()
        with _archive(checkout):
            started = time.monotonic()
            try:
                if arguments.kills:
                    campaigns.kills(checkout, arguments.kills, drawn)
                if arguments.builders:
                    campaigns.crowd(checkout, arguments.builders, drawn)
                if arguments.gc:
                    campaigns.collected(checkout, arguments.gc, drawn)
                if arguments.clocks:
                    campaigns.clocks(checkout, arguments.clocks, drawn)
                if arguments.disks:
                    campaigns.disks(checkout, arguments.disks, drawn)
                if arguments.read_only:
                    campaigns.read_only(checkout)
            except check.WrongError as error:
                print(f"WRONG: {error}", file=sys.stderr)
                return 1
            except (PermissionError, FileNotFoundError) as error:
                print(f"this machine lacks {error}", file=sys.stderr)
                return 3
    print(f"{time.monotonic() - started:.0f} s")
    return 0


@contextlib.contextmanager
def _archive(checkout: SmallCheckout) -> Iterator[None]:
    """A mirror of the checkout's .debs on loopback while the block runs; in a process of its own,
    for whoever forks has no threads."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=checkout.archive,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            words = server.stdout.readline().split()
            port = words[words.index("port") + 1]
            checkout.write_settings(f"http://127.0.0.1:{port}")
            yield
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
