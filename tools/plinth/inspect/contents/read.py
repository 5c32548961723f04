"""What layers hold: several read at once, remembered by digest."""

from __future__ import annotations

import os
from collections.abc import Sequence

from plinth.core.errors import PlinthError
from plinth.core.stopping import meanwhile
from plinth.inspect.contents.cache import ContentsCache
from plinth.inspect.contents.hashing import Hashing, LayerBlob, compare
from plinth.inspect.contents.model import LayerContents


def read_layers(
    layers: Sequence[LayerBlob],
    cache: ContentsCache | None = None,
    jobs: int = 0,
    hashing: Hashing | None = None,
) -> list[LayerContents | str]:
    """What each of `layers` holds, in order, or why it cannot be read.

    Every blob is read and hashed here and now; what `cache` remembers counts only for a blob
    that has the digest it is remembered under. `jobs` is how many are read at once (0: one for
    each CPU). What `hashing` has begun with is not hashed again.
    """
    jobs = jobs or len(os.sched_getaffinity(0))

    def one(layer: LayerBlob) -> LayerContents | str:
        try:
            return contents_of(layer, cache, threads=jobs > 1, hashing=hashing)
        except PlinthError as error:
            details = f"; found {error.found}" if error.found else ""
            return f"{error.what}{f', {error.where}' if error.where else ''}{details}"
        except OSError as error:
            return f"it cannot be read: {error.strerror}"

    sizes = [layer.digest.size if layer.digest else 0 for layer in layers]
    with meanwhile(jobs, "contents") as pool:
        # The largest first: else one of them may be left over for the end.
        order = sorted(range(len(layers)), key=lambda number: -sizes[number])
        waiting = {number: pool.submit(one, layers[number]) for number in order}
        return [waiting[number].result() for number in range(len(layers))]


def contents_of(
    layer: LayerBlob,
    cache: ContentsCache | None = None,
    *,
    threads: bool = False,
    hashing: Hashing | None = None,
) -> LayerContents:
    """What `layer` holds, its blob read and hashed in any case; see `read_layers`.

    Raises:
        LayoutError: it is damaged, or readers would differ about it.
    """
    named = layer.digest
    if named is not None:
        # First: what is not the named blob may unpack to anything.
        compare(layer, named) if hashing is None else hashing.compare(layer, named)
        if cache is not None and (remembered := cache.get(named)) is not None:
            return remembered
    # Where all is remembered, what unpacks need not be loaded.
    from plinth.inspect.contents.layer import read_layer

    contents = read_layer(layer.open, named, threads=threads)
    if cache is not None and contents.digest == named:
        cache.put(contents)
    return contents
