"""The layer of what was taken from a vendor's archive, and the record in it that says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import canonical_json
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.vendor.take import Taken, Wanted, take

RECORDS = "usr/share/plinth/archives"
"""The folder of an image with a record, `<name>.json`, of each archive something is from."""


@dataclass(frozen=True)
class Source:
    """A vendor's archive: the file `path` of a form of `plinth.formats.vendor.tar.FORMS`, called
    `filename` in messages. `name`, `version` and `licence` are what it is known as; `sha256` (hex)
    is its own. What is taken goes into the folder `into`, relative to /."""

    path: Path
    form: str
    filename: str
    name: str
    version: str
    licence: str
    sha256: str
    into: str


def vendor_layer(store: BlobStore, source: Source, wanted: Wanted, title: str) -> Layer:
    """The layer, called `title`, of what `wanted` names of the archive `source`: libraries, their
    licences in /usr/share/doc, and a record of all these files by SHA-256.

    Raises:
        PackageError: as `plinth.formats.vendor.take.take`.
    """
    store.prepare()
    found = take(source.path, source.form, wanted, store.temporary, source.filename)
    files = {f"{source.into}/{one.name}": one for one in found.libraries}
    files |= {f"usr/share/doc/{source.name}/{one.name}": one for one in found.documents}
    record = f"{RECORDS}/{source.name}.json"
    folders = {
        "/".join(parts[:depth])
        for parts in (path.split("/") for path in (*files, record))
        for depth in range(1, len(parts))
    }
    with LayerWriter(store, threads=True) as writer:
        for path in sorted({*folders, *files, record}):
            if path in folders:
                writer.directory(path)
            elif path == record:
                writer.file(path, _record(source, files))
            elif files[path].target:
                writer.symlink(path, files[path].target)
            else:
                writer.file(path, files[path].content)
        return writer.commit(title)


def _record(source: Source, files: dict[str, Taken]) -> bytes:
    return canonical_json(
        {
            "name": source.name,
            "version": source.version,
            "licence": source.licence,
            "archive": {"name": source.filename, "sha256": source.sha256},
            "files": {path: one.sha256 for path, one in files.items() if not one.target},
            "links": {path: one.target for path, one in files.items() if one.target},
        }
    )
