"""Scanning a layer that came without a scan: its shared objects, read from its blob."""

from __future__ import annotations

from pathlib import Path

from plinth.core.errors import IntegrityError, LayoutError
from plinth.formats.elf.scan import LayerScan
from plinth.formats.layer.blob import layer_tar
from plinth.formats.tar import FILE, HARDLINK, SYMLINK


def read_scan(path: Path, name: str) -> LayerScan:
    """The scan of the layer blob at `path`, called `name`.

    Raises:
        IntegrityError: it is damaged.
    """
    found = LayerScan()
    try:
        with layer_tar(path) as entries:
            for member, content in entries:
                if member.kind == SYMLINK:
                    found.links[member.path] = member.target
                elif member.kind == HARDLINK:
                    if member.target_path in found.objects:
                        found.objects[member.path] = found.objects[member.target_path]
                elif member.kind == FILE:
                    found.add(member.path, [*content])
    except (OSError, LayoutError) as error:
        what = error.brief if isinstance(error, LayoutError) else str(error)
        raise IntegrityError(f"unreadable layer: {what}", where=name) from None
    return found
