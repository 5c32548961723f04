"""A python-build-standalone archive as an interpreter tree (its `python/install` folder)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import requests
import zstandard

from plinth.base.python_tree import TreeFile, is_wanted
from plinth.config import Config
from plinth.errors import FetchError, IntegrityError, PackageError
from plinth.http import fetch_blob, opened
from plinth.spec.base import StandalonePython
from plinth.store import BlobStore

_INSTALL = "python/install/"
_MAX = 4 << 30


def fetch(python: StandalonePython, config: Config, store: BlobStore) -> None:
    """Bring the archive into `store` from the place the settings give its release.

    Raises:
        FetchError: no place is configured, or it has no such file.
        IntegrityError: it is another file.
    """
    if store.has(python.digest):
        return
    place = config.files.get(python.release)
    if not place:
        raise FetchError(
            f"no place is configured for {python.asset}",
            remedy=f'set files."{python.release}" in the settings, to a folder or a base URL '
            "that has it",
        )
    if "://" not in place:
        for path in (Path(place) / python.asset, Path(place) / python.tag / python.asset):
            if path.is_file():
                store.put_file(path, python.digest)
                return
        raise FetchError("the folder has no such file", where=f"{place}: {python.asset}")

    def open_(headers: Mapping[str, str]) -> requests.Response:
        url = f"{place.rstrip('/')}/{python.tag}/{python.asset}"
        return opened(
            requests.get, url, headers, missing="there is no such file", what=python.asset
        )

    remedy = f'check the network, or files."{python.release}" in the settings'
    fetch_blob(open_, python.digest, store, python.asset, place=python.release, remedy=remedy)


def read_archive(python: StandalonePython, store: BlobStore) -> list[TreeFile]:
    """The files of the archive's interpreter, sorted by path, filtered as a found one's are.

    Raises:
        PackageError: it is not such an archive, or an entry escapes it.
        IntegrityError: it is damaged.
    """
    found: dict[str, TreeFile] = {}
    data = store.get(python.digest)
    try:
        with (
            zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            total = 0
            for member in tar:
                total += member.size
                if total > _MAX:
                    raise PackageError(f"unpacks to more than {_MAX} bytes", where=python.asset)
                path = member.name.removeprefix("./").removeprefix(_INSTALL)
                if path == member.name.removeprefix("./") or not is_wanted(path, python.version):
                    continue
                if ".." in path.split("/") or path.startswith("/") or path in found:
                    raise PackageError("an entry escapes or is there twice", where=member.name)
                if member.issym():
                    found[path] = TreeFile(path, 0o777, b"", member.linkname)
                elif member.isfile():
                    stream = tar.extractfile(member)
                    mode = 0o755 if member.mode & 0o100 else 0o644
                    found[path] = TreeFile(path, mode, stream.read() if stream else b"")
                elif member.islnk():
                    other = found.get(member.linkname.removeprefix("./").removeprefix(_INSTALL))
                    if other is None or other.target:
                        raise PackageError("hard link to nothing", where=member.name)
                    found[path] = TreeFile(path, other.mode, other.data)
                elif not member.isdir():
                    raise PackageError("a device or special file", where=member.name)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise IntegrityError(f"damaged archive: {error}", where=python.asset) from None
    if f"bin/python{python.version}" not in found:
        raise PackageError(
            "not a python-build-standalone archive",
            where=python.asset,
            expected=f"{_INSTALL}bin/python{python.version}",
        )
    for name in ("bin/python", "bin/python3"):
        found[name] = TreeFile(name, 0o777, b"", f"python{python.version}")
    for path in found:
        # A link that is used as a folder could lead out of the tree.
        if any(str(parent) in found for parent in PurePosixPath(path).parents):
            raise PackageError("an entry is under what is no folder", where=_INSTALL + path)
    return [found[path] for path in sorted(found)]
