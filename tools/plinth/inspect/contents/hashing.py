"""Is a layer the very blob that its manifest names? It is read and hashed as a whole, when that is
asked or ahead of it, while libraries are loaded and signatures are verified."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import Future
from typing import BinaryIO, Protocol, cast

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError, PlinthError
from plinth.core.stopping import Stop, Threads, check, meanwhile

# Read at once to be hashed (bytes): between two pieces a thread waits for those that compute.
_HASHED = 8 << 20


class LayerBlob(Protocol):
    """A layer where it is: `digest` as its manifest names it, None where nothing does."""

    @property
    def digest(self) -> Digest | None:
        """What the manifest names."""

    def open(self) -> BinaryIO:
        """The blob's bytes, to be closed by the caller."""


class Hashing:
    """Layers that are hashed, several at once, from now on.

    A context: at its end those that nobody asked for are given up.
    """

    def __init__(self, layers: Sequence[LayerBlob] = ()) -> None:
        self._over = Stop()
        self._pool = Threads(len(os.sched_getaffinity(0)), "hashing", obeyed=self._over)
        distinct = {layer.digest: layer for layer in layers if layer.digest is not None}
        # The largest first: else one of them may be left over for the end.
        ordered = sorted(distinct.items(), key=lambda one: -one[0].size)
        self._begun: dict[Digest, Future[None]] = {
            digest: self._pool.submit(compare, layer, digest) for digest, layer in ordered
        }

    def __enter__(self) -> Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def compare(self, layer: LayerBlob, named: Digest) -> None:
        """See that `layer` is the blob `named`, by what was begun or else here and now.

        Raises:
            LayoutError: it is another.
            OSError, PlinthError: it cannot be read.
        """
        begun = self._begun.get(named)
        if begun is None:
            compare(layer, named)
        else:
            begun.result()

    def are_named(self, layers: Sequence[LayerBlob]) -> bool:
        """Whether each of `layers` is the very blob that its manifest names."""

        def named(layer: LayerBlob) -> bool:
            try:
                if layer.digest is not None:
                    self.compare(layer, layer.digest)
            except (PlinthError, OSError):
                return False
            return layer.digest is not None

        distinct = {layer.digest: layer for layer in layers}
        with meanwhile(len(os.sched_getaffinity(0)), "named") as pool:
            return all(pool.map(named, distinct.values()))


def compare(layer: LayerBlob, named: Digest) -> None:
    """See that `layer` is the blob `named`.

    Raises:
        LayoutError: it is another.
        OSError, PlinthError: it cannot be read.
        StoppedError: the calling code is to stop.
    """
    state, size = hashlib.sha256(), 0
    # Read into one piece of memory: a new one for each costs as much as half of the hashing.
    piece = memoryview(bytearray(min(_HASHED, named.size + 1)))
    with layer.open() as opened:
        stream = cast(io.BufferedIOBase, opened)
        while size <= named.size and (count := stream.readinto(piece)):
            check()
            state.update(piece[:count])
            size += count
    if size > named.size:
        raise LayoutError(f"it has more than the {named.size} bytes that the manifest names")
    if Digest(state.hexdigest(), size) != named:
        raise LayoutError(
            f"it is sha256:{state.hexdigest()} of {size} bytes, the manifest names {named.oci} of "
            f"{named.size}"
        )
