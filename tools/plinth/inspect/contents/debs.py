"""The Debian packages of a layer, files compared with dpkg's own lists.

dpkg(1), "FILES"; deb-control(5); deb-md5sums(5); copyright-format 1.0 (DEP-5). Packages come as a
whole database (a base's own), or one record each under status.d (those put on top of a base).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from plinth.core.errors import PackageError
from plinth.formats.debian.control import Paragraph, paragraphs, parse
from plinth.formats.debian.merge import MERGED
from plinth.inspect.contents.files import Files
from plinth.inspect.contents.model import DIRECTORY, FILE, Entry, FoundDeb, files_digest

DATABASE = "var/lib/dpkg"
_CONTROL_FILES = (
    "conffiles|config|list|md5sums|postinst|postrm|preinst|prerm|shlibs|symbols|templates|triggers"
)
_OF_PACKAGE = re.compile(rf"{DATABASE}/info/([^/:]+)(?::[a-z0-9-]+)?\.(?:{_CONTROL_FILES})")
_SINGLE = re.compile(rf"{DATABASE}/status\.d/([^/]+?)(?:\.md5sums)?")
_OF_ALL = re.compile(rf"{DATABASE}/(status|available|info/format|triggers/[^/]+)")
_ROW = re.compile(r"([0-9a-f]{32})  (\S.*)")
# What images leave out; `plinth.formats.debian.merge` and the makers of ubuntu's image agree on it.
_LEFT_OUT = re.compile(
    r"usr/share/(bash-completion|bug|info|lintian|locale|man|menu)(/.*)?"
    r"|usr/share/doc/(?!.*/copyright$).*"
)


@dataclass
class _Package:
    """What the database says of one package."""

    fields: Paragraph
    listed: tuple[str, ...]
    sums: Mapping[str, str]
    records: tuple[str, ...]


def find_debs(files: Files, accounted: set[str]) -> tuple[FoundDeb, ...]:
    """The packages in `files`, by name; their files are added to `accounted`, what is wrong to
    the problems of `files`."""
    packages: dict[str, _Package] = {}
    for package in _packages(files):
        name = package.fields["Package"]
        if name in packages:
            files.wrong(f"{DATABASE}/status", f"the package {name} is there twice")
        packages[name] = package
    found = [_compare(files, name, packages[name], accounted) for name in sorted(packages)]
    for path, entry in files.entries.items():
        if path not in accounted and entry.kind == FILE and _is_record(path):
            match = _OF_PACKAGE.fullmatch(path) or _SINGLE.fullmatch(path)
            files.wrong(path, f"dpkg's record of {match[1] if match else 'a package'}, unknown")
    return tuple(found)


def database(files: Files) -> list[Entry]:
    """The files of dpkg's own that belong to no single package."""
    return [entry for path, entry in files.entries.items() if _OF_ALL.fullmatch(path)]


def _is_record(path: str) -> bool:
    return bool(_OF_PACKAGE.fullmatch(path) or _SINGLE.fullmatch(path))


def _packages(files: Files) -> Iterator[_Package]:
    records: dict[str, list[str]] = {}
    for path in files.entries:
        match = _OF_PACKAGE.fullmatch(path)
        if match:
            records.setdefault(match[1], []).append(path)
    path = f"{DATABASE}/status"
    for stanza in paragraphs(_text(files, path)):
        fields = _fields(files, path, stanza)
        if fields is None or not fields.get("Status").endswith(" installed"):
            continue
        if not fields.has("Package", "Version", "Architecture"):
            files.wrong(path, f"a package without name, version or architecture: {stanza[:60]!r}")
            continue
        name = fields["Package"]
        own = tuple(sorted(records.get(name, [])))
        listed: list[str] = []
        sums: dict[str, str] = {}
        for record in own:
            if record.endswith(".list"):
                listed += [line[1:] for line in _text(files, record).split("\n") if line[1:]]
            elif record.endswith(".md5sums"):
                sums |= _sums(files, record)
        if not listed:
            files.wrong(path, f"{name} has no list of files")
        # Configuration that nobody changed has the MD5 that the package came with.
        yield _Package(fields, tuple(listed), _conffiles(fields) | sums, own)
    for path in files.entries:
        match = _SINGLE.fullmatch(path)
        if match is None or path.endswith(".md5sums"):
            continue
        fields = _fields(files, path, _text(files, path))
        if fields is None:
            continue
        if not fields.has("Package", "Version", "Architecture"):
            files.wrong(path, "a package without name, version or architecture")
            continue
        extra = f"{path}.md5sums"
        has_sums = extra in files.kept
        sums = _sums(files, extra) if has_sums else {}
        yield _Package(fields, (), sums, (path, extra) if has_sums else (path,))


