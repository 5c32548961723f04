"""The remote tier of a build: results and blobs read through it, written back, steps run by it.

It can only make a build faster. Whatever fails is told once; a server that cannot be reached is
not asked again by this build, and a result that is wrong counts as none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, PlinthError, RemoteError
from plinth.core.remote_settings import RemoteSettings
from plinth.core.report import Progress, human_size
from plinth.core.result import ActionResult
from plinth.core.store import LAYER, Stores
from plinth.graph.actions import Action
from plinth.graph.cache import READ
from plinth.graph.remote import results
from plinth.graph.remote.client import Remote
from plinth.graph.remote.layers import check_layer
from plinth.graph.remote.worker import Worker, WorkerError

T = TypeVar("T")

_SENDERS = 2


class Tier:
    """A remote cache, and executor if there is one, in front of `stores`; use it in a `with`
    block, whose end waits until everything is sent, unless it ends by an exception.

    `download`, if not empty, goes before the settings' own.
    """

    def __init__(
        self, settings: RemoteSettings, stores: Stores, *, download: str, progress: Progress
    ) -> None:
        self._remote = Remote(settings)
        self._stores = stores
        self._download = download or settings.download
        self._progress = progress
        self._address = settings.cache
        self._known: dict[Digest, ActionResult] = {}
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._off = False
        self._ran = 0
        self._cancelled = threading.Event()
        self._senders = ThreadPoolExecutor(_SENDERS, "remote-send")
        self._worker = (
            Worker(self._remote, settings, self._cancelled) if settings.executor else None
        )
        self.at_once = settings.jobs

    def __enter__(self) -> Tier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            # Hanging up first ends what is being sent.
            self.cancel()
            self._remote.__exit__(kind, error, trace)
            self._senders.shutdown(wait=True, cancel_futures=True)
            return
        self._senders.shutdown(wait=True)
        self._progress(self._summary())
        self._remote.__exit__(kind, error, trace)

    def _summary(self) -> str:
        traffic = self._remote.traffic
        return (
            f"remote: {traffic.hits} results found, {self._ran} steps run there, "
            f"{human_size(traffic.received)} received, {human_size(traffic.sent)} sent"
        )

    @property
    def executes(self) -> bool:
        """Whether steps are run by the server."""
        return self._worker is not None and not self._off

    def cancel(self) -> None:
        """Let the server end what it runs for this build."""
        self._cancelled.set()

    def known(self, action: Action) -> ActionResult | None:
        """The server's result of `action`; nothing but its facts is fetched."""
        with self._lock:
            found = self._known.get(action.digest)
        if found is None:
            found = self._try(lambda: self._lookup(action), None)
            if found is not None:
                with self._lock:
                    self._known[action.digest] = found
        return found

    def take(self, action: Action) -> ActionResult | None:
        """The server's result of `action`, with those outputs in the stores that the settings
        want there; None where there is none, or none that can be had."""
        found = self.known(action)
        return self._try(partial(self._fetched, found), None) if found is not None else None

    def lacking(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of `digests` that the server does not hold; all, where it cannot be asked."""
        wanted = set(digests)
        return self._try(lambda: self._remote.missing(wanted), wanted)

    def bring(self, digests: Iterable[Digest]) -> None:
        """Fetch what the server holds of `digests` into the cache; what cannot be had is left."""
        for digest in digests:
            self._try(partial(self._remote.fetch, digest, self._stores.cache), None)

    def offer(self, action: Action, result: ActionResult) -> None:
        """Send `result` and its outputs, behind the build's back."""
        if not self._off:
            send = partial(self._send, action, result, result.outputs)
            self._senders.submit(self._try, send, None)

    def execute(self, action: Action, prepare: Callable[[], None] | None) -> ActionResult | None:
        """The result of `action`, run by the server, its outputs fetched as by `take`; None where
        that failed for reasons that are not the step's.

        Raises:
            PlinthError: the step's own error; or what `prepare` raises, which is called if the
                server lacks inputs that are not here either.
        """
        worker = self._worker
        if worker is None or self._off:
            return None

        def work() -> ActionResult:
            result = worker.run(action, self._stores.path, prepare)
            with self._lock:
                self._ran += 1
            # Others are to find under its own key what the server made, and has, for another.
            self._send(action, result, ())
            return self._fetched(result)

        return self._try(work, None)

    def _lookup(self, action: Action) -> ActionResult | None:
        message = self._remote.result(action.digest, [results.INFO_PATH], mnemonic=action.mnemonic)
        if message is None:
            return None
        return results.from_message(action, message, self._remote.read, where=self._address)

    def _fetched(self, result: ActionResult) -> ActionResult:
        """`result`, once those of its outputs are in the stores that are wanted there."""
        for name, digest in result.outputs.items():
            wanted = self._download == "all" or (self._download == "toplevel" and name == LAYER)
            if wanted or name in READ:
                store = self._stores.of(name)
                self._remote.fetch(digest, store)
                if name == LAYER:
                    check_layer(store.path(digest), result, where=self._address)
        return result

    def _send(self, action: Action, result: ActionResult, outputs: Iterable[str]) -> None:
        """Let others find `result`; those of its `outputs` go along that the server may lack."""
        message, facts = results.to_message(result)
        blobs: dict[Digest, bytes | Path] = {**facts, **action.encoded.blobs}
        for name in outputs:
            digest = result.outputs[name]
            blobs[digest] = self._stores.of(name).path(digest)
        self._remote.upload(blobs)
        self._remote.store_result(action.digest, message, mnemonic=action.mnemonic)

    def _try(self, ask: Callable[[], T], otherwise: T) -> T:
        """What `ask` gives, or `otherwise` where the server does not do its part."""
        if self._off:
            return otherwise
        try:
            return ask()
        except RemoteError as error:
            if not error.absent and not self._cancelled.is_set():
                self._tell(error)
            return otherwise
        except IntegrityError as error:
            self._tell(error)
            return otherwise

    def _tell(self, error: PlinthError) -> None:
        gone = isinstance(error, RemoteError) and (
            error.unavailable or error.code in ("UNAUTHENTICATED", "PERMISSION_DENIED")
        )
        with self._lock:
            self._off = self._off or gone
            if isinstance(error, WorkerError):
                self._worker = None
            if error.what in self._told:
                return
            self._told.add(error.what)
        shown = str(error).replace("\n", "\n      ")
        self._progress(
            f"note: {'building on without the remote server' if gone else 'built here instead'}: "
            f"{shown}"
        )
