"""gunicorn's settings for the scoring server, behind what holds its clients.

A worker that ends before it serves ends the server: gunicorn itself sees to that for exit code 3
only, starts any other again for ever (one that is killed in init(), say), and ends with 1 where two
workers fail at once. Settings of the file that gunicorn would read without this one (--config, or
gunicorn.conf.py in the application's folder) come on top, and its hooks run beside those here.
"""

import contextlib
import importlib.machinery
import importlib.util
import logging
import mmap
import os
import shlex
import sys
import traceback
import types
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.config import KNOWN_SETTINGS, Config
from gunicorn.errors import HaltServer

UNSAID = "killed, for want of memory perhaps, or by the script itself"
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


# gunicorn's own, however often it reads this file (SIGHUP).
SETUP = getattr(Arbiter.setup, "own", Arbiter.setup)
# A front that owns the server's socket hands it on (sd_listen_fds(3)); gunicorn takes the word away
# when it takes the socket.
HANDED_ON = getattr(Arbiter.setup, "handed_on", "LISTEN_FDS" in os.environ)


def setup(server, app):
    """Arbiter.setup: whatever was configured, the server is behind its front, and starts as this
    file has it."""
    if not HANDED_ON:
        app.cfg.set("bind", "127.0.0.1:31311")
    for name, beside in BESIDE.items():
        app.cfg.set(name, beside(getattr(app.cfg, name)))
    try:
        SETUP(server, app)
    except BaseException as error:
        # --preload imports the script here.
        note(error)
        raise


setup.own, setup.handed_on = SETUP, HANDED_ON
Arbiter.setup = setup


def beside_pre_fork(theirs):
    def pre_fork(server, worker):
        # Shared with the worker's process.
        worker.serves = mmap.mmap(-1, 1)
        theirs(server, worker)

    return pre_fork


def beside_post_worker_init(theirs):
    def post_worker_init(worker):
        theirs(worker)
        worker.serves[0] = 1
        worker.wsgi = behind(worker.wsgi)
        logging.getLogger("azmlinfsrv").addFilter(Once())
        if STATE:
            probes = Path(STATE, "probes")
            # Also where the application emptied the folder it is in.
            probes.mkdir(parents=True, exist_ok=True)
            (probes / "ready").write_text("Ready")

    return post_worker_init


def beside_worker_abort(theirs):
    def worker_abort(worker):
        worker.late = True
        theirs(worker)

    return worker_abort


def beside_worker_exit(theirs):
    def worker_exit(server, worker):
        error = sys.exc_info()[1]
        try:
            theirs(server, worker)
        finally:
            # gunicorn calls it in the server's own process, too, for a worker that is gone.
            if worker.pid == os.getpid() and not worker.serves[0]:
                late = getattr(worker, "late", False)
                note(error, f"not done in {worker.cfg.timeout} s (WORKER_TIMEOUT)" if late else "")
                sys.stdout.flush()
                # Not 3: of that, gunicorn would see to each worker.
                os._exit(1)

    return worker_exit


def beside_child_exit(theirs):
    def child_exit(server, worker):
        try:
            theirs(server, worker)
        finally:
            gone(server, worker)

    return child_exit


BESIDE = {
    "pre_fork": beside_pre_fork,
    "post_worker_init": beside_post_worker_init,
    "worker_abort": beside_worker_abort,
    "worker_exit": beside_worker_exit,
    "child_exit": beside_child_exit,
}


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


def note(error, what=""):
    """Write down why the server ends, for the last line of the log; `what` in place of the error's
    own words."""
    if STATE and error:
        with contextlib.suppress(OSError):
            Path(STATE, "reason.server").write_text(reason(error, what))


def reason(error, what=""):
    """Where the application raised what ended the worker, and `what`, or what it was, in one line
    that a terminal shows as it is."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    what = what or traceback.format_exception_only(type(error), error)[-1]
    what = " ".join("".join(one if one.isprintable() else " " for one in what).split())[:1000]
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {what}"
    root = os.path.realpath(os.environ.get("AML_APP_ROOT", "/var/azureml-app"))
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if os.path.realpath(one.filename).startswith(root + "/")]
    return f"{own[-1].filename}, line {own[-1].lineno}: {what}" if own else what


def gone(server, worker):
    """A worker's process has ended."""
    if STATE and not any(one.serves[0] for one in server.WORKERS.values()):
        with contextlib.suppress(FileNotFoundError):
            Path(STATE, "probes", "ready").unlink()
    # A server that is stopping listens no more.
    if not worker.serves[0] and server.LISTENERS and not getattr(server, "failed", False):
        server.failed = True
        if STATE and not Path(STATE, "reason.server").exists():
            note(OSError(), "a worker ended in init(): " + UNSAID)
        # One signal may stand for several workers; and others may be in a long init().
        server.reap_workers()
        server.cfg.set("graceful_timeout", 1)
        raise HaltServer("Worker failed to boot.", server.WORKER_BOOT_ERROR)


def configured():
    """What the file says that gunicorn would read without this one, which comes last on its
    command line."""
    given = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))[:-2]
    place = Config().parser().parse_args(given).config or ""
    if place.startswith("python:"):
        return vars(importlib.import_module(place[len("python:") :]))
    path = place[len("file:") :] if place.startswith("file:") else place
    path = path or str(Path.cwd() / "gunicorn.conf.py")
    if not Path(path).exists():
        if place:
            raise FileNotFoundError(f"there is no file {path} (--config in GUNICORN_CMD_ARGS)")
        return {}
    # As gunicorn does it, whatever the file is called: its settings may name its own classes.
    loader = importlib.machinery.SourceFileLoader("__config__", path)
    spec = importlib.util.spec_from_file_location("__config__", path, loader=loader)
    module = sys.modules["__config__"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


if not any(isinstance(finder, Unconfigured) for finder in sys.meta_path):
    sys.meta_path.insert(0, Unconfigured())
SETTINGS = {setting.name for setting in KNOWN_SETTINGS}
try:
    globals().update((name, value) for name, value in configured().items() if name in SETTINGS)
except BaseException as error:
    note(error)
    raise
