"""What layers hold is remembered by their digest, so that nothing is unpacked twice. Nothing that
unpacks is loaded with this module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, PlinthError
from plinth.core.home import can_write, make_private, others_can_write, user_folder
from plinth.core.report import to_stderr
from plinth.core.result import ActionResult
from plinth.core.store import BlobStore
from plinth.graph.cache import ActionCache, Fact, Keyed
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.hashing import LayerBlob
from plinth.inspect.contents.model import LayerContents

VERSION = 11
"""Raised whenever a reader would tell other facts about the same layer."""


class ContentsCache:
    """What layers hold, by their digest: kept under `root`, or where a workspace has its own."""

    def __init__(
        self, root: Path, *, actions: ActionCache | None = None, blobs: BlobStore | None = None
    ) -> None:
        self._blobs = blobs or BlobStore(root)
        self._actions = actions or ActionCache(root / "actions")

    def lookup(self, action: Keyed, output: str) -> bytes | None:
        """The `output` that is remembered of `action`; a damaged one is none."""
        found = self._actions.lookup(action, self._blobs)
        try:
            return self._blobs.get(found.outputs[output]) if found is not None else None
        except (IntegrityError, KeyError):
            return None

    def store(self, action: Keyed, output: str, data: bytes) -> None:
        """Remember `data`; where nothing can be written, nothing is remembered."""
        with contextlib.suppress(OSError):
            self._actions.store(action, ActionResult({output: self._blobs.put(data)}))

    def knows(self, layer: Digest) -> bool:
        """Whether something is remembered of `layer`."""
        return self._actions.lookup(contents_action(layer), self._blobs) is not None

    def get(self, layer: Digest) -> LayerContents | None:
        """What is remembered of `layer`; a damaged entry is none."""
        data = self.lookup(contents_action(layer), "contents")
        try:
            contents = LayerContents.from_json(data) if data is not None else None
        except (IntegrityError, ValueError, KeyError, TypeError):
            return None
        return contents if contents is not None and contents.digest == layer else None

    def put(self, contents: LayerContents) -> None:
        """Remember `contents`, under the digest of the very bytes they were read from."""
        self.store(contents_action(contents.digest), "contents", contents.to_json())


def contents_action(layer: Digest) -> Fact:
    """What the contents of `layer` are remembered under."""
    return Fact("layer-contents", {"layer": layer}, VERSION)


def known_layers(layers: Sequence[LayerBlob], cache: ContentsCache) -> list[LayerBlob]:
    """Those of `layers` whose contents `cache` remembers: nothing of them is unpacked, only
    hashed."""
    return [one for one in layers if one.digest is not None and cache.knows(one.digest)]


def contents_cache() -> ContentsCache | None:
    """Where it is remembered what layers hold: in the user's own cache folder; where that cannot be
    written, in the checkout's build folder; None where there is no checkout either, or where others
    can write to it, which is said."""
    folder = user_folder("XDG_CACHE_HOME", ".cache")
    own = folder is not None and can_write(folder)
    if folder is not None and own:
        root = folder / "plinth" / "contents"
        cache = ContentsCache(root)
    else:
        try:
            ws = Workspace.find()
        except PlinthError:
            return None
        root, cache = ws.build / "cache", workspace_cache(ws)
    try:
        if own and not root.exists():
            make_private(root)
        reason = next(filter(None, map(others_can_write, _folders(root))), "")
        if own and not reason:
            make_private(root)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
    if reason:
        to_stderr(f"note: what is remembered of layers is not used: {reason}")
        return None
    return cache


def _folders(root: Path) -> Iterator[Path]:
    """The folders of a cache that others can come to, and so must not be able to write to."""
    if root.is_dir():
        yield root
        inner = ("actions", "blobs", "blobs/sha256") if root.stat().st_mode & 0o077 else ()
        yield from (root / name for name in inner if (root / name).is_dir())


def workspace_cache(ws: Workspace) -> ContentsCache:
    """What the workspace remembers of the contents of layers."""
    return ContentsCache(ws.build / "cache", actions=ws.actions, blobs=ws.cache)
