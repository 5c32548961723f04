"""The layers of an accelerator set: one for each package, and the linker's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from plinth.accelerator.lock import AcceleratorLock, how_to_obtain, source_of
from plinth.actions import Action, ActionResult
from plinth.config import Config
from plinth.debian.layers import package_layers
from plinth.elf.closure import Tree as Objects
from plinth.elf.ldcache import cache_bytes
from plinth.elf.scan import LayerScan, remember, scan
from plinth.layer import gzip
from plinth.layer.writer import LayerWriter
from plinth.oci.model import Layer
from plinth.report import Progress
from plinth.spec.accelerator import Accelerator
from plinth.workspace import Workspace

LINKER_VERSION = 3
"""Raised whenever the code here would give another configuration for the same layers."""


def accelerator_layers(
    ws: Workspace,
    spec: Accelerator,
    lock: AcceleratorLock,
    *,
    config: Config,
    progress: Progress,
) -> list[Layer]:
    """A layer for each Debian package of the set, by name; made unless they are cached.

    Raises:
        FetchError, IntegrityError: a package cannot be had, or is another one.
        PackageError: a package is malformed or hostile.
    """
    return package_layers(
        ws,
        lock.packages,
        lambda: [source_of(archive, config) for archive in spec.archives],
        progress,
        again=how_to_obtain(spec),
    )


def linker_layer(ws: Workspace, layers: Sequence[Layer], spec: Accelerator) -> Layer:
    """The layer that lets the linker of an image made of `layers` find the set's folders."""
    name = f"{spec.label} linker configuration"
    settings = f"etc/ld.so.conf.d/{spec.name}.conf"
    content = "".join(f"{folder}\n" for folder in spec.folders)
    action = Action(
        "linker-layer",
        LINKER_VERSION,
        {f"{number:03}": layer.digest for number, layer in enumerate(layers)},
        {"settings": content, "name": settings, "compressor": gzip.COMPRESSOR},
    )

    def work() -> ActionResult:
        scans = [(layer.name, scan(ws, layer)) for layer in layers]
        scans.append((name, LayerScan(settings={settings: content})))
        cache = cache_bytes(Objects.of(scans).cached())
        with LayerWriter(ws.layout) as writer:
            for folder in ("etc", "etc/ld.so.conf.d"):
                writer.directory(folder)
            writer.file("etc/ld.so.cache", cache)
            writer.file(settings, content.encode())
            return remember(ws, writer.commit(name))

    result, hit = ws.actions.run(action, ws.layout, work)
    return Layer.of(name, result, hit=hit)
