"""The interpreter in a layer, by the same digest that a base's lock names it with."""

from __future__ import annotations

import hashlib
import re

from plinth.core.digest import Digest, Json, canonical_json
from plinth.formats.python.place import PREFIX, site_packages
from plinth.inspect.contents.files import Files
from plinth.inspect.contents.model import DIRECTORY, FILE, FoundInterpreter, files_digest
from plinth.inspect.contents.wheels import is_bytecode

_EXECUTABLE = re.compile(rf"{PREFIX}/bin/python(3\.\d+)")
_RELEASE = re.compile(rb'^#define PY_VERSION\s+"([\w.+]{1,40})"', re.MULTILINE)
_NOTHING = hashlib.sha256().hexdigest()


def versions_in(files: Files) -> list[str]:
    """The versions of the interpreters in `files`, such as 3.7."""
    return [
        match[1]
        for match in map(_EXECUTABLE.fullmatch, files.entries)
        if match and files.entries[match[0]].kind == FILE
    ]


def find_interpreter(files: Files, accounted: set[str]) -> FoundInterpreter | None:
    """The CPython in `files`, if there is one; its files are added to `accounted`.

    Of the folder of installed packages nothing is the interpreter's.
    """
    versions = versions_in(files)
    if not versions:
        return None
    if len(versions) > 1:
        files.wrong(f"{PREFIX}/bin", f"several interpreters: {', '.join(sorted(versions))}")
    version = versions[0]
    installed = site_packages(version) + "/"
    held = {
        path: entry
        for path, entry in files.entries.items()
        if path.startswith(f"{PREFIX}/")
        and not path.startswith(installed)
        and entry.kind != DIRECTORY
        and path not in accounted
    }
    accounted.update(held)
    tree = [entry for path, entry in sorted(held.items()) if not is_bytecode(path, held)]
    rows: list[Json] = [
        [e.path.removeprefix(f"{PREFIX}/"), e.mode, e.target, e.sha256 or _NOTHING] for e in tree
    ]
    headers = [data for path, data in sorted(files.kept.items()) if path.endswith("/patchlevel.h")]
    release = _RELEASE.search(headers[0]) if headers else None
    return FoundInterpreter(
        version,
        release[1].decode() if release else "",
        Digest.of(canonical_json(rows)).hex,
        len(tree),
        sum(entry.size for entry in tree),
        len(held) - len(tree),
        files_digest(held.values()),
    )
