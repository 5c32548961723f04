"""Where a wheel's files go: the tree `pip install --no-deps` makes, computed, not executed.

PyPA specifications (binary distribution format, entry points, recording installed projects);
the oracle is pip 24.0 run as /opt/python/bin/python<version>.
"""

from __future__ import annotations

import configparser
import hashlib
import posixpath
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plinth.formats.python.place import PREFIX, site_packages
from plinth.formats.wheel import record
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.record import Row

_WRAPPER = """#!/{interpreter}
# -*- coding: utf-8 -*-
import re
import sys
from {module} import {import_name}
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit({function}())
"""
_ENTRY = re.compile(
    r"(?P<module>[\w.]+)\s*:\s*(?P<function>[\w.]+)\s*(\[\s*[\w\-.,\s]*\])?", re.ASCII
)
_COMPILED_NAME = re.compile(r"\.py$")


@dataclass(frozen=True)
class Placed:
    """A file of the wheel and where it goes, as it is."""

    info: zipfile.ZipInfo
    path: str
    mode: int


@dataclass(frozen=True)
class Made:
    """A file that installing makes or changes."""

    path: str
    data: bytes
    mode: int


@dataclass(frozen=True)
class Installation:
    """What an installed wheel is, without bytecode and RECORD: files placed and made, RECORD's
    path and its rows so far."""

    placed: tuple[Placed, ...]
    made: tuple[Made, ...]
    record_path: str
    rows: tuple[Row, ...]
    library: str

    def record(self, bytecode: list[str]) -> Made:
        """RECORD itself, listing the bytecode files at `bytecode` too."""
        rows = [*self.rows, *(Row(relative(path, self.library), "", "") for path in bytecode)]
        return Made(self.record_path, record.write(rows), 0o644)


def relative(path: str, library: str) -> str:
    """`path` as RECORD names it: relative to the folder of installed packages."""
    inside = path.removeprefix(library + "/")
    return inside if inside != path else posixpath.relpath(path, library)


def plan(wheel: WheelArchive, version: str) -> Installation:
    """Where the files of `wheel` go under Python `version` ("3.7").

    Raises:
        WheelError: a file or entry point has no valid place.
    """
    library = site_packages(version)
    schemes = {
        "purelib": library,
        "platlib": library,
        "scripts": f"{PREFIX}/bin",
        "data": PREFIX,
        "headers": f"{PREFIX}/include/python{version}{'m' if version == '3.7' else ''}/"
        + wheel.name,
    }
    info_dir = wheel.dist_info
    console, gui = _entry_points(wheel, info_dir)
    changed: dict[str, Made] = {}
    placed = []
    for info in wheel.files:
        name = info.filename
        if name == f"{info_dir}/RECORD":
            continue
        path, is_script = _destination(wheel, name, library, schemes)
        if is_script and _wrapped_name(path) in {**console, **gui}:
            continue
        mode = 0o755 if (info.external_attr >> 16) & 0o111 else 0o644
        if is_script and wheel.begins(info, b"#!python"):
            data = _with_interpreter(wheel.read(info), version)
            changed[name] = Made(path, data, mode)
        else:
            placed.append(Placed(info, path, mode))
    interpreter = f"{PREFIX}/bin/python{version}"
    made = [
        Made(f"{PREFIX}/bin/{name}", _wrapper(wheel, name, value, interpreter), 0o755)
        for name, value in [*_console_scripts(console, version), *gui.items()]
    ]
    made.append(Made(f"{library}/{info_dir}/INSTALLER", b"pip\n", 0o644))
    made.append(Made(f"{library}/{info_dir}/REQUESTED", b"", 0o644))
    _check_places(wheel, [*placed, *changed.values(), *made])
    there = {row.path: row for row in record.read(wheel)}
    rows = [_row(wheel, one, library, there.get(one.info.filename)) for one in placed]
    rows += [
        record.row_of(relative(new.path, library), new.data) for new in (*changed.values(), *made)
    ]
    rows.append(Row(f"{info_dir}/RECORD", "", ""))
    return Installation(
        tuple(placed),
        (*changed.values(), *made),
        f"{library}/{info_dir}/RECORD",
        tuple(rows),
        library,
    )


