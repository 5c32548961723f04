"""A layer in zstd: the tar of a blob, cut into frames that are compressed side by side."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats import zstd
from plinth.formats.gunzip import most
from plinth.formats.layer.blob import unpacked
from plinth.formats.layer.model import Layer
from plinth.formats.layer.stream import Hasher, Threads
from plinth.formats.oci.model import LAYER_ZSTD

# Frames of one layer that are compressed, or wait for it, at once; each holds memory.
_AHEAD = 4


def pack(store: BlobStore, blob: Path, name: str, *, workers: int = 0) -> Layer:
    """Write the tar of the layer `blob` into `store` as zstd frames, and return that layer, called
    `name`. How many `workers` compress (0: one for each CPU) changes no byte.

    Raises:
        IntegrityError, LayoutError: the blob is damaged, or unpacks to more than readers take.
        PlinthError: the libzstd installed is not the pinned one.
    """
    pool = _pool(workers or len(os.sched_getaffinity(0)))
    with store.writer() as writer, Threads(threads=True) as threads, unpacked(blob) as pieces:
        plain = Hasher(None, threads.inner)
        packed = Hasher(writer.write_batch, threads.outer)
        waiting: deque[Future[bytes]] = deque()
        for content in _cut(pieces):
            plain.add(content)
            waiting.append(pool.submit(zstd.frame, content))
            if len(waiting) == _AHEAD:
                packed.add(waiting.popleft().result())
        for frame in waiting:
            packed.add(frame.result())
        diff_id, sha256 = plain.finish(), packed.finish()
        if plain.size > most(packed.size):
            raise LayoutError(
                "the layer would unpack to more than readers of layers take",
                where=name,
                expected=f"at most {most(packed.size)} bytes, from {packed.size} in zstd",
                found=f"{plain.size} bytes",
                remedy='set compression = "gzip" in the specification of the image',
            )
        digest = writer.commit(hashed=sha256)
    return Layer(name, digest, diff_id, plain.size, built=True, media_type=LAYER_ZSTD)


@lru_cache(maxsize=4)
def _pool(workers: int) -> ThreadPoolExecutor:
    """The threads that compress, of all layers that this process packs at once: what a frame takes
    is bounded by them."""
    return ThreadPoolExecutor(workers, "zstd")


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces` as the content of frames: all but the last of the size of one."""
    held, size = bytearray(), zstd.PLAIN
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
