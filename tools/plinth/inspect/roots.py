"""Are unpacked roots still what their layers hold? They have no digest of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError, PlinthError
from plinth.formats.layer.blob import layer_tar
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.tar import FILE, SYMLINK, Content, Member
from plinth.graph.unpack import root_names
from plinth.graph.workspace import Workspace


def changed_roots(ws: Workspace, *, doubtful: bool) -> Iterator[tuple[Path, str]]:
    """Each folder that `plinth.graph.unpack` made and that differs from its layers, and in what.

    Layers are those of the images in the index. Roots of others cannot be compared; `doubtful`
    says whether they count as changed.
    """
    folder = ws.build / "cache" / "roots"
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    known = _known(ws)
    for path in sorted(folder.iterdir()):
        layers = known.get(path.name)
        if layers is not None:
            problem = _difference(ws, path, layers)
        else:
            problem = "its layers are no image's" if doubtful else ""
        if problem:
            yield path, problem


def _known(ws: Workspace) -> dict[str, Sequence[Digest]]:
    """Layers by the name of the folder they are unpacked to."""
    found: dict[str, Sequence[Digest]] = {}
    try:
        images = references(ws.layout).values()
    except PlinthError:
        return found
    for image in images:
        try:
            manifest = read_manifest(ws.layout, image.manifest)
        except PlinthError:
            continue
        found |= root_names([layer.digest for layer in manifest.layers])
    return found


def _difference(ws: Workspace, root: Path, layers: Sequence[Digest]) -> str:
    """The first file of `root` that is not as the topmost of `layers` has it; empty for none."""
    seen: set[str] = set()
    try:
        for layer in reversed(layers):
            with layer_tar(ws.layout.path(layer)) as entries:
                for member, content in entries:
                    name = member.path
                    if name in seen:
                        continue
                    seen.add(name)
                    path = root / name
                    if member.kind == SYMLINK:
                        if not path.is_symlink() or str(path.readlink()) != member.target:
                            return f"/{name} leads elsewhere"
                    elif member.kind == FILE and not _same(path, member, content):
                        return f"/{name} is another"
    except (OSError, LayoutError):
        return "its layer cannot be read"
    return ""


def _same(path: Path, member: Member, content: Content) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != member.size:
        return False
    with path.open("rb") as stream:
        return all(stream.read(len(piece)) == piece for piece in content)