def _text(files: Files, path: str) -> str:
    return files.kept.get(path, b"").decode("utf-8", "replace")


def _fields(files: Files, path: str, stanza: str) -> Paragraph | None:
    """The fields of a control paragraph of the file at `path`; None where it is malformed."""
    try:
        return parse(stanza)
    except PackageError as error:
        files.wrong(path, f"{error.what}; in the paragraph {stanza[:60]!r}")
        return None


def _conffiles(fields: Paragraph) -> dict[str, str]:
    rows = [line.split() for line in fields.get("Conffiles").splitlines() if line.strip()]
    return {row[0].lstrip("/"): row[1] for row in rows if len(row) == 2}


def _sums(files: Files, record: str) -> dict[str, str]:
    found: dict[str, str] = {}
    # Not splitlines(): names may hold what Unicode takes for the end of a line.
    for line in filter(None, _text(files, record).split("\n")):
        match = _ROW.fullmatch(line)
        if match is None:
            files.wrong(record, f"not a line of MD5 sums: {line[:80]!r}")
            continue
        path = posixpath.normpath(match[2]).lstrip("/")
        if found.setdefault(path, match[1]) != match[1]:
            files.wrong(record, f"two lines differ about {path}")
    return found


def _compare(files: Files, name: str, package: _Package, accounted: set[str]) -> FoundDeb:
    held: dict[str, Entry] = {path: files.entries[path] for path in package.records}
    absent = []
    documentation = compared = 0
    for path in sorted({*package.listed, *package.sums}):
        place = _place(files, path)
        entry = files.entries.get(place)
        if entry is None:
            if _LEFT_OUT.fullmatch(path):
                documentation += 1
            elif path != ".":
                absent.append(path)
            continue
        if path in package.sums:
            compared += 1
            actual = files.md5.get(place, f"is a {entry.kind}")
            if actual != package.sums[path]:
                message = f"dpkg's list of {name} says MD5 {package.sums[path]}, it has {actual}"
                files.wrong(place, message)
        if entry.kind != DIRECTORY:
            held[place] = entry
        accounted.add(place)
    accounted.update(held)
    return FoundDeb(
        name,
        package.fields["Version"],
        package.fields["Architecture"],
        _licences(files, name),
        len(held),
        sum(entry.size for entry in held.values()),
        compared,
        documentation,
        tuple(absent),
        files_digest(held.values()),
    )


def _place(files: Files, path: str) -> str:
    """Where a package's `path` is in a tree whose /usr may be merged."""
    merged = path.partition("/")[0] in MERGED and f"usr/{path}"
    return merged if merged and path not in files.entries else path


def _licences(files: Files, name: str) -> tuple[str, ...]:
    """The short names of a machine-readable copyright file; none where it is free text."""
    folder = files.entries.get(f"usr/share/doc/{name}")
    shared = folder.target if folder is not None and folder.target else name
    text = _text(files, posixpath.normpath(f"usr/share/doc/{shared}/copyright"))
    # The paragraph that says so comes first; anything else is prose.
    if "copyright-format" not in text.partition("\n\n")[0]:
        return ()
    found = re.findall(r"^License:[ \t]*(\S[^\n]{0,99})$", text, re.MULTILINE)
    return tuple(sorted({one.strip() for one in found}))
