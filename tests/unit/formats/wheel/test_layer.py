"""Wheel → layer: literal digests, pip's tree, scripts, stored entries, bytecode in any order."""

from __future__ import annotations

import hashlib
import posixpath
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from plinth.core.errors import InterpreterError, WheelError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.interpreter import find_python
from plinth.formats.layer.model import Layer
from plinth.formats.python.bytecode import Compiler
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.record import Row, encode, parse, row_of, write
from plinth.formats.wheel.splice import splice
from support import needs
from support.helpers import make_wheel, wheel_files, zipped

SITE = "opt/python/lib/python3.7/site-packages"


def spliced(tmp_path: Path, path: Path, compiler: Compiler | None = None) -> tuple[Layer, Path]:
    layers = BlobStore(tmp_path / "layers")
    layer = splice(layers, path, path.name, "3.7", compiler)
    return layer, layers.path(layer.digest)


def contents(path: Path) -> dict[str, tuple[int, bytes | None]]:
    found: dict[str, tuple[int, bytes | None]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            found[member.name] = (member.mode, stream.read() if stream else None)
    return found


def stored_wheel(tmp_path: Path) -> Path:
    """A wheel whose bytes are the same with every zlib: nothing in it is compressed."""
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in wheel_files({"demo/__init__.py": b"x = 1\n"}).items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def test_the_bytes_of_a_layer_are_fixed(tmp_path: Path) -> None:
    layer, _ = spliced(tmp_path, stored_wheel(tmp_path))
    assert layer.diff_id == "0190cf4a26ce1ac50d55291f911de6e370cbe05cf48d5f37fa98182433cb784b"
    assert layer.digest.hex == "51b4618ca20ed5322e6af0bec38a59548255cdabfe3280fd93fde7bec6ebb43d"


def test_the_tree(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"def main(): pass\n",
        "demo/tool": b"#!/bin/sh\n",
        "demo-1.0.data/scripts/hello": b"#!python\nprint('hello')\n",
        "demo-1.0.data/scripts/plain.sh": b"#!/bin/sh\n",
        "demo-1.0.data/scripts/demo-script.py": b"#!python\n",
        "demo-1.0.data/data/share/demo.txt": b"shared",
        "demo-1.0.data/headers/demo.h": b"int x;",
        "demo-1.0.data/purelib/demo_extra.py": b"y = 2\n",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n"
        b"[gui_scripts]\ndemo-gui = demo:app.run [gui]\n",
    }
    modes = {"demo/tool": 0o100755, "demo-1.0.data/scripts/hello": 0o100755}
    _, path = spliced(tmp_path, make_wheel(tmp_path, files, modes=modes))
    found = contents(path)
    assert found["opt"] == found["opt/python"] == (0o755, None)
    assert found[f"{SITE}/demo/tool"] == (0o755, b"#!/bin/sh\n")
    assert found[f"{SITE}/demo/__init__.py"] == (0o644, b"def main(): pass\n")
    assert found["opt/python/bin/hello"] == (
        0o755,
        b"#!/opt/python/bin/python3.7\nprint('hello')\n",
    )
    assert found["opt/python/bin/plain.sh"] == (0o644, b"#!/bin/sh\n")
    assert "opt/python/bin/demo-script.py" not in found
    assert found["opt/python/share/demo.txt"] == (0o644, b"shared")
    assert found["opt/python/include/python3.7m/demo/demo.h"] == (0o644, b"int x;")
    assert found[f"{SITE}/demo_extra.py"] == (0o644, b"y = 2\n")
    mode, script = found["opt/python/bin/demo"]
    assert mode == 0o755
    assert script is not None
    assert script.startswith(b"#!/opt/python/bin/python3.7\n")
    assert b"from demo import main\n" in script
    gui = found["opt/python/bin/demo-gui"][1]
    assert gui is not None
    assert b"from demo import app\n" in gui
    assert b"sys.exit(app.run())" in gui
    assert found[f"{SITE}/demo-1.0.dist-info/INSTALLER"] == (0o644, b"pip\n")
    record = found[f"{SITE}/demo-1.0.dist-info/RECORD"][1]
    assert record is not None
    assert b"../../../bin/hello,sha256=" in record
    assert b"demo-1.0.dist-info/REQUESTED,sha256=47DEQpj8HBSa-" in record


def test_the_record_of_a_layer_lists_what_is_there_by_sha256(tmp_path: Path) -> None:
    files = {
        "demo/a.bin": b"a",
        "demo/b.bin": b"b",
        "demo-1.0.data/scripts/demo": b"#!/bin/sh\n",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n",
    }
    whole = wheel_files(files)
    record = "demo-1.0.dist-info/RECORD"
    rows = parse(whole[record])[0]
    other = encode(hashlib.sha512(b"a").digest(), "sha512")
    whole[record] = write(
        [row._replace(hash=other, size="") if row.path == "demo/a.bin" else row for row in rows]
        + [row for row in rows if row.path == "demo/b.bin"]
        + [Row("demo/", "", "")]
    )
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    wheel.write_bytes(zipped(whole))
    admit(wheel, wheel.name, "demo", "1.0")
    found = contents(spliced(tmp_path, wheel)[1])
    listed = parse(found[f"{SITE}/{record}"][1] or b"")[0]
    assert row_of("demo/a.bin", b"a") in listed
    # The script gives way to the entry point of its name, as with pip.
    paths = [posixpath.normpath(f"{SITE}/{row.path}") for row in listed]
    assert sorted(paths) == sorted(path for path, (_, data) in found.items() if data is not None)


@pytest.mark.parametrize(
    ("path", "data", "message"),
    [
        ("demo-1.0.dist-info/entry_points.txt", b"[console_scripts]\n../x = demo:m\n", "file name"),
        ("demo-1.0.dist-info/entry_points.txt", b"[console_scripts]\nx = demo\n", "entry point"),
        ("demo-1.0.dist-info/entry_points.txt", b"[console_scripts]\nx = os:a;b\n", "entry point"),
        ("demo-1.0.dist-info/entry_points.txt", b"nonsense", "unreadable"),
        ("demo-1.0.data/nowhere/x", b"", "no such place"),
        ("evil-1.0.data/scripts/x", b"", "another project's"),
        ("demo-1.0.data/purelib/demo/__init__.py", b"", "two of its files go to one place"),
        ("demo/__init__.py/x", b"", "where another file has its folder"),
    ],
)
def test_files_without_a_valid_place(tmp_path: Path, path: str, data: bytes, message: str) -> None:
    wheel = make_wheel(tmp_path, {"demo/__init__.py": b"", path: data})
    with pytest.raises(WheelError, match=message):
        spliced(tmp_path, wheel)
    assert list((tmp_path / "layers" / "blobs" / "sha256").iterdir()) == []


def test_damage_between_admission_and_layer_is_found(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/data.bin": bytes(range(256)) * 200})
    data = bytearray(path.read_bytes())
    at = data.index(b"demo/data.bin") + len("demo/data.bin") + 100
    data[at] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(WheelError, match=r"data\.bin"):
        spliced(tmp_path, path)


@pytest.fixture(scope="module")
def python37() -> Path:
    try:
        return find_python("3.7", Config())
    except InterpreterError:
        needs.skip(needs.python("3.7"))


SOURCES = {
    "plain": b"import os, sys\nNAMES = {'a', 'b', None, 3.5, ('x', 'y')}\nx = 'os' + 'sys'\n",
    "latin": b"# -*- coding: iso-8859-15 -*-\ntext = '\xa4'\n",
    "koi8": b"# coding: koi8-r\ntext = '\xc1'\nname = 'codecs'\n",
    "escape": b"pattern = '\\d+'\nassert (1, 'always')\n",
    "broken": b"print 'python 2'\n",
    "null": b"x = 1\0",
    "sets": b"def f(x):\n    return x in {'alpha', 'beta', 'gamma', 'delta', Ellipsis}\n" * 3,
    "names": b"warnings = linecache = tokenize = codecs = 'warnings'\nclass koi8_r: pass\n",
}


def test_bytecode_depends_on_nothing_but_the_source(python37: Path) -> None:
    files = [(f"/opt/{name}.py", source) for name, source in SOURCES.items()] * 8
    files += [
        (f"/stdlib/{path.name}", path.read_bytes())
        for path in sorted((python37.parents[1] / "lib" / "python3.7").glob("*.py"))[:60]
    ]
    with Compiler(lambda: python37, 1) as compiler:
        first = dict(zip(files, compiler.compile(files), strict=True))
    # Constants of sets are ordered by hash: an interpreter that drew its own seed would differ.
    for seed in range(4):
        shuffled = files.copy()
        random.Random(seed).shuffle(shuffled)  # noqa: S311
        with Compiler(lambda: python37, seed + 1) as compiler:
            assert dict(zip(shuffled, compiler.compile(shuffled), strict=True)) == first
    assert first["/opt/broken.py", SOURCES["broken"]] is None
    assert first["/opt/null.py", SOURCES["null"]] is None
    plain = first["/opt/plain.py", SOURCES["plain"]]
    assert plain is not None
    # PEP 552: the flags say hash-based, unchecked.
    assert plain[4:8] == b"\x01\0\0\0"


def test_tests_get_no_bytecode_and_record_lists_the_rest(tmp_path: Path, python37: Path) -> None:
    files = {"demo/__init__.py": b"x = 1\n", "demo/tests/test_x.py": b"y = 2\n"}
    with Compiler(lambda: python37, 1) as compiler:
        _, path = spliced(tmp_path, make_wheel(tmp_path, files), compiler)
    found = contents(path)
    assert f"{SITE}/demo/__pycache__/__init__.cpython-37.pyc" in found
    assert not any("tests/__pycache__" in name for name in found)
    record = found[f"{SITE}/demo-1.0.dist-info/RECORD"][1]
    assert record is not None
    assert b"demo/__pycache__/__init__.cpython-37.pyc,,\r\n" in record


def test_an_interpreter_that_cannot_run(tmp_path: Path) -> None:
    with (
        Compiler(lambda: tmp_path / "bin" / "python3.7", 1) as compiler,
        pytest.raises(InterpreterError, match="cannot run"),
    ):
        compiler.compile([("/x.py", b"")])
