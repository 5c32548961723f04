"""One layer for each archive of a vendor: what an accelerator set takes from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plinth.build.plan import layer_title
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.report import Progress
from plinth.core.result import ActionResult
from plinth.core.settings import Config
from plinth.fetch.vendor import by_hand, fetch, held, size_of, unavailable
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.formats.vendor.layer import Source, vendor_layer
from plinth.formats.vendor.take import Wanted
from plinth.graph.actions import Action
from plinth.graph.run import known, run
from plinth.graph.session import Session
from plinth.graph.steps.model import Work
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU, Accelerator, load_accelerator
from plinth.recipe.locks.accelerator import LockedVendorFile, is_locked, read_lock
from plinth.recipe.vendor import VendorFile


def vendor_layers(
    ws: Session,
    spec: Accelerator,
    files: Sequence[LockedVendorFile],
    *,
    config: Config,
    progress: Progress,
) -> list[Layer]:
    """The layers of the archives `files` of the set `spec`; an archive is fetched only where its
    layer is not made yet.

    Raises:
        FetchError, IntegrityError: an archive is not available, or is another one.
        PackageError: it is malformed or hostile, or lacks a library.
    """

    def layer(one: VendorFile, file: LockedVendorFile) -> Layer:
        title = layer_title(one)
        action = _action(one)

        def work() -> ActionResult:
            archive = fetch(one, file, config, ws.cache, progress)
            if not ws.cache.sound(archive):
                raise IntegrityError(
                    "the archive in the store was damaged, and is deleted",
                    where=one.filename,
                    expected=archive.oci,
                    remedy="build again: it is fetched again",
                )
            progress(f"building the layer of {title}")
            source = Source(
                ws.cache.path(archive),
                one.form,
                one.filename,
                one.name,
                one.version,
                one.licence,
                one.sha256,
                one.into.strip("/"),
            )
            wanted = Wanted(one.folders, one.libraries, one.documents)
            made = vendor_layer(ws.layout, source, wanted, title)
            if file.size is None:
                progress(
                    f"note: {one.filename} has {archive.size} bytes; doit lock:{spec.name} adds "
                    "that to the lock, which a signature needs"
                )
            return Work({}, action.parameters, ws.stores, ws.compilers).made(made)

        # Not a step for others: to send gigabytes to a worker takes longer than to read them.
        result, hit = run(ws, action, work=work)
        return Layer.of(title, result, hit=hit)

    return [layer(one, file) for one, file in zip(spec.files, files, strict=True)]


def lacking(
    ws: Workspace, spec: Accelerator, files: Sequence[LockedVendorFile]
) -> list[LockedVendorFile]:
    """Those of `files` whose layer is not made yet."""
    return [
        file
        for one, file in zip(spec.files, files, strict=True)
        if ws.actions.lookup(_action(one), ws.stores) is None
    ]


def missing(
    ws: Workspace, spec: Accelerator, files: Sequence[LockedVendorFile], config: Config
) -> FetchError | None:
    """The error of a build that lacks an archive of `files`, being neither in the store nor at its
    place; None where all are available. Nothing is fetched."""
    absent = list(_to_fetch(ws, spec, files))
    why = unavailable(ws, [file for _, file in absent], config) if absent else ""
    if not why:
        return None
    rows = [f"{one.filename}, {size_of(one, file)}, sha256:{file.sha256}" for one, file in absent]
    return FetchError(
        f"the accelerator set {spec.name} is not available here",
        where=f"locks/base/{spec.name}.toml",
        expected="\n".join(rows),
        found=why,
        remedy=by_hand([file for _, file in absent]),
    )


def room_for(ws: Workspace, spec: Accelerator | None, files: Sequence[LockedVendorFile]) -> int:
    """The room (bytes) that those of `files` take at most that a build has to fetch, with what is
    taken from them, unpacked and in layers."""
    absent = _to_fetch(ws, spec, files) if spec else ()
    return sum(2 * (file.size or one.at_most) for one, file in absent)


def without_set(ws: Workspace, name: str, config: Config) -> FetchError | None:
    """Why the set `name` cannot be built here although it is locked; None where it can, or where
    it is not locked, which is for the recipe to report."""
    if name == CPU or not is_locked(ws, name):
        return None
    spec = load_accelerator(ws.bases, name)
    return missing(ws, spec, read_lock(ws, spec).files, config)


def left_out(name: str, error: FetchError) -> str:
    """The note on a build that goes on without the set `name`, because of `error`."""
    lines = [
        f"note: {error.what}: {error.found}",
        f"building without it, which the image's name says; accelerator={name} insists",
        "it is made of, and this machine lacks",
        *(f"  {row}" for row in error.expected.split("\n")),
        *error.remedy.split("\n"),
    ]
    return "\n      ".join(lines)


def _to_fetch(
    ws: Workspace, spec: Accelerator, files: Sequence[LockedVendorFile]
) -> Iterator[tuple[VendorFile, LockedVendorFile]]:
    for one, file in zip(spec.files, files, strict=True):
        if held(ws.cache, file) is None and not known(ws, _action(one)):
            yield one, file


def _action(one: VendorFile) -> Action:
    """The archive is a parameter and no input: what is made of it depends on its digest alone, and
    its size may not be known."""
    return Action(
        "vendor-layer",
        {},
        {
            "compressor": gzip.COMPRESSOR,
            "documents": list(one.documents),
            "filename": one.filename,
            "folders": list(one.folders),
            "form": one.form,
            "into": one.into,
            "libraries": list(one.libraries),
            "licence": one.licence,
            "name": one.name,
            "sha256": one.sha256,
            "version": one.version,
        },
        ("layer", "scan"),
    )
