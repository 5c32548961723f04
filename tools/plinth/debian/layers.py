"""One layer for each Debian package that comes on top of a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plinth.actions import Action, ActionResult
from plinth.base.lock import LockedDeb
from plinth.debian.deb import File, read_deb
from plinth.debian.fetch import fetch_debs
from plinth.debian.merge import Tree
from plinth.debian.sources import Source
from plinth.elf.scan import remember
from plinth.layer import gzip
from plinth.layer.owner import ROOT
from plinth.layer.writer import LayerWriter
from plinth.oci.model import Layer
from plinth.report import Progress
from plinth.workspace import Workspace

VERSION = 1
"""Raised whenever the code here would give other layers for the same packages."""


def package_layers(
    ws: Workspace,
    packages: Sequence[LockedDeb],
    sources: Callable[[], Sequence[Source]],
    progress: Progress,
    *,
    again: str,
) -> list[Layer]:
    """A layer for each of `packages`, in order; made unless they are cached.

    No maintainer script runs. `sources` and `again` are as in `fetch_debs`.

    Raises:
        FetchError, IntegrityError: a package cannot be had, or is another one.
        PackageError: a package is malformed or hostile.
    """

    def layer(package: LockedDeb) -> Layer:
        name = f"{package.name} {package.version}"

        def work() -> ActionResult:
            fetch_debs(ws, packages, sources, progress, again=again)
            progress(f"building the layer of {name}")
            return _layer(ws, package, name)

        result, hit = ws.actions.run(_action(package), ws.layout, work)
        return Layer.of(name, result, hit=hit)

    return [layer(package) for package in packages]


def cached_package(ws: Workspace, package: LockedDeb) -> Layer | None:
    """The layer of `package`, if it is made already."""
    found = ws.actions.lookup(_action(package), ws.layout)
    return Layer.of(package.name, found, hit=True) if found is not None else None


def _action(package: LockedDeb) -> Action:
    return Action(
        "deb-layer", VERSION, {"package": package.digest}, {"compressor": gzip.COMPRESSOR}
    )


def _layer(ws: Workspace, package: LockedDeb, name: str) -> ActionResult:
    deb = read_deb(ws.cache.path(package.digest), package.path.rsplit("/", 1)[-1])
    tree = Tree()
    for file in deb.files:
        tree.add(package.name, file)
    record = f"var/lib/dpkg/status.d/{package.name}"
    tree.replace(File(record, "file", 0o644, ROOT, deb.control.rstrip().encode() + b"\n"))
    if deb.md5sums:
        tree.replace(File(f"{record}.md5sums", "file", 0o644, ROOT, deb.md5sums.encode()))
    with LayerWriter(ws.layout, threads=True) as writer:
        tree.write(writer)
        return remember(ws, writer.commit(name))
