"""One layer for each Debian package that comes on top of a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from plinth.build.contract_files import ALL_FOLDERS
from plinth.build.plan import deb_groups, deb_title
from plinth.core.report import Progress
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.base import LockedDeb

if TYPE_CHECKING:
    from plinth.fetch.debs import Places


def package_layers(
    ws: Session,
    packages: Sequence[LockedDeb],
    places: Callable[[], Places],
    progress: Progress,
    *,
    again: str,
) -> list[Layer]:
    """The layers of `packages`: large ones alone, by name, and one for all others.

    No maintainer script runs. `places` and `again` are as in `fetch_debs`.

    Raises:
        FetchError, IntegrityError: a package cannot be had, or is another one.
        PackageError: a package is malformed or hostile, or two hold the same file.
    """

    def layer(group: Sequence[LockedDeb]) -> Layer:
        name = deb_title(group)

        def prepare() -> None:
            # A build that finds all in its cache pays for none of this.
            from plinth.fetch.debs import fetch_debs

            fetch_debs(ws, packages, places, progress, again=again)
            progress(f"building the layer of {name}")

        result, hit = run(ws, _action(group), prepare=prepare)
        return Layer.of(name, result, hit=hit)

    return [layer(group) for group in deb_groups(packages)]


def lacking(ws: Workspace, packages: Sequence[LockedDeb]) -> list[LockedDeb]:
    """Those of `packages` whose layer is not made yet."""
    return [
        package
        for group in deb_groups(packages)
        if ws.actions.lookup(_action(group), ws.stores) is None
        for package in group
    ]


def _action(group: Sequence[LockedDeb]) -> Action:
    return Action(
        "deb-layer",
        {package.name: package.digest for package in group},
        {
            "compressor": gzip.COMPRESSOR,
            "filenames": {package.name: package.filename for package in group},
            "folders": [[path, mode, *owner] for path, mode, owner in ALL_FOLDERS],
        },
        ("layer", "scan"),
    )
