"""The step `contract-layer`: files of base/rootfs to the layer of the container's contract."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.layer.header import Owner
from plinth.formats.layer.writer import LayerWriter
from plinth.graph.steps.model import Work


def contract_layer(work: Work) -> ActionResult:
    """Write `folders`, `files` (path, mode, uid, gid each), whose contents are the inputs, and
    `links` (path, target, uid, gid)."""
    with LayerWriter(work.stores.layout) as writer:
        for path, mode, uid, gid in work.parameters["folders"]:
            writer.directory(path, mode, Owner(uid, gid))
        for path, mode, uid, gid in work.parameters["files"]:
            writer.file(path, work.inputs[path].read_bytes(), mode, Owner(uid, gid))
        for path, target, uid, gid in work.parameters["links"]:
            writer.symlink(path, target, Owner(uid, gid))
        return work.made(writer.commit("contract"))
