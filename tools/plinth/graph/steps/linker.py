"""The step `linker-layer`: scans of layers to the layer with the linker's configuration."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.elf.closure import Tree
from plinth.formats.elf.ldcache import PATH, cache_bytes
from plinth.formats.elf.scan import LayerScan
from plinth.formats.layer.writer import LayerWriter
from plinth.graph.steps.model import Work


def linker_layer(work: Work) -> ActionResult:
    """Add the file `name` of `settings`, and the cache of all layers (inputs, bottom first)."""
    name, settings = str(work.parameters["name"]), str(work.parameters["settings"])
    scans = [
        (number, LayerScan.from_json(path.read_bytes()))
        for number, path in sorted(work.inputs.items())
    ]
    scans.append(("", LayerScan(settings={name: settings})))
    with LayerWriter(work.stores.layout) as writer:
        for folder in ("etc", "etc/ld.so.conf.d"):
            writer.directory(folder)
        writer.file(PATH, cache_bytes(Tree.of(scans).cached()))
        writer.file(name, settings.encode())
        return work.made(writer.commit("linker"))
