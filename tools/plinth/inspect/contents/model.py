"""Values: the files of a layer, the packages among them, and what no package accounts for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import Problem

FILE, DIRECTORY, SYMLINK, OTHER = "file", "directory", "symlink", "other"


@dataclass(frozen=True)
class Entry:
    """One entry of a layer: `path` is relative to /, `kind` one of the above, `mode` without the
    file type, `size` in bytes; `sha256` (hex) is of a file's content, `target` a link's."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    sha256: str = ""
    target: str = ""

    @property
    def attributes(self) -> str:
        """Kind, mode and owner: `file 0644 0:0`."""
        return f"{self.kind} {self.mode:04o} {self.uid}:{self.gid}"


@dataclass(frozen=True)
class FoundWheel:
    """An installed Python distribution, checked against its RECORD.

    `name` is normalized, `licences`, `requires` (Requires-Dist) and `python` (Requires-Python) are
    as METADATA declares them,
    `folder` is its .dist-info. `rows` counts the rows of RECORD whose hash was compared, `bytecode`
    those of bytecode, which have none. `digest` is `files_digest` of all its files, `listed` of
    those whose hash RECORD has. `own` says that the interpreter brought it. `absent` are paths that
    RECORD lists and whose file is not its own there: another distribution's is, in this layer or
    in one below.
    """

    name: str
    version: str
    licences: tuple[str, ...]
    requires: tuple[str, ...]
    folder: str
    files: int
    size: int
    rows: int
    bytecode: int
    digest: str
    listed: str
    own: bool
    absent: tuple[str, ...] = ()
    python: str = ""


@dataclass(frozen=True)
class FoundDeb:
    """An installed Debian package, checked against its MD5 sums.

    `licences` are the short names of its machine-readable copyright file. `sums` counts the files
    whose MD5 was compared, `documentation` those its lists name that images leave out; `absent`
    are all others that are not there. `digest` is `files_digest` of its files.
    """

    name: str
    version: str
    architecture: str
    licences: tuple[str, ...]
    files: int
    size: int
    sums: int
    documentation: int
    absent: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class FoundArchive:
    """What was taken from an archive of a vendor, checked against the record of it.

    `archive` is the SHA-256 (hex) of the archive itself, `licence` what the record calls its terms,
    `digest` is `files_digest` of the files and the record.
    """

    name: str
    version: str
    licence: str
    archive: str
    files: int
    size: int
    digest: str


@dataclass(frozen=True)
class FoundInterpreter:
    """A CPython: `version` as 3.7, `release` as its header says it (3.7.16, empty where there is
    none), `tree` as `plinth.formats.python.tree.tree_digest` has it; `files` and `size` without
    `bytecode` files; `digest` is `files_digest` of it all."""

    version: str
    release: str
    tree: str
    files: int
    size: int
    bytecode: int
    digest: str


@dataclass(frozen=True)
class FoundSystem:
    """An operating system, by its os-release: ID and VERSION_ID; `database` is `files_digest` of
    what is dpkg's own and of no single package (status, triggers)."""

    name: str
    version: str
    database: str


@dataclass(frozen=True)
class LayerContents:
    """All that one layer holds.

    `digest` is the blob's, `diff_id` the SHA-256 (hex) of its tar, `uncompressed` the tar's length
    in bytes, `files` and `size` (bytes) count regular files. `entries` has the path of everything
    there, by its `attributes`. `accounts` is the text (as Latin-1) of those of `ACCOUNTS` that are
    there. `unaccounted` are entries that no package names: generated files, empty folders.
    `compression` is `gzip`, `zstd` or empty, as the blob begins. `tar_form` and `blob_form` say how
    its headers and its compression are not as plinth writes them, empty where they are. `problems`
    are what is wrong, each under the path of the file concerned.
    """

    digest: Digest
    diff_id: str
    uncompressed: int
    files: int
    size: int
    entries: Mapping[str, tuple[str, ...]]
    wheels: tuple[FoundWheel, ...]
    debs: tuple[FoundDeb, ...]
    archives: tuple[FoundArchive, ...]
    interpreter: FoundInterpreter | None
    system: FoundSystem | None
    accounts: Mapping[str, str]
    unaccounted: tuple[Entry, ...]
    tar_form: str
    compression: str
    blob_form: str
    problems: tuple[Problem, ...]

    @property
    def packages(self) -> tuple[FoundWheel | FoundDeb | FoundArchive, ...]:
        """The wheels, Debian packages and archives of vendors."""
        return (*self.wheels, *self.debs, *self.archives)

    def to_json(self) -> bytes:
        """The facts as canonical JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, data: bytes) -> LayerContents:
        """What `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError, IntegrityError: it wrote something else.
        """
        document: dict[str, Any] = json.loads(data)
        interpreter, system = document.pop("interpreter"), document.pop("system")
        return cls(
            digest=Digest(**document.pop("digest")),
            entries=_tuples(document.pop("entries")),
            wheels=tuple(FoundWheel(**_tuples(one)) for one in document.pop("wheels")),
            debs=tuple(FoundDeb(**_tuples(one)) for one in document.pop("debs")),
            archives=tuple(FoundArchive(**one) for one in document.pop("archives")),
            interpreter=FoundInterpreter(**interpreter) if interpreter else None,
            system=FoundSystem(**system) if system else None,
            unaccounted=tuple(Entry(**one) for one in document.pop("unaccounted")),
            problems=tuple(Problem(**one) for one in document.pop("problems")),
            **document,
        )


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}


def files_digest(entries: Iterable[Entry]) -> str:
    """One SHA-256 (hex) for `entries`: over path, kind, mode, owner, size, content and target of
    each, by path; times do not enter."""
    rows: list[Json] = [
        [e.path, e.kind, e.mode, e.uid, e.gid, e.size, e.sha256, e.target]
        for e in sorted(entries, key=lambda entry: entry.path)
    ]
    return Digest.of(canonical_json(rows)).hex
