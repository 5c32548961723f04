"""The step `debian-rootfs`: Debian packages to an operating system's layer."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.debian.deb import read_deb
from plinth.formats.debian.rootfs import rootfs_layer
from plinth.graph.steps.model import Work


def debian_rootfs(work: Work) -> ActionResult:
    """Merge the packages (inputs by name, called as in `filenames`), without those of `omit`.

    Raises:
        PackageError: a package is malformed or hostile, or two claim one path.
    """
    debs = {
        name: read_deb(work.inputs[name], filename)
        for name, filename in work.parameters["filenames"].items()
    }
    return work.made(
        rootfs_layer(work.stores.layout, debs, "system", frozenset(work.parameters["omit"]))
    )
