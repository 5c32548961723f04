"""What of a layer is from archives of vendors: each file compared with the record beside them.

`plinth.formats.vendor.layer` writes the records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError
from plinth.formats.oci.strict import loads
from plinth.formats.vendor.layer import RECORDS
from plinth.inspect.contents.files import Files
from plinth.inspect.contents.model import FoundArchive, files_digest

_RECORD = re.compile(rf"{RECORDS}/([^/]+)\.json")


def find_archives(files: Files, accounted: set[str]) -> tuple[FoundArchive, ...]:
    """The archives in `files`, by name; their files are added to `accounted`, what is wrong to the
    problems of `files`."""
    found = []
    for path in sorted(files.kept):
        match = _RECORD.fullmatch(path)
        if match is None:
            continue
        try:
            found.append(_archive(files, path, match[1], loads(files.kept[path]), accounted))
        except (ValueError, KeyError, TypeError, AttributeError, IntegrityError):
            files.wrong(path, "not a record of an archive")
    return tuple(found)


def _archive(
    files: Files, record: str, name: str, document: Mapping[str, Any], accounted: set[str]
) -> FoundArchive:
    sums, links, archive = document["files"], document["links"], document["archive"]
    version, licence = str(document["version"]), str(document["licence"])
    if document["name"] != name:
        raise ValueError(name)
    # Which also checks it.
    sha256 = Digest(archive["sha256"], 0).hex
    for path, said in (*sums.items(), *links.items()):
        entry = files.entries.get(path)
        if entry is None:
            files.wrong(path, f"the record of {name} lists it, and it is not there")
        elif said != (entry.target if path in links else entry.sha256):
            files.wrong(path, f"it is not as the record of {name} has it")
    held = [files.entries[path] for path in (*sums, *links, record) if path in files.entries]
    accounted.update(entry.path for entry in held)
    return FoundArchive(
        name,
        version,
        licence,
        sha256,
        len(held),
        sum(entry.size for entry in held),
        files_digest(held),
    )
