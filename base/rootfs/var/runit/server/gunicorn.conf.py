"""gunicorn's settings for the scoring server, behind what holds its clients.

A worker that ends before it serves ends the server: gunicorn itself sees to that for exit code 3
only, starts any other again for ever (one that is killed in init(), say), and ends with 1 where two
workers fail at once. Settings of a gunicorn.conf.py in the application's folder, which gunicorn
would read without this one, come on top.
"""

import contextlib
import importlib.util
import logging
import mmap
import os
import runpy
import sys
import traceback
import types
from pathlib import Path

from gunicorn.errors import HaltServer

STATE = os.environ.get("PLINTH_STATE", "")
CLIENT = "azureml_inference_server_http.server.appinsights_client"
# What that module takes from elsewhere, for a client that is configured alone.
TELEMETRY = {
    "opencensus.ext.azure.log_exporter": ["AzureLogHandler"],
    "opencensus.ext.azure.trace_exporter": ["AzureExporter"],
    "opencensus.trace": ["samplers"],
    "opencensus.trace.span": ["SpanKind"],
    "opencensus.trace.tracer": ["Tracer"],
}


class Unconfigured:
    """Imports the server's telemetry client without the libraries it would send with, which are
    half of all that the server imports, where no telemetry is configured. Whoever else imports
    those gets them."""

    def find_spec(self, name, path, target=None):
        if name != CLIENT:
            return None
        sys.meta_path.remove(self)
        from azureml_inference_server_http.server.config import config

        spec = importlib.util.find_spec(name)
        if not (config.app_insights_enabled and config.app_insights_key):
            self.load, spec.loader.exec_module = spec.loader.exec_module, self.without
        return spec

    def without(self, module):
        absent = [name for name in TELEMETRY if name not in sys.modules]
        for name in absent:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(dict.fromkeys(TELEMETRY[name]))
        try:
            self.load(module)
        except (ImportError, AttributeError, TypeError):
            # Another version of the server.
            absent = [name for name in absent if sys.modules.pop(name, None)]
            self.load(module)
        finally:
            for name in absent:
                sys.modules.pop(name, None)


class Once(logging.Filter):
    """Lets one line through of those that the server logs for every request of some clients."""

    seen = False

    def filter(self, record):
        if "x-ms-request-id header has been deprecated" not in str(record.msg):
            return True
        first, self.seen = not self.seen, True
        return first


def on_starting(server):
    # A front that owns the server's socket hands it on (sd_listen_fds(3)).
    if "LISTEN_FDS" not in os.environ:
        server.cfg.set("bind", "127.0.0.1:31311")
        server.address = server.cfg.address
    if not any(isinstance(finder, Unconfigured) for finder in sys.meta_path):
        sys.meta_path.insert(0, Unconfigured())


def pre_fork(server, worker):
    # Shared with the worker's process.
    worker.serves = mmap.mmap(-1, 1)


def post_worker_init(worker):
    worker.serves[0] = 1
    worker.wsgi = behind(worker.wsgi)
    logging.getLogger("azmlinfsrv").addFilter(Once())
    if STATE:
        probes = Path(STATE, "probes")
        # Also where the application emptied the folder it is in.
        probes.mkdir(parents=True, exist_ok=True)
        (probes / "ready").write_text("Ready")


def behind(app):
    """The server's application, as its front has it: with the client's address, and for nginx the
    word that a response without a length is a stream, to be passed on as it comes."""

    def answer(environ, start_response):
        client = environ.pop("HTTP_X_FRONT_CLIENT", "")
        if client:
            environ["REMOTE_ADDR"] = client

        def start(status, headers, exc_info=None):
            if not any(name.lower() == "content-length" for name, _ in headers):
                headers = [*headers, ("X-Accel-Buffering", "no")]
            return start_response(status, headers, exc_info)

        return app(environ, start)

    return answer


def worker_exit(server, worker):
    # gunicorn calls it in the server's own process, too, for a worker that is gone.
    if worker.pid == os.getpid() and not worker.serves[0]:
        if STATE and sys.exc_info()[1]:
            with contextlib.suppress(OSError):
                Path(STATE, "reason.server").write_text(reason(sys.exc_info()[1]))
        sys.stdout.flush()
        # Not 3: of that, gunicorn would see to each worker.
        os._exit(1)


def reason(error):
    """Where the application raised what ended the worker, and what, in one line that a terminal
    shows as it is."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    what = traceback.format_exception_only(type(error), error)[-1]
    what = " ".join("".join(one if one.isprintable() else " " for one in what).split())[:1000]
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {what}"
    root = os.path.realpath(os.environ.get("AML_APP_ROOT", "/var/azureml-app"))
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if os.path.realpath(one.filename).startswith(root + "/")]
    return f"{own[-1].filename}, line {own[-1].lineno}: {what}" if own else what


def child_exit(server, worker):
    if STATE and not any(one.serves[0] for one in server.WORKERS.values()):
        with contextlib.suppress(FileNotFoundError):
            Path(STATE, "probes", "ready").unlink()
    # A server that is stopping listens no more.
    if not worker.serves[0] and server.LISTENERS and not getattr(server, "failed", False):
        server.failed = True
        # One signal may stand for several workers; and others may be in a long init().
        server.reap_workers()
        server.cfg.set("graceful_timeout", 1)
        raise HaltServer("Worker failed to boot.", server.WORKER_BOOT_ERROR)


if Path("gunicorn.conf.py").exists():
    globals().update(runpy.run_path("gunicorn.conf.py"))
