"""dpkg's database for packages that were unpacked and never configured, so that apt works on top.

dpkg(1), "FILES"; dpkg-query(1); deb-control(5); deb-triggers(5). Every package is recorded as
installed: what its scripts would have done is done by `plinth.formats.debian.rootfs`, or not
needed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from plinth.formats.debian.control import parse
from plinth.formats.debian.deb import Deb, File
from plinth.formats.layer.header import ROOT

_SCRIPTS = ("config", "postinst", "postrm", "preinst", "prerm")
_INTEREST = re.compile(r"interest(-noawait|-await)?\s+(\S+)")
_FOLDER = "var/lib/dpkg"


def database(debs: Mapping[str, Deb], omit: Collection[str]) -> Iterator[File]:
    """The files of /var/lib/dpkg for `debs` (by package name).

    `omit` names packages that are left out on purpose: apt would refuse to do anything while a
    dependency is not met, so relations to them are not recorded. Nor are the triggers of a package
    that depends on one: its script may call what is not there, and would fail whatever is installed
    later that pulls the trigger.
    """
    stanzas = []
    interests: dict[str, list[str]] = {}
    for package, deb in sorted(debs.items()):
        lines = deb.control.rstrip("\n").split("\n")
        stanzas.append(_stanza(deb, lines, omit))
        yield from _info(package, deb)
        if any(_without(line, omit) != _without(line, ()) for line in lines):
            continue
        for match in map(_INTEREST.fullmatch, deb.control_files.get("triggers", "").splitlines()):
            if match:
                suffix = "/noawait" if match[1] == "-noawait" else ""
                interests.setdefault(match[2], []).append(package + suffix)
    yield _text("status", "\n".join(stanzas))
    yield _text("available", "")
    yield _text("info/format", "1\n")
    yield File(f"{_FOLDER}/updates", "directory", 0o755, ROOT)
    yield from _triggers(interests)


def overrides(files: Iterable[File]) -> File:
    """The file that keeps owners and modes of `files` when dpkg unpacks them again.

    dpkg-statoverride(1); its format is that of dpkg's own writer, with paths as packages have them.
    """
    lines = [f"#{file.owner.uid} #{file.owner.gid} {file.mode:o} /{file.path}\n" for file in files]
    return _text("statoverride", "".join(sorted(lines)))


def _text(path: str, content: str, mode: int = 0o644) -> File:
    return File(f"{_FOLDER}/{path}", "file", mode, ROOT, content.encode())


def _stanza(deb: Deb, lines: list[str], omit: Collection[str]) -> str:
    """A package's paragraph of the status file."""
    found = [lines[0], "Status: install ok installed"]
    found += [_without(line, omit) for line in lines[1:]]
    held = {file.path: file.data for file in deb.files if file.kind == "file"}
    configuration = [
        # dpkg compares configuration files by MD5; nothing here trusts it.
        f" {path} {hashlib.md5(held[path[1:]], usedforsecurity=False).hexdigest()}"
        for path in deb.control_files.get("conffiles", "").splitlines()
        if path.startswith("/") and path[1:] in held
    ]
    if configuration:
        found += ["Conffiles:", *configuration]
    return "\n".join(found) + "\n"


def _without(line: str, omit: Collection[str]) -> str:
    """A line of a control file, a relation without the packages left out."""
    field, _, value = line.partition(": ")
    if field not in ("Depends", "Pre-Depends"):
        return line
    # As `plinth.fetch.apt.resolve` has it: one alternative left out, and nothing is pulled in.
    groups = [
        group
        for group in map(str.strip, value.split(","))
        if not any(re.split(r"[ :(]", one.strip())[0] in omit for one in group.split("|"))
    ]
    return f"{field}: {', '.join(groups)}"


def _info(package: str, deb: Deb) -> Iterator[File]:
    """The files of a package under info/: its list of files, and all it came with but control."""
    fields = parse(deb.control, f"{package}: control")
    same = fields.get("Multi-Arch") == "same"
    stem = f"info/{package}:{fields['Architecture']}" if same else f"info/{package}"
    paths = ["/.", *(f"/{file.path}" for file in deb.files)]
    yield _text(f"{stem}.list", "\n".join(paths) + "\n")
    for name, content in sorted(deb.control_files.items()):
        if name != "control":
            yield _text(f"{stem}.{name}", content, 0o755 if name in _SCRIPTS else 0o644)


def _triggers(interests: Mapping[str, list[str]]) -> Iterator[File]:
    # Without this file the first run of apt would fire every trigger there is.
    yield _text("triggers/Unincorp", "")
    files = []
    for name, packages in sorted(interests.items()):
        if name.startswith("/"):
            files += [f"{name} {package}\n" for package in packages]
        else:
            yield _text(f"triggers/{name}", "".join(f"{package}\n" for package in packages))
    yield _text("triggers/File", "".join(files))
