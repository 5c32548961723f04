"""What layers hold: packages compared with their own records, the rest listed; the cache."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import DOCKERUSER, ROOT
from plinth.formats.python.tree import TreeFile, tree_digest
from plinth.graph.cache import ActionCache
from plinth.inspect.contents.cache import ContentsCache
from plinth.inspect.contents.model import LayerContents
from plinth.inspect.contents.read import contents_of, read_layers
from support.layer_files import (
    DPKG,
    SITE,
    Files,
    archive,
    changed,
    contents,
    contract,
    extension,
    interpreter,
    more,
    system,
    text,
    wheel,
    without,
    write_layer,
)

RECORD = f"{SITE}/demo-1.0.dist-info/RECORD"
METADATA = f"{SITE}/demo-1.0.dist-info/METADATA"


def demo() -> Files:
    return wheel("demo", "1.0", "License: MIT\n")


def with_record(change: Callable[[bytes], bytes]) -> Files:
    return changed(demo(), RECORD, data=change(demo()[RECORD].data))


def test_a_wheel(tmp_path: Path) -> None:
    found = contents(tmp_path, demo())
    assert found.problems == ()
    assert found.unaccounted == ()
    (one,) = found.wheels
    assert (one.name, one.version, one.licences, one.own) == ("demo", "1.0", ("MIT",), False)
    assert (one.files, one.rows, one.bytecode) == (5, 3, 1)
    assert found.files == 5
    assert found.size == one.size == sum(len(file.data) for file in demo().values())


def test_several_wheels_in_one_layer(tmp_path: Path) -> None:
    found = contents(tmp_path, {**wheel("Other.One", "2.0"), **demo()})
    assert [(w.name, w.version) for w in found.wheels] == [("demo", "1.0"), ("other-one", "2.0")]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("more_", "expected"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: no", ["MIT OR Apache-2.0"]),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", ["MIT License"]),
        ("Classifier: License :: OSI Approved\nClassifier: Topic :: X", []),
        ("Classifier: License :: Freeware\nClassifier: License :: A", ["A", "Freeware"]),
        (f"License: {'text ' * 30}", []),
        ("License: BSD\n  and its text", ["BSD"]),
    ],
)
def test_licences_of_wheels(tmp_path: Path, more_: str, expected: list[str]) -> None:
    (found,) = contents(tmp_path, wheel("demo", "1.0", f"{more_}\n")).wheels
    assert list(found.licences) == expected


MODULE = f"{SITE}/demo/__init__.py"
WHEELS: dict[str, tuple[Files, str, str]] = {
    "content": (changed(demo(), MODULE, data=b"y = 2\n"), MODULE, "its content has"),
    "size": (changed(demo(), MODULE, data=b"longer = 1\n"), MODULE, "it has 11"),
    "script": (
        changed(demo(), "opt/python/bin/demo", data=b"#!/bin/sh"),
        "bin/demo",
        "RECORD says",
    ),
    "link": (
        more(demo(), File(MODULE, "symlink", 0o777, ROOT, target="/etc/passwd")),
        MODULE,
        "is a symlink",
    ),
    "added": (more(demo(), text(f"{SITE}/demo/evil.py", b"")), "evil.py", "no RECORD lists it"),
    "added pth": (more(demo(), text(f"{SITE}/evil.pth", b"")), "evil.pth", "no RECORD lists it"),
    "added link": (
        more(demo(), File(f"{SITE}/evil", "symlink", 0o777, ROOT, target="/")),
        "evil",
        "no RECORD lists it",
    ),
    "no RECORD": (without(demo(), RECORD), RECORD, "cannot be told"),
    "no METADATA": (without(demo(), METADATA), METADATA, "cannot be told"),
    "no name": (changed(demo(), METADATA, data=b"Version: 1\n\n"), METADATA, "Name or Version"),
    "two names": (
        changed(demo(), METADATA, data=b"Name: evil\n" + demo()[METADATA].data),
        METADATA,
        "there twice",
    ),
    "without hash": (
        with_record(lambda data: data.replace(b"demo/__init__.py,", b"demo/__init__.py,,\r\nx,")),
        MODULE,
        "no hash",
    ),
    "other hash": (
        with_record(lambda data: data.replace(b"sha256=", b"md5=")),
        MODULE,
        "RECORD says md5=",
    ),
    "two rows": (
        with_record(lambda data: data + b"demo/__init__.py,sha256=x,1\r\n"),
        RECORD,
        "two rows differ",
    ),
    "fields": (with_record(lambda data: data + b"a,b\r\n"), RECORD, "2 fields"),
    "not UTF-8": (with_record(lambda data: data + b"\xff,,\r\n"), RECORD, "not CSV"),
    "leads out": (
        with_record(lambda data: data + b"../../../../../../etc/passwd,,\r\n"),
        RECORD,
        "leads out",
    ),
    "itself": (
        with_record(lambda data: data.replace(b"demo-1.0.dist-info/RECORD,,\r\n", b"")),
        RECORD,
        "does not list itself",
    ),
    "bytecode without source": (
        more(
            with_record(lambda data: data + b"demo/__pycache__/evil.cpython-37.pyc,,\r\n"),
            text(f"{SITE}/demo/__pycache__/evil.cpython-37.pyc", b""),
        ),
        "evil.cpython-37.pyc",
        "no hash",
    ),
}


def test_a_file_that_record_lists_and_that_is_not_there_is_absent(tmp_path: Path) -> None:
    found = contents(tmp_path, without(demo(), MODULE))
    # Whether another package has it in its place, the other layers say.
    assert [path.endswith(MODULE) for path in found.wheels[0].absent] == [True]


@pytest.mark.parametrize(("files", "path", "message"), WHEELS.values(), ids=WHEELS.keys())
def test_a_wheel_that_contradicts_its_record(
    tmp_path: Path, files: Files, path: str, message: str
) -> None:
    problems = contents(tmp_path, files).problems
    assert [p for p in problems if p.path.endswith(path) and message in p.message], problems


def test_what_no_record_can_tell_is_in_the_digest(tmp_path: Path) -> None:
    """Bytecode, modes and owners: no record has them, but two contents can be compared."""
    bytecode = f"{SITE}/demo/__pycache__/__init__.cpython-37.pyc"
    (sound,) = contents(tmp_path, demo()).wheels
    for files in (
        changed(demo(), bytecode, data=b"evil"),
        changed(demo(), MODULE, mode=0o4755),
        changed(demo(), MODULE, owner=ROOT),
    ):
        found = contents(tmp_path, files)
        assert found.problems == ()
        assert found.wheels[0].digest != sound.digest
        same = {"digest": sound.digest, "size": sound.size, "listed": sound.listed}
        assert replace(found.wheels[0], **same) == sound  # type: ignore[arg-type]


def test_debian_packages_of_a_base(tmp_path: Path) -> None:
    found = contents(tmp_path, system())
    assert found.problems == ()
    (hello,) = found.debs
    assert (hello.name, hello.version, hello.architecture) == ("hello", "1:2.10-3", "amd64")
    assert hello.licences == ("Expat", "GPL-2+")
    # The program, the library, its link, settings, copyright, and three records of dpkg's.
    assert (hello.sums, hello.documentation, hello.absent) == (3, 2, ())
    assert hello.files == 9
    assert found.system is not None
    assert (found.system.name, found.system.version) == ("debian", "12")
    assert [entry.path for entry in found.unaccounted] == [
        "etc/passwd",
        "tmp",
        "usr/lib/os-release",
    ]
    assert found.unaccounted[1].mode == 0o1777


def test_a_package_on_top_of_a_base(tmp_path: Path) -> None:
    found = contents(tmp_path, extension())
    assert found.problems == ()
    (one,) = found.debs
    assert (one.name, one.version, one.files, one.sums) == ("libgl1", "1.6.0-1", 3, 1)
    assert one.documentation == 1
    # No list names its links.
    assert [entry.path for entry in found.unaccounted] == ["usr/lib/libGL.so"]


STATUS, INFO = f"{DPKG}/status", f"{DPKG}/info/hello"
DEBS: dict[str, tuple[Files, str, str]] = {
    "program": (changed(system(), "usr/bin/hello", data=b"evil"), "usr/bin/hello", "MD5"),
    "settings": (changed(system(), "etc/hello.conf", data=b"evil"), "etc/hello.conf", "MD5"),
    "library": (changed(system(), "usr/lib/libhello.so.1", data=b""), "libhello.so.1", "MD5"),
    "a link for a file": (
        more(system(), File("usr/bin/hello", "symlink", 0o777, ROOT, target="sh")),
        "usr/bin/hello",
        "it has is a symlink",
    ),
    "no list": (without(system(), f"{INFO}.list"), STATUS, "no list of files"),
    "bad sums": (changed(system(), f"{INFO}.md5sums", data=b"x"), ".md5sums", "not a line"),
    "no version": (
        changed(system(), STATUS, data=b"Package: a\nStatus: install ok installed\n"),
        STATUS,
        "without name, version",
    ),
    "two versions of one package": (
        changed(
            system(),
            STATUS,
            data=system()[STATUS].data.replace(b"\nVersion", b"\nVersion: 0\nVersion"),
        ),
        STATUS,
        "duplicate field 'version'",
    ),
    "a line that is not a field": (
        changed(
            extension(),
            f"{DPKG}/status.d/libgl1",
            data=extension()[f"{DPKG}/status.d/libgl1"].data + b"nonsense\n",
        ),
        "status.d/libgl1",
        "is not a field: 'nonsense'",
    ),
    "twice": (
        changed(system(), STATUS, data=system()[STATUS].data + b"\n" + system()[STATUS].data),
        STATUS,
        "there twice",
    ),
    "records of a stranger": (
        more(system(), text(f"{DPKG}/info/evil.postinst", b"#!/bin/sh", 0o755)),
        "evil.postinst",
        "record of evil, unknown",
    ),
    "sums of a stranger": (
        more(extension(), text(f"{DPKG}/status.d/evil.md5sums", b"")),
        "evil.md5sums",
        "record of evil, unknown",
    ),
    "status.d without version": (
        changed(extension(), f"{DPKG}/status.d/libgl1", data=b"Package: libgl1\n"),
        "status.d/libgl1",
        "without name",
    ),
    "sums that differ": (
        changed(
            extension(),
            f"{DPKG}/status.d/libgl1.md5sums",
            data=f"{'0' * 32}  usr/lib/a\n{'1' * 32}  usr/lib/a\n".encode(),
        ),
        "libgl1.md5sums",
        "two lines differ",
    ),
}


@pytest.mark.parametrize(("files", "path", "message"), DEBS.values(), ids=DEBS.keys())
def test_packages_that_contradict_their_lists(
    tmp_path: Path, files: Files, path: str, message: str
) -> None:
    problems = contents(tmp_path, files).problems
    assert [p for p in problems if p.path.endswith(path) and message in p.message], problems


def test_absent_files_are_named_but_for_documentation(tmp_path: Path) -> None:
    (found,) = contents(tmp_path, without(system(), "usr/bin/hello")).debs
    assert found.absent == ("bin/hello",)
    assert found.documentation == 2


def test_the_database_of_dpkg_is_in_a_digest(tmp_path: Path) -> None:
    sound, other = (
        contents(tmp_path, files).system
        for files in (system(), changed(system(), f"{DPKG}/available", data=b"x"))
    )
    assert sound is not None
    assert other is not None
    assert sound.database != other.database


def test_files_of_a_vendors_archive(tmp_path: Path) -> None:
    found = contents(tmp_path, archive())
    assert (found.problems, found.unaccounted) == ((), ())
    (one,) = found.archives
    assert (one.name, one.version, one.licence) == ("cuda", "11.0.3", "its terms")
    assert (one.archive, one.files) == ("a" * 64, 3)
    assert found.packages == (one,)


OF_CUDA, LIBRARY = "usr/share/plinth/archives/cuda.json", "usr/local/lib/libx.so.1"
ARCHIVES: dict[str, tuple[Files, str, str]] = {
    "another file": (
        changed(archive(), f"{LIBRARY}.5", data=b"evil"),
        f"{LIBRARY}.5",
        "it is not as the record of cuda has it",
    ),
    "another link": (
        changed(archive(), LIBRARY, target="libevil.so"),
        LIBRARY,
        "it is not as the record of cuda has it",
    ),
    "a file less": (without(archive(), f"{LIBRARY}.5"), f"{LIBRARY}.5", "and it is not there"),
    "no JSON": (changed(archive(), OF_CUDA, data=b"{"), OF_CUDA, "not a record of an archive"),
    "another name": (
        changed(
            archive(),
            OF_CUDA,
            data=b'{"name":"x","version":"","licence":"","files":{},'
            b'"links":{},"archive":{"sha256":"' + b"a" * 64 + b'"}}',
        ),
        OF_CUDA,
        "not a record of an archive",
    ),
    "no digest": (
        changed(
            archive(),
            OF_CUDA,
            data=b'{"name":"cuda","version":"","licence":"","files":{},'
            b'"links":{},"archive":{"sha256":"x"}}',
        ),
        OF_CUDA,
        "not a record of an archive",
    ),
    "a name twice": (
        changed(archive(), OF_CUDA, data=b'{"name":"x","name":"cuda"}'),
        OF_CUDA,
        "not a record of an archive",
    ),
    "a list": (changed(archive(), OF_CUDA, data=b"[]"), OF_CUDA, "not a record of an archive"),
}


@pytest.mark.parametrize(("files", "path", "message"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_archives_that_contradict_their_record(
    tmp_path: Path, files: Files, path: str, message: str
) -> None:
    found = contents(tmp_path, files)
    assert [p for p in found.problems if p.path == path and message in p.message], found.problems


def test_the_interpreter_has_the_digest_its_lock_has(tmp_path: Path) -> None:
    found = contents(tmp_path, interpreter())
    assert found.problems == ()
    one = found.interpreter
    assert one is not None
    assert (one.version, one.release, one.files, one.bytecode) == ("3.7", "3.7.16", 4, 1)
    tree = [
        TreeFile(path.removeprefix("opt/python/"), file.mode, file.data, file.target)
        for path, file in sorted(interpreter().items())
        if file.kind != "directory" and not path.endswith(".pyc")
    ]
    assert one.tree == tree_digest(tree).hex


@pytest.mark.parametrize(
    "files",
    [
        changed(interpreter(), "opt/python/lib/python3.7/os.py", data=b"evil"),
        changed(interpreter(), "opt/python/bin/python", target="/bin/sh"),
        changed(interpreter(), "opt/python/bin/python3.7", mode=0o4755),
        more(interpreter(), text("opt/python/lib/python3.7/sitecustomize.py", b"")),
        more(interpreter(), text("opt/python/lib/python3.7/__pycache__/x.cpython-37.pyc", b"")),
        without(interpreter(), "opt/python/lib/python3.7/os.py"),
    ],
)
def test_another_interpreter_has_another_tree(tmp_path: Path, files: Files) -> None:
    sound, found = (contents(tmp_path, each).interpreter for each in (interpreter(), files))
    assert sound is not None
    assert found is not None
    assert sound.tree != found.tree


def test_distributions_that_an_interpreter_brings(tmp_path: Path) -> None:
    found = contents(tmp_path, {**interpreter(), **wheel("pip", "24.0")})
    assert found.problems == ()
    assert [(w.name, w.own) for w in found.wheels] == [("pip", True)]
    assert found.interpreter is not None
    assert found.interpreter.files == 4


def test_two_interpreters(tmp_path: Path) -> None:
    files = more(interpreter(), text("opt/python/bin/python3.9", b"", 0o755, DOCKERUSER))
    assert "several interpreters" in contents(tmp_path, files).problems[0].message


def test_other_layers_are_listed_entry_by_entry(tmp_path: Path) -> None:
    found = contents(tmp_path, contract())
    assert found.packages == ()
    program, folder = found.unaccounted
    assert (program.path, program.mode, program.size) == ("usr/local/bin/runsvdir", 0o755, 10)
    assert program.sha256 == Digest.of(b"#!/bin/sh\n").hex
    assert (folder.path, folder.kind, folder.uid) == ("var/azureml-app", "directory", 1000)


def test_facts_survive_json(tmp_path: Path) -> None:
    for files in (system(), interpreter(), demo(), changed(demo(), MODULE, data=b"x")):
        found = contents(tmp_path, files)
        assert LayerContents.from_json(found.to_json()) == found


@dataclass
class Blob:
    """A layer that counts how often it is read."""

    digest: Digest | None
    data: bytes
    opened: int = 0

    def open(self) -> BinaryIO:
        self.opened += 1
        return cast(BinaryIO, io.BytesIO(self.data))


def blob(tmp_path: Path, files: Files) -> Blob:
    layer = write_layer(tmp_path, "test", files)
    return Blob(layer.digest, BlobStore(tmp_path).get(layer.digest))


def test_what_is_remembered_counts_for_the_same_bytes_only(tmp_path: Path) -> None:
    cache = ContentsCache(tmp_path / "cache")
    layer = blob(tmp_path, demo())
    assert layer.digest is not None
    first = contents_of(layer, cache)
    assert cache.get(layer.digest) == first
    # Read once from the memory: the blob is hashed all the same.
    assert layer.opened == 2
    assert contents_of(layer, cache) == first
    assert layer.opened == 3
    shorter = blob(tmp_path, contract())
    with pytest.raises(LayoutError, match="it is sha256:"):
        contents_of(Blob(layer.digest, shorter.data), cache)
    with pytest.raises(LayoutError, match="it has more than the"):
        contents_of(Blob(layer.digest, gzip.decompress(layer.data)), cache)
    assert cache.get(layer.digest) == first


def test_bytes_under_a_false_name_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.inspect.contents.layer.read_layer", None)
    cache = ContentsCache(tmp_path / "cache")
    layer = blob(tmp_path, demo())
    false = Digest("0" * 64, len(layer.data))
    with pytest.raises(LayoutError, match=f"the manifest names {false.oci}"):
        contents_of(Blob(false, layer.data), cache)
    assert cache.get(false) is None


def test_a_damaged_memory_is_none(tmp_path: Path) -> None:
    cache = ContentsCache(tmp_path / "cache")
    layer = blob(tmp_path, demo())
    assert layer.digest is not None
    found = contents_of(layer, cache)
    for path in (tmp_path / "cache" / "blobs" / "sha256").iterdir():
        path.write_bytes(path.read_bytes().replace(b"demo", b"evil"))
    assert cache.get(layer.digest) is None
    assert contents_of(layer, cache) == found


def test_a_memory_of_another_layer_is_none(tmp_path: Path) -> None:
    actions, store = ActionCache(tmp_path / "actions"), BlobStore(tmp_path / "blobs")
    cache = ContentsCache(tmp_path, actions=actions, blobs=store)
    one, other = blob(tmp_path, demo()), blob(tmp_path, contract())
    assert one.digest is not None
    assert other.digest is not None
    contents_of(one, cache)
    contents_of(other, cache)
    entries = sorted((tmp_path / "actions").glob("*.json"))
    first, second = (entry.read_bytes() for entry in entries)
    entries[0].write_bytes(second)
    entries[1].write_bytes(first)
    assert cache.get(one.digest) is cache.get(other.digest) is None


def test_layers_in_any_number_of_threads(tmp_path: Path) -> None:
    parts = (system(), interpreter(), contract(), demo(), extension())
    layers: list[Blob] = [blob(tmp_path, files) for files in parts]
    broken = Blob(layers[0].digest, layers[0].data[:-10])
    nameless = Blob(None, layers[1].data)
    everything = [*layers, broken, nameless]
    first = read_layers(everything, None, 1)
    assert read_layers(everything, ContentsCache(tmp_path / "cache"), 4) == first
    assert isinstance(first[5], str)
    assert "the manifest names" in first[5]
    assert first[6] == first[1]
    assert [one.digest for one in first if isinstance(one, LayerContents)][:5] == [
        layer.digest for layer in layers
    ]


def test_a_layer_that_is_not_there(tmp_path: Path) -> None:
    class Absent:
        digest = Digest.of(b"")

        def open(self) -> BinaryIO:
            return cast(BinaryIO, (tmp_path / "nothing").open("rb"))

    (found,) = read_layers([Absent()])
    assert found == "it cannot be read: No such file or directory"
