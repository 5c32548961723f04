"""Packages merged into one tree, as dpkg would leave it on a system with a merged /usr."""

from __future__ import annotations

from plinth.core.errors import PackageError
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import ROOT
from plinth.formats.layer.writer import LayerWriter

MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_DROPPED = (
    "usr/share/bash-completion/",
    "usr/share/bug/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/menu/",
)


class Tree:
    """Paths and what is there; who put it there, for messages."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self._owners: dict[str, str] = {}

    def add(self, package: str, file: File) -> None:
        """Add a file of `package`, unless nobody needs it in an image.

        Raises:
            PackageError: another package holds another file at its path.
        """
        file = merged(file)
        if (file.path + "/").startswith(_DROPPED) or _is_documentation(file):
            return
        there = self.files.get(file.path)
        if there is not None and not there.kind == file.kind == "directory":
            # In a merged /usr a package may reach one file by both of its names.
            if (there.kind, there.data, there.target) == (file.kind, file.data, file.target):
                return
            raise PackageError(
                f"{package} and {self._owners[file.path]} both hold a file",
                where=file.path,
                remedy="leave one of the packages out of rootfs.packages",
            )
        if there is None:
            self._parents(file.path, package)
            self.files[file.path] = file
            self._owners[file.path] = package

    def replace(self, file: File) -> None:
        """Put `file` where it says, whatever was there."""
        self._parents(file.path, "plinth")
        self.files[file.path] = file
        self._owners[file.path] = "plinth"

    def write(self, writer: LayerWriter) -> None:
        """Write the tree into a layer, by path."""
        for path in sorted(self.files):
            file = self.files[path]
            if file.kind == "directory":
                writer.directory(path, file.mode, file.owner)
            elif file.kind == "symlink":
                writer.symlink(path, file.target, file.owner)
            else:
                writer.file(path, file.data, file.mode, file.owner)

    def _parents(self, path: str, package: str) -> None:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            parent = "/".join(parts[:depth])
            self.files.setdefault(parent, File(parent, "directory", 0o755, ROOT))
            self._owners.setdefault(parent, package)
            if self.files[parent].kind != "directory":
                raise PackageError(
                    "a parent of this path is not a directory", where=path, found=parent
                )


def merged(file: File) -> File:
    """The file where it is in a merged /usr (Debian's usrmerge)."""
    first = file.path.partition("/")[0]
    if first not in MERGED:
        return file
    path = f"usr/{file.path}"
    if file.kind == "symlink" and not file.target.startswith("/"):
        # A relative link out of the old place: count from the root instead.
        depth = file.path.count("/")
        up = file.target.count("../")
        if up == depth and up:
            return File(path, "symlink", file.mode, file.owner, target="../" + file.target)
    return File(path, file.kind, file.mode, file.owner, file.data, file.target)


def _is_documentation(file: File) -> bool:
    """Documentation but for the licences, which travel with what they cover."""
    return (
        file.path.startswith("usr/share/doc/")
        and file.kind != "directory"
        and not file.path.endswith("/copyright")
    )
