"""The step `deb-layer`: Debian packages to a layer that comes on top of a base."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.debian.deb import File, read_deb
from plinth.formats.debian.merge import Tree
from plinth.formats.layer.header import ROOT, Owner
from plinth.formats.layer.writer import LayerWriter
from plinth.graph.steps.model import Work


def deb_layer(work: Work) -> ActionResult:
    """Merge the packages (inputs by name, called as in `filenames`); no script of them runs.

    The layer comes on top of one with `folders` (path, mode, uid, gid each), which stay as they
    are there, whatever a package has.

    Raises:
        PackageError: a package is malformed or hostile, or two hold the same file.
    """
    tree = Tree()
    for name, filename in sorted(work.parameters["filenames"].items()):
        deb = read_deb(work.inputs[name], filename)
        for file in deb.files:
            tree.add(name, file)
        record = f"var/lib/dpkg/status.d/{name}"
        tree.replace(File(record, "file", 0o644, ROOT, deb.control.rstrip().encode() + b"\n"))
        if deb.md5sums:
            tree.replace(File(f"{record}.md5sums", "file", 0o644, ROOT, deb.md5sums.encode()))
    for path, mode, uid, gid in work.parameters["folders"]:
        if path in tree.files:
            tree.replace(File(path, "directory", mode, Owner(uid, gid)))
    with LayerWriter(work.stores.layout, threads=True) as writer:
        tree.write(writer)
        return work.made(writer.commit("packages"))
