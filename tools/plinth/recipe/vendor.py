"""Archives of vendors in an accelerator set: `[[files]]` of `base/<set>.toml`, by SHA-256."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plinth.core.digest import parse_oci
from plinth.core.document import Table
from plinth.core.errors import IntegrityError
from plinth.formats.vendor.tar import FORMS

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._~-]*")


@dataclass(frozen=True)
class VendorFile:
    """One archive, and what is taken from it.

    `name`, `version` and `licence` are what SBOMs call it. `place` is the key of the settings'
    `files` whose folder or base URL has it at `path`; `sha256` (hex) is its digest, `at_most` what
    is downloaded of it (bytes) while its size is not locked. `form` is one of
    `plinth.formats.vendor.tar.FORMS`; `folders`, `libraries` and `documents` are as
    `plinth.formats.vendor.take.Wanted` has them; what is taken goes into the folder `into`.
    """

    name: str
    version: str
    licence: str
    place: str
    path: str
    sha256: str
    at_most: int
    form: str
    folders: tuple[str, ...]
    libraries: tuple[str, ...]
    documents: tuple[str, ...]
    into: str

    @property
    def filename(self) -> str:
        """The name of the file itself."""
        return self.path.rpartition("/")[2]


def read_file(table: Table) -> VendorFile:
    """The archive that `table` describes; what is wrong with it is reported there."""
    sha256 = table.text("sha256")
    try:
        sha256 = parse_oci(sha256)
    except IntegrityError:
        table.problem("sha256", f"expected sha256:<64 hex digits>, found {sha256!r}")
    found = VendorFile(
        name=table.text("name"),
        version=table.text("version"),
        licence=table.text("licence"),
        place=table.text("place"),
        path=table.text("path"),
        sha256=sha256,
        at_most=table.integer("at-most"),
        form=table.text("form", choices=FORMS),
        folders=table.texts("folders"),
        libraries=table.texts("libraries"),
        documents=table.texts("documents", required=False),
        into=table.text("into"),
    )
    for key, pattern, value in (
        ("name", _NAME, found.name),
        ("place", _NAME, found.place),
        *(("path", _FILE, part) for part in found.path.split("/")),
        *(("libraries", _FILE, library) for library in found.libraries),
    ):
        if not pattern.fullmatch(value):
            table.problem(key, f"{value!r} cannot be (part of) a name")
    if found.at_most < 1:
        table.problem("at-most", f"expected bytes, found {found.at_most}")
    if not found.into.startswith("/") or {"", ".", ".."} & {*found.into[1:].split("/")}:
        table.problem("into", f"expected an absolute path, found {found.into!r}")
    return found
