"""One layer for each Debian package that comes on top of a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from plinth.actions import Action, ActionResult
from plinth.base.lock import LockedDeb
from plinth.elf.scan import remember
from plinth.layer import gzip
from plinth.layer.owner import ROOT
from plinth.layer.writer import LayerWriter
from plinth.oci.model import Layer
from plinth.report import Progress
from plinth.workspace import Workspace

if TYPE_CHECKING:
    from plinth.debian.sources import Source

VERSION = 1
"""Raised whenever the code here would give other layers for the same packages."""


_LARGE = 8_000_000


def package_layers(
    ws: Workspace,
    packages: Sequence[LockedDeb],
    sources: Callable[[], Sequence[Source]],
    progress: Progress,
    *,
    again: str,
) -> list[Layer]:
    """The layers of `packages`: large ones alone, by name, and one for all others.

    No maintainer script runs. `sources` and `again` are as in `fetch_debs`.

    Raises:
        FetchError, IntegrityError: a package cannot be had, or is another one.
        PackageError: a package is malformed or hostile, or two hold the same file.
    """

    def layer(group: Sequence[LockedDeb]) -> Layer:
        name = _title(group)

        def work() -> ActionResult:
            # A build that finds all in its cache pays for none of this.
            from plinth.debian.fetch import fetch_debs

            fetch_debs(ws, packages, sources, progress, again=again)
            progress(f"building the layer of {name}")
            return _layer(ws, group, name)

        result, hit = ws.actions.run(_action(group), ws.layout, work)
        return Layer.of(name, result, hit=hit)

    return [layer(group) for group in _groups(packages)]


def lacking(ws: Workspace, packages: Sequence[LockedDeb]) -> list[LockedDeb]:
    """Those of `packages` whose layer is not made yet."""
    return [
        package
        for group in _groups(packages)
        if ws.actions.lookup(_action(group), ws.layout) is None
        for package in group
    ]


def _groups(packages: Sequence[LockedDeb]) -> list[tuple[LockedDeb, ...]]:
    ordered = sorted(packages, key=lambda package: package.name)
    small = tuple(package for package in ordered if package.digest.size < _LARGE)
    return [*([small] if small else []), *((p,) for p in ordered if p not in small)]


def _title(group: Sequence[LockedDeb]) -> str:
    if len(group) == 1:
        return f"{group[0].name} {group[0].version}"
    return f"{len(group)} OS packages, {group[0].name} to {group[-1].name}"


def _action(group: Sequence[LockedDeb]) -> Action:
    return Action(
        "deb-layer",
        VERSION,
        {package.name: package.digest for package in group},
        {"compressor": gzip.COMPRESSOR},
    )


def _layer(ws: Workspace, group: Sequence[LockedDeb], name: str) -> ActionResult:
    from plinth.debian.deb import File, read_deb
    from plinth.debian.merge import Tree

    tree = Tree()
    for package in group:
        deb = read_deb(ws.cache.path(package.digest), package.path.rsplit("/", 1)[-1])
        for file in deb.files:
            tree.add(package.name, file)
        record = f"var/lib/dpkg/status.d/{package.name}"
        tree.replace(File(record, "file", 0o644, ROOT, deb.control.rstrip().encode() + b"\n"))
        if deb.md5sums:
            tree.replace(File(f"{record}.md5sums", "file", 0o644, ROOT, deb.md5sums.encode()))
    with LayerWriter(ws.layout, threads=True) as writer:
        tree.write(writer)
        return remember(ws, writer.commit(name))
