"""An interpreter in one file, as a step takes it: written from a tree, and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import zstandard

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, PackageError
from plinth.core.store import BlobStore
from plinth.core.tarfile import tarfile
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.python.tree import TreeFile, is_wanted

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
        with gunzipped_tar(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                data = content.read() if content else b""
                found.append(TreeFile(member.name, member.mode, data, member.linkname))
    except (tarfile.TarError, OSError) as error:
        raise IntegrityError(f"damaged archive: {error}", where=name) from None
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
            tarfile.open(fileobj=plain, mode="r|", encoding="utf-8") as tar,
        ):
            total = 0
            for member in tar:
                total += member.size
                if total > _MAX:
                    raise PackageError(f"unpacks to more than {_MAX} bytes", where=name)
                path = member.name.removeprefix("./").removeprefix(_INSTALL)
                if path == member.name.removeprefix("./") or not is_wanted(path, version):
                    continue
                if ".." in path.split("/") or path.startswith("/") or path in found:
                    raise PackageError("an entry escapes or is there twice", where=member.name)
                if member.issym():
                    found[path] = TreeFile(path, 0o777, b"", member.linkname)
                elif member.isfile():
                    content = tar.extractfile(member)
                    mode = 0o755 if member.mode & 0o100 else 0o644
                    found[path] = TreeFile(path, mode, content.read() if content else b"")
                elif member.islnk():
                    other = found.get(member.linkname.removeprefix("./").removeprefix(_INSTALL))
                    if other is None or other.target:
                        raise PackageError("hard link to nothing", where=member.name)
                    found[path] = TreeFile(path, other.mode, other.data)
                elif not member.isdir():
                    raise PackageError("a device or special file", where=member.name)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise IntegrityError(f"damaged archive: {error}", where=name) from None
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
