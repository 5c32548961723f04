"""An interpreter in one file, as a step takes it: written from a tree, and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import zstandard

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import IntegrityError, LayoutError, PackageError
from plinth.core.store import BlobStore
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.python.tree import TreeFile, is_wanted
from plinth.formats.tar import DIRECTORY, FILE, HARDLINK, SYMLINK, Source, members

_INSTALL = "python/install/"
_MAX = 4 << 30


def write_archive(store: BlobStore, files: Sequence[TreeFile]) -> Digest:
    """Write `files`, sorted by path, as an archive into `store`: the same files, the same bytes."""
    with LayerWriter(store) as writer:
        for file in files:
            if file.target:
                writer.symlink(file.path, file.target)
            else:
                writer.file(file.path, file.data, file.mode)
        return writer.commit("interpreter").digest


def read_written(archive: Path, version: str, name: str) -> list[TreeFile]:
    """The files of an archive that `write_archive` made.

    Raises:
        IntegrityError: it is damaged.
    """
    found = []
    try:
        with gunzipped_tar(archive) as entries:
            for member, content in entries:
                data = b"".join(content)
                found.append(TreeFile(member.path, member.mode, data, member.target))
    except LayoutError as error:
        raise IntegrityError(f"damaged archive: {error.brief}", where=name) from None
    return found


def read_standalone(archive: Path, version: str, name: str) -> list[TreeFile]:
    """The files of a python-build-standalone archive's interpreter (its `python/install` folder),
    sorted by path, filtered as a found one's are; `name` is what messages call it.

    Raises:
        PackageError: it is not such an archive, or an entry escapes it.
        IntegrityError: it is damaged.
    """
    found: dict[str, TreeFile] = {}
    try:
        with (
            archive.open("rb") as stream,
            zstandard.ZstdDecompressor().stream_reader(stream) as plain,
        ):
            source = Source(iter(lambda: plain.read(CHUNK), b""), _MAX)
            for member, content in members(source):
                path = member.path.removeprefix(_INSTALL)
                if path == member.path or not is_wanted(path, version):
                    continue
                if ".." in path.split("/") or path.startswith("/") or path in found:
                    raise PackageError("an entry escapes or is there twice", where=member.name)
                if member.kind == SYMLINK:
                    found[path] = TreeFile(path, 0o777, b"", member.target)
                elif member.kind == FILE:
                    mode = 0o755 if member.mode & 0o100 else 0o644
                    found[path] = TreeFile(path, mode, b"".join(content))
                elif member.kind == HARDLINK:
                    other = found.get(member.target_path.removeprefix(_INSTALL))
                    if other is None or other.target:
                        raise PackageError("hard link to nothing", where=member.name)
                    found[path] = TreeFile(path, other.mode, other.data)
                elif member.kind != DIRECTORY:
                    raise PackageError("a device or special file", where=member.name)
    except (LayoutError, zstandard.ZstdError) as error:
        what = error.brief if isinstance(error, LayoutError) else error
        raise IntegrityError(f"damaged archive: {what}", where=name) from None
    if f"bin/python{version}" not in found:
        raise PackageError(
            "not a python-build-standalone archive",
            where=name,
            expected=f"{_INSTALL}bin/python{version}",
        )
    for link in ("bin/python", "bin/python3"):
        found[link] = TreeFile(link, 0o777, b"", f"python{version}")
    for path in found:
        # A link that is used as a folder could lead out of the tree.
        if any(str(parent) in found for parent in PurePosixPath(path).parents):
            raise PackageError("a parent of this path is not a directory", where=_INSTALL + path)
    return [found[path] for path in sorted(found)]


READERS: Mapping[str, Callable[[Path, str, str], list[TreeFile]]] = {
    "found": read_written,
    "standalone": read_standalone,
}
"""How an archive of each kind is read."""
