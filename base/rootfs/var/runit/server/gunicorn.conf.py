"""gunicorn's settings for the scoring server: a worker that ends before it serves ends the server.

gunicorn itself does so for exit code 3 only, starts any other again for ever (one that is killed in
init(), say), and ends with 1 where two workers fail at once. Settings of a gunicorn.conf.py in the
application's folder, which gunicorn would read without this one, come on top.
"""

import mmap
import os
import runpy
import sys
from pathlib import Path

from gunicorn.errors import HaltServer


def pre_fork(server, worker):
    # Shared with the worker's process.
    worker.serves = mmap.mmap(-1, 1)


def post_worker_init(worker):
    worker.serves[0] = 1


def worker_exit(server, worker):
    if not worker.serves[0]:
        sys.stdout.flush()
        # Not 3: of that, gunicorn would see to each worker.
        os._exit(1)


def child_exit(server, worker):
    # A server that is stopping listens no more.
    if not worker.serves[0] and server.LISTENERS and not getattr(server, "failed", False):
        server.failed = True
        # One signal may stand for several workers; and others may be in a long init().
        server.reap_workers()
        server.cfg.set("graceful_timeout", 1)
        raise HaltServer("Worker failed to boot.", server.WORKER_BOOT_ERROR)


if Path("gunicorn.conf.py").exists():
    globals().update(runpy.run_path("gunicorn.conf.py"))
