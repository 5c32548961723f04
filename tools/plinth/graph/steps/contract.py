"""The step `contract-layer`: files of base/rootfs to the layer of the container's contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plinth.core.result import ActionResult
from plinth.formats.accounts import ACCOUNTS, with_user
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer.header import ROOT, Owner
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.tar import FILE
from plinth.graph.steps.model import Work

PULLED = "pulled"
"""The input that is the layer of a pulled base: its accounts lack the image's user."""


def contract_layer(work: Work) -> ActionResult:
    """Write `folders`, `files` (path, mode, uid, gid each), whose contents are the inputs, and
    `links` (path, target, uid, gid); and, over a pulled base, its accounts with the image's
    user among them."""
    with LayerWriter(work.stores.layout) as writer:
        for path, mode, uid, gid in work.parameters["folders"]:
            writer.directory(path, mode, Owner(uid, gid))
        for path, mode, uid, gid in work.parameters["files"]:
            writer.file(path, work.inputs[path].read_bytes(), mode, Owner(uid, gid))
        if PULLED in work.inputs:
            for path, text in _accounts(work.inputs[PULLED]):
                writer.file(path, text, 0o644, ROOT)
        for path, target, uid, gid in work.parameters["links"]:
            writer.symlink(path, target, Owner(uid, gid))
        return work.made(writer.commit("contract"))


def _accounts(layer: Path) -> Iterator[tuple[str, bytes]]:
    found = dict.fromkeys(ACCOUNTS, b"")
    with gunzipped_tar(layer) as entries:
        for member, content in entries:
            if member.path in found and member.kind == FILE:
                found[member.path] = b"".join(content)
    for path, text in found.items():
        yield path, with_user(path, text)
