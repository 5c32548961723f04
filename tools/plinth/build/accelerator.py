"""The layers of an accelerator set: packages, archives, and the linker's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from plinth.build.closure import keep_scans, scan_inputs
from plinth.build.debs import package_layers
from plinth.build.plan import linker_settings, linker_title
from plinth.build.vendor import vendor_layers
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.fetch.apt.sources import source_of
from plinth.fetch.debs import Places
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.recipe.accelerator import Accelerator
from plinth.recipe.locks.accelerator import AcceleratorLock, how_to_obtain


def accelerator_layers(
    ws: Session,
    spec: Accelerator,
    lock: AcceleratorLock,
    *,
    config: Config,
    progress: Progress,
) -> list[Layer]:
    """The layers of the packages of the set `spec`, by name, then those of its archives; made
    unless they are cached.

    Raises:
        FetchError, IntegrityError: a package cannot be had, or is another one.
        PackageError: a package is malformed or hostile.
    """
    packages = package_layers(
        ws,
        lock.packages,
        lambda: Places.of([source_of(archive, config) for archive in spec.archives]),
        progress,
        again=how_to_obtain(spec),
    )
    return packages + vendor_layers(ws, spec, lock.files, config=config, progress=progress)


def linker_layer(ws: Session, layers: Sequence[Layer], spec: Accelerator) -> Layer:
    """The layer that lets the linker of an image made of `layers` find the set's folders."""
    settings, content = linker_settings(spec)
    action = Action(
        "linker-layer",
        scan_inputs(ws, layers),
        {"settings": content, "name": settings, "compressor": gzip.COMPRESSOR},
        ("layer", "scan"),
    )
    result, hit = run(ws, action, prepare=lambda: keep_scans(ws, layers))
    return Layer.of(linker_title(spec), result, hit=hit)
