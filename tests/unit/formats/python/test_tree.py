"""An installed CPython as it goes into images: what is taken, and how its prefix is rewritten."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.core.errors import InterpreterError
from plinth.formats.python.tree import (
    TreeFile,
    _rewritten,
    is_wanted,
    read_tree,
    tree_digest,
    write_tree,
)
from support import needs
from support.elves import program, shared

LIB = "lib/python3.7"


def prefix(tmp_path: Path) -> Path:
    """A prefix of 40 characters or more, whatever the temporary folder is called."""
    folder = tmp_path / ("prefix-" + "x" * 40)
    put(folder, "bin/python3.7", b"\x7fELF\0", 0o755)
    return folder


def put(folder: Path, path: str, data: bytes = b"", mode: int = 0o644) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    (folder / path).chmod(mode)


def read(folder: Path) -> dict[str, TreeFile]:
    files = read_tree(folder / "bin" / "python3.7", "3.7")
    assert [file.path for file in files] == sorted(file.path for file in files)
    return {file.path: file for file in files}


def short() -> Path:
    """A path that is shorter than the prefix in images, and nothing yet."""
    for number in range(1000):
        path = Path(f"/tmp/p{number}")  # noqa: S108
        if not os.path.lexists(path):
            return path
    raise AssertionError


def test_a_tree_holds_the_interpreter_its_library_and_its_headers(tmp_path: Path) -> None:
    folder = prefix(tmp_path)
    put(folder, f"{LIB}/os.py", b"import sys\n")
    put(folder, f"{LIB}/lib-dynload/math.so", b"\x7fELF\0", 0o755)
    put(folder, "include/python3.7m/Python.h", b"")
    put(folder, "lib/libpython3.7m.so.1.0", b"\x7fELF\0", 0o555)
    (folder / "lib/libpython3.7m.so").symlink_to("libpython3.7m.so.1.0")
    assert read(folder) == {
        "bin/python": TreeFile("bin/python", 0o777, b"", "python3.7"),
        "bin/python3": TreeFile("bin/python3", 0o777, b"", "python3.7"),
        "bin/python3.7": TreeFile("bin/python3.7", 0o755, b"\x7fELF\0"),
        "include/python3.7m/Python.h": TreeFile("include/python3.7m/Python.h", 0o644, b""),
        "lib/libpython3.7m.so": TreeFile(
            "lib/libpython3.7m.so", 0o777, b"", "libpython3.7m.so.1.0"
        ),
        "lib/libpython3.7m.so.1.0": TreeFile("lib/libpython3.7m.so.1.0", 0o755, b"\x7fELF\0"),
        f"{LIB}/lib-dynload/math.so": TreeFile(f"{LIB}/lib-dynload/math.so", 0o755, b"\x7fELF\0"),
        f"{LIB}/os.py": TreeFile(f"{LIB}/os.py", 0o644, b"import sys\n"),
    }


@pytest.mark.parametrize(
    "path",
    [
        f"{LIB}/site-packages/secret/__init__.py",
        f"{LIB}/test/test_os.py",
        f"{LIB}/unittest/test/test_case.py",
        f"{LIB}/lib2to3/tests/data/bom.py",
        f"{LIB}/tkinter/__init__.py",
        f"{LIB}/idlelib/idle.py",
        f"{LIB}/turtledemo/clock.py",
        f"{LIB}/turtle.py",
        f"{LIB}/ensurepip/_bundled/pip.whl",
        f"{LIB}/__pycache__/os.cpython-37.pyc",
        f"{LIB}/old.pyc",
        f"{LIB}/config-3.7m-x86_64-linux-gnu/Makefile",
        f"{LIB}/lib-dynload/_testcapi.cpython-37m-x86_64-linux-gnu.so",
        f"{LIB}/lib-dynload/_tkinter.cpython-37m-x86_64-linux-gnu.so",
        f"{LIB}/lib-dynload/_ctypes_test.cpython-37m-x86_64-linux-gnu.so",
        f"{LIB}/lib-dynload/xxlimited.cpython-37m-x86_64-linux-gnu.so",
        "lib/libpython3.7m.a",
        "lib/libpython3.8.so",
        "lib/pkgconfig/python-3.7.pc",
        "lib/python3.8/os.py",
        "bin/pip",
        "bin/python3.7-config",
        "share/man/man1/python3.1",
        "pyvenv.cfg",
    ],
)
def test_what_no_image_needs_is_left_out(tmp_path: Path, path: str) -> None:
    folder = prefix(tmp_path)
    put(folder, path, b"x")
    assert not is_wanted(path, "3.7")
    assert list(read(folder)) == ["bin/python", "bin/python3", "bin/python3.7"]


@pytest.mark.parametrize(
    "path",
    [
        f"{LIB}/unittest/case.py",
        f"{LIB}/doctest.py",
        f"{LIB}/lib-dynload/_bisect.cpython-37m-x86_64-linux-gnu.so",
        f"{LIB}/_sysconfigdata_m_linux_x86_64-linux-gnu.py",
        f"{LIB}/LICENSE.txt",
    ],
)
def test_the_rest_of_the_library_stays(tmp_path: Path, path: str) -> None:
    folder = prefix(tmp_path)
    put(folder, path, b"x")
    assert is_wanted(path, "3.7")
    assert path in read(folder)


def test_the_prefix_is_rewritten_in_text(tmp_path: Path) -> None:
    folder = prefix(tmp_path)
    put(folder, f"{LIB}/config.py", f"A = '{folder}/lib'\nB = '{folder}'\n".encode())
    assert read(folder)[f"{LIB}/config.py"].data == b"A = '/opt/python/lib'\nB = '/opt/python'\n"


def test_the_prefix_is_rewritten_in_place_in_binaries(tmp_path: Path) -> None:
    folder = prefix(tmp_path)
    old = str(folder).encode()
    binary = b"\x7fELF\0" + old + b"/lib\0next\0" + b"-Wl," + old + b"\0end"
    put(folder, f"{LIB}/x.so", binary)
    data = read(folder)[f"{LIB}/x.so"].data
    assert len(data) == len(binary)
    assert data.startswith(b"\x7fELF\0/opt/python/lib\0")
    # The machine's path is nowhere left as a string that begins where one began.
    assert data.endswith(old[12:] + b"\0end")
    assert b"\0-Wl,/opt/python\0" in data


def test_strings_that_share_their_tail_with_another_are_untouched() -> None:
    # Linkers let "3.7.16" be the end of ".../versions/3.7.16".
    old, new = b"/home/me/.pyenv/versions/3.7.16", b"/opt/python"
    data = _rewritten(b"\0" + old + b"\0", old, new)
    assert data == b"\0/opt/python\0" + old[12:] + b"\0"
    assert data.endswith(b"3.7.16\0")


def test_a_string_with_a_rest_too_long_to_rewrite_is_left_alone() -> None:
    old, new = b"/home/me/.pyenv/versions/3.7.16", b"/opt/python"
    rest = b"/" + b"r" * (len(old) - len(new) - 2)
    fits, long = b"\0" + old + rest + b"\0", b"\0" + old + rest + b"r\0"
    assert _rewritten(fits, old, new) == b"\0" + new + rest + b"\0" + fits[1 + len(old) :]
    assert _rewritten(long, old, new) == long


OLD = b"/prefix/of/the/machine"


@settings(deadline=None)
@given(st.lists(st.sampled_from([OLD, b"/lib", b"\0", b"x", b"/opt/python", OLD[8:]]), max_size=12))
def test_rewriting_keeps_every_offset_and_all_that_is_no_such_string(parts: list[bytes]) -> None:
    before = b"".join(parts) + b"\0"
    after = _rewritten(before, OLD, b"/opt/python")
    assert len(after) == len(before)
    start = 0
    for string in before.split(b"\0"):
        end = start + len(string)
        if OLD not in string:
            assert after[start : end + 1] == before[start : end + 1]
        else:
            # C reads up to the first NUL, from where the string begins.
            read = after[start : after.index(b"\0", start)]
            assert read in (string, string.replace(OLD, b"/opt/python"))
        start = end + 1


def test_a_binary_of_a_short_prefix_stays_as_it_is_and_text_is_rewritten(tmp_path: Path) -> None:
    folder = short()
    folder.symlink_to(prefix(tmp_path))
    try:
        binary = b"\x7fELF\0" + os.fsencode(folder) + b"/lib\0"
        put(folder, f"{LIB}/x.so", binary)
        put(folder, f"{LIB}/config.py", f"A = '{folder}'\n".encode())
        found = read(folder)
    finally:
        folder.unlink()
    assert found[f"{LIB}/x.so"].data == binary
    assert found[f"{LIB}/config.py"].data == b"A = '/opt/python'\n"


def test_libraries_of_the_prefix_that_are_needed_come_along_as_condas_do(tmp_path: Path) -> None:
    folder = prefix(tmp_path)
    inner = shared("libinner.so.1")
    outer = shared("libouter.so.2", needed=["libinner.so.1", "libc.so.6"], runpath="$ORIGIN")
    put(folder, "lib/libinner.so.1", inner)
    put(folder, "lib/libouter.so.2.5", outer)
    (folder / "lib/libouter.so.2").symlink_to("libouter.so.2.5")
    put(folder, "lib/libunused.so.1", shared("libunused.so.1"))
    put(
        folder,
        f"{LIB}/lib-dynload/_ssl.so",
        shared(needed=["libouter.so.2"], runpath="$ORIGIN/../.."),
    )
    found = read(folder)
    assert [path for path in found if path.startswith("lib/lib")] == [
        "lib/libinner.so.1",
        "lib/libouter.so.2",
    ]
    assert found["lib/libouter.so.2"] == TreeFile("lib/libouter.so.2", 0o755, outer)


@pytest.mark.parametrize("runpath", ["", "{prefix}/lib"])
def test_an_interpreter_that_finds_its_library_on_its_own_machine_alone_is_refused(
    tmp_path: Path, runpath: str
) -> None:
    # Too short to rewrite, as /usr/local is.
    folder = short()
    folder.symlink_to(prefix(tmp_path))
    try:
        put(folder, "lib/libpython3.7m.so.1.0", shared("libpython3.7m.so.1.0"))
        needed = program(["libpython3.7m.so.1.0"], runpath=runpath.format(prefix=folder))
        put(folder, "bin/python3.7", needed, 0o755)
        with pytest.raises(InterpreterError, match="would not find its own libraries") as raised:
            read(folder)
        put(folder, "bin/python3.7", program(["libpython3.7m.so.1.0"], runpath="$ORIGIN/../lib"))
        read(folder)
    finally:
        folder.unlink()
    assert raised.value.where == f"{folder}/bin/python3.7"
    assert raised.value.found == (runpath.format(prefix=folder) or "none")


def test_a_link_that_leads_out_of_the_interpreter_is_left_out(tmp_path: Path) -> None:
    folder = prefix(tmp_path)
    put(folder, f"{LIB}/real.py")
    for name, target in (("own", "real.py"), ("etc", "/etc/passwd"), ("up", "../../../secret")):
        (folder / LIB / f"{name}.py").symlink_to(target)
    assert [path for path in read(folder) if path.startswith(LIB)] == [
        f"{LIB}/own.py",
        f"{LIB}/real.py",
    ]


def distribution() -> Path:
    found = sorted(Path("/usr/bin").glob("python3.[0-9]*[0-9]"))
    if not found:
        needs.skip("a Python of the distribution")
    return found[-1]


def test_a_distributions_own_interpreter_runs_elsewhere_and_finds_packages(tmp_path: Path) -> None:
    python = distribution()
    version = python.name.removeprefix("python")
    files = read_tree(python, version)
    # Its prefix is that of the whole system, none of which comes along, and stays in no text.
    allowed = (f"lib/python{version}/", f"include/python{version}", "bin/python")
    assert all(file.path.startswith((*allowed, f"lib/libpython{version}")) for file in files)
    write_tree(files, tmp_path)
    package = tmp_path / "lib" / f"python{version}" / "site-packages" / "demo.py"
    package.parent.mkdir(exist_ok=True)
    package.write_text("x = 1\n")
    done = subprocess.run(
        [
            str(tmp_path / "bin" / f"python{version}"),
            "-c",
            "import demo, json, ssl, sqlite3, sys; print(sys.prefix)",
        ],
        env={},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{tmp_path}\n"


def test_modes_are_those_of_images_whatever_the_machines(tmp_path: Path) -> None:
    folder = prefix(tmp_path)
    for mode in (0o600, 0o700, 0o664, 0o775, 0o4755):
        put(folder, f"{LIB}/{mode:o}.py", b"", mode)
    modes = [file.mode for path, file in read(folder).items() if path.endswith(".py")]
    assert modes == [0o755, 0o644, 0o644, 0o755, 0o755]


def test_the_identity_is_of_paths_modes_and_contents() -> None:
    files = [TreeFile("bin/python3.7", 0o755, b"\x7fELF"), TreeFile("a", 0o777, b"", "b")]
    digest = tree_digest(files)
    assert digest.hex == "f26f16a51a7131c49721d12486b55c6d6d2fb45282782c1439d65c0e4a3e06d5"
    for other in (
        TreeFile("bin/python3.8", 0o755, b"\x7fELF"),
        TreeFile("bin/python3.7", 0o644, b"\x7fELF"),
        TreeFile("bin/python3.7", 0o755, b"\x7fELG"),
        TreeFile("bin/python3.7", 0o755, b"\x7fELF", "target"),
    ):
        assert tree_digest([other, files[1]]) != digest


def test_the_identity_depends_on_no_order_of_listing_and_no_time(tmp_path: Path) -> None:
    contents = {f"{LIB}/m{number}.py": b"%d" % number for number in range(20)}
    digests = set()
    for seed in range(3):
        folder = prefix(tmp_path / "same")
        paths = list(contents)
        random.Random(seed).shuffle(paths)  # noqa: S311 - an order, no secret
        for path in paths:
            put(folder, path, contents[path])
            os.utime(folder / path, (seed * 1000, seed * 1000))
        files = read_tree(folder / "bin" / "python3.7", "3.7")
        digests.add(tree_digest(files))
        folder.rename(tmp_path / f"done-{seed}")
    assert len(digests) == 1


def test_the_identity_does_not_depend_on_where_the_interpreter_lies(tmp_path: Path) -> None:
    digests = set()
    for name in ("here", "there-and-further-away"):
        folder = prefix(tmp_path / name)
        put(folder, f"{LIB}/config.py", f"PREFIX = '{folder}'\n".encode())
        digests.add(tree_digest(read_tree(folder / "bin" / "python3.7", "3.7")))
    assert len(digests) == 1