def _row(wheel: WheelArchive, file: Placed, library: str, row: Row | None) -> Row:
    """The row of a file that stays as it is, whose `row` in the wheel may be of another form:
    another hash than SHA-256, or nothing but the path."""
    path = relative(file.path, library)
    if row is not None and record.is_plain(row):
        return Row(path, row.hash, row.size)
    digest = hashlib.sha256()
    for _, plain in wheel.pieces(file.info):
        digest.update(plain)
    return Row(path, record.encode(digest.digest()), str(file.info.file_size))


def _check_places(wheel: WheelArchive, files: Sequence[Placed | Made]) -> None:
    """Refuse a wheel of which two files go to one place, or one to where another has a folder."""
    paths: set[str] = set()
    for file in files:
        if file.path in paths:
            raise wheel.wrong("two of its files go to one place", file.path)
        paths.add(file.path)
    for path in paths:
        folder = posixpath.dirname(path)
        while folder:
            if folder in paths:
                raise wheel.wrong("a file goes to where another file has its folder", folder)
            folder = posixpath.dirname(folder)


def bytecode_path(source: str, version: str) -> str:
    """Where the bytecode of `source` goes (PEP 3147)."""
    folder, name = posixpath.split(source)
    tag = f"cpython-{version.replace('.', '')}"
    return f"{folder}/__pycache__/{_COMPILED_NAME.sub(f'.{tag}.pyc', name)}"


def _destination(
    wheel: WheelArchive, name: str, library: str, schemes: Mapping[str, str]
) -> tuple[str, bool]:
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return f"{library}/{name}", False
    if first != wheel.dist_info.removesuffix(".dist-info") + ".data":
        raise wheel.wrong("the .data folder is another project's", name)
    key, _, inside = rest.partition("/")
    if key not in schemes or not inside:
        raise wheel.wrong("no such place to install to", name, expected=", ".join(sorted(schemes)))
    return f"{schemes[key]}/{inside}", key == "scripts"


def _wrapped_name(path: str) -> str:
    """The entry point a setuptools-generated script stands for."""
    name = posixpath.basename(path)
    for suffix in (".exe", "-script.py", ".pya"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _with_interpreter(data: bytes, version: str) -> bytes:
    _, _, rest = data.partition(b"\n")
    return f"#!/{PREFIX}/bin/python{version}\n".encode() + rest


def _entry_points(wheel: WheelArchive, info_dir: str) -> tuple[dict[str, str], dict[str, str]]:
    """Console and GUI scripts by name."""
    entry = f"{info_dir}/entry_points.txt"
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        if any(info.filename == entry for info in wheel.files):
            parser.read_string(wheel.read(wheel.find(entry)).decode())
    except (configparser.Error, UnicodeDecodeError) as error:
        raise wheel.wrong(f"unreadable: {error}", entry) from None
    found = []
    for group in ("console_scripts", "gui_scripts"):
        scripts = dict(parser.items(group)) if parser.has_section(group) else {}
        for name in scripts:
            if "/" in name or name in ("", ".", "..") or not name.isprintable():
                raise wheel.wrong("entry point whose name is not a file name", f"{entry}: {name!r}")
        found.append(scripts)
    return found[0], found[1]


def _console_scripts(console: Mapping[str, str], version: str) -> list[tuple[str, str]]:
    """The scripts pip makes: its own are named after the version they run on."""
    rest = dict(console)
    scripts = []
    pip = rest.pop("pip", None)
    if pip:
        scripts += [(name, pip) for name in ("pip", f"pip{version[0]}", f"pip{version}")]
        rest = {k: v for k, v in rest.items() if not re.fullmatch(r"pip(\d+(\.\d+)?)?", k)}
    easy = rest.pop("easy_install", None)
    if easy:
        scripts += [("easy_install", easy), (f"easy_install-{version}", easy)]
        rest = {k: v for k, v in rest.items() if not re.fullmatch(r"easy_install(-\d+\.\d+)?", k)}
    return scripts + list(rest.items())


def _wrapper(wheel: WheelArchive, name: str, value: str, interpreter: str) -> bytes:
    match = _ENTRY.fullmatch(value.strip())
    if not match:
        raise wheel.wrong(
            "not an entry point for a script", f"{name} = {value}", expected="module:function"
        )
    return _WRAPPER.format(
        interpreter=interpreter,
        module=match["module"],
        import_name=match["function"].split(".")[0],
        function=match["function"],
    ).encode()
