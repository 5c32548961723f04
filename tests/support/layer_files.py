"""Layers as files that tests change before they are written: an image with every kind of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.store import BlobStore
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.formats.debian.deb import File
from plinth.formats.layer.header import DOCKERUSER, ROOT, Owner
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.manifest import Manifest, parse_manifest
from plinth.formats.oci.model import CONFIG, MANIFEST, Descriptor
from plinth.formats.python.place import owner_of
from plinth.formats.python.tree import TreeFile, tree_digest
from plinth.formats.wheel.record import Row, row_of, write
from plinth.inspect.contents.layer import read_layer
from plinth.inspect.contents.model import LayerContents
from plinth.recipe.accelerator import CPU
from plinth.recipe.base import BaseSpec, DebianRootfs, FoundPython
from plinth.recipe.image import ImageSpec, Target
from plinth.recipe.locks.base import BaseLock, LockedDeb
from plinth.recipe.locks.pylock import ImageLock, LockedFile, LockedPackage
from plinth.recipe.recipe import Recipe

SITE = "opt/python/lib/python3.7/site-packages"
DPKG = "var/lib/dpkg"
COPYRIGHT = b"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+

License: Expat
 Text.
"""
Files = dict[str, File]


def text(path: str, data: bytes, mode: int = 0o644, owner: Owner = ROOT) -> File:
    """A regular file."""
    return File(path, "file", mode, owner, data)


def _files(*files: File) -> Files:
    return {file.path: file for file in files}


def md5(data: bytes) -> str:
    """As dpkg's lists have it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def system() -> Files:
    """An operating system of one package, `hello`, on a merged /usr."""
    program, library, settings = b"\x7fELF hello", b"\x7fELF library", b"x=1\n"
    sums = f"{md5(program)}  bin/hello\n{md5(library)}  usr/lib/libhello.so.1\n"
    sums += f"{md5(b'manual')}  usr/share/man/hello.1\n"
    listed = [
        "/.", "/bin", "/bin/hello", "/etc", "/etc/hello.conf", "/usr", "/usr/lib",
        "/usr/lib/libhello.so", "/usr/lib/libhello.so.1", "/usr/share/doc/hello/copyright",
        "/usr/share/man", "/usr/share/man/hello.1",
    ]  # fmt: skip
    status = (
        "Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.10-3\n"
        f"Description: greets\n and more\nConffiles:\n /etc/hello.conf {md5(settings)}\n"
    )
    return _files(
        File("bin", "symlink", 0o777, ROOT, target="usr/bin"),
        text("usr/bin/hello", program, 0o755),
        text("usr/lib/libhello.so.1", library),
        File("usr/lib/libhello.so", "symlink", 0o777, ROOT, target="libhello.so.1"),
        text("usr/lib/os-release", b'ID=debian\nVERSION_ID="12"\n'),
        text("usr/share/doc/hello/copyright", COPYRIGHT),
        text("etc/hello.conf", settings),
        text("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        File("tmp", "directory", 0o1777, ROOT),
        text(f"{DPKG}/status", status.encode()),
        text(f"{DPKG}/available", b""),
        text(f"{DPKG}/info/format", b"1\n"),
        text(f"{DPKG}/info/hello.list", ("\n".join(listed) + "\n").encode()),
        text(f"{DPKG}/info/hello.md5sums", sums.encode()),
        text(f"{DPKG}/info/hello.postinst", b"#!/bin/sh\n", 0o755),
    )


def interpreter() -> Files:
    """A CPython 3.7.16 of three files and a link, with bytecode."""
    return _files(
        text("opt/python/bin/python3.7", b"\x7fELF python", 0o755, DOCKERUSER),
        File("opt/python/bin/python", "symlink", 0o777, DOCKERUSER, target="python3.7"),
        text(
            "opt/python/include/python3.7m/patchlevel.h",
            b'#define PY_VERSION      "3.7.16"\n',
            owner=DOCKERUSER,
        ),
        text("opt/python/lib/python3.7/os.py", b"name = 'posix'\n", owner=DOCKERUSER),
        text("opt/python/lib/python3.7/__pycache__/os.cpython-37.pyc", b"B\r", owner=DOCKERUSER),
        File(SITE, "directory", 0o755, DOCKERUSER),
    )


def contract() -> Files:
    """What the contract puts there: a program and a folder."""
    return _files(
        text("usr/local/bin/runsvdir", b"#!/bin/sh\n", 0o755),
        File("var/azureml-app", "directory", 0o755, DOCKERUSER),
    )


def wheel(name: str, version: str, more: str = "", code: bytes = b"x = 1\n") -> Files:
    """An installed wheel with a module, its bytecode and a script."""
    info = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\n"
    listed = {
        f"{name}/__init__.py": code,
        f"../../../bin/{name}": b"#!/opt/python/bin/python3.7\n",
        f"{info}/METADATA": about.encode(),
    }
    bytecode = f"{name}/__pycache__/__init__.cpython-37.pyc"
    rows = [row_of(path, data) for path, data in listed.items()]
    rows += [Row(f"{info}/RECORD", "", ""), Row(bytecode, "", "")]
    files = [
        text(f"{SITE}/{name}/__init__.py", code, owner=DOCKERUSER),
        text(f"opt/python/bin/{name}", listed[f"../../../bin/{name}"], 0o755, DOCKERUSER),
        text(f"{SITE}/{info}/METADATA", about.encode(), owner=DOCKERUSER),
        text(f"{SITE}/{bytecode}", b"B\r" + code, owner=DOCKERUSER),
        text(f"{SITE}/{info}/RECORD", write(rows), owner=DOCKERUSER),
    ]
    return _files(*files)


def extension() -> Files:
    """A package on top of the base: a record under status.d and MD5 sums, no list of files."""
    control = b"Package: libgl1\nVersion: 1.6.0-1\nArchitecture: amd64\n"
    sums = f"{md5(b'GL')}  usr/lib/libGL.so.1\n{md5(b'doc')}  usr/share/doc/libgl1/changelog\n"
    return _files(
        text("usr/lib/libGL.so.1", b"GL"),
        File("usr/lib/libGL.so", "symlink", 0o777, ROOT, target="libGL.so.1"),
        text(f"{DPKG}/status.d/libgl1", control),
        text(f"{DPKG}/status.d/libgl1.md5sums", sums.encode()),
    )


LAYERS = ("test system", "test python", "contract", "demo 1.0", "other 2.0", "libgl1 1.6.0-1")


def archive() -> Files:
    """What was taken from an archive of a vendor, with the record of it."""
    data = b"\x7fELF a library"
    record: dict[str, Json] = {
        "name": "cuda",
        "version": "11.0.3",
        "licence": "its terms",
        "archive": {"name": "cuda.run", "sha256": "a" * 64},
        "files": {"usr/local/lib/libx.so.1.5": Digest.of(data).hex},
        "links": {"usr/local/lib/libx.so.1": "libx.so.1.5"},
    }
    return _files(
        text("usr/local/lib/libx.so.1.5", data),
        File("usr/local/lib/libx.so.1", "symlink", 0o777, ROOT, target="libx.so.1.5"),
        text("usr/share/plinth/archives/cuda.json", canonical_json(record)),
    )


def small_image() -> dict[str, Files]:
    """The layers by title, bottom first."""
    layers = (
        system(),
        interpreter(),
        contract(),
        wheel("demo", "1.0", "License: MIT\n"),
        wheel("other", "2.0", "Classifier: License :: OSI Approved :: BSD License\n"),
        extension(),
    )
    return dict(zip(LAYERS, layers, strict=True))


def write_layer(folder: Path, title: str, files: Files) -> Layer:
    """The layer of `files` in the store at `folder`, with the folders they are in."""
    store = BlobStore(folder)
    everything = dict(files)
    for path in files:
        while path := path.rpartition("/")[0]:
            everything.setdefault(path, File(path, "directory", 0o755, owner_of(path)))
    with LayerWriter(store) as writer:
        for path, file in sorted(everything.items()):
            if file.kind == "directory":
                writer.directory(path, file.mode, file.owner)
            elif file.kind == "symlink":
                writer.symlink(path, file.target, file.owner)
            else:
                writer.file(path, file.data, file.mode, file.owner)
        return writer.commit(title)


def read_written(folder: Path, layer: Layer) -> LayerContents:
    """What the layer in the store at `folder` holds."""
    path = BlobStore(folder).path(layer.digest)
    return read_layer(lambda: path.open("rb"), layer.digest)


def contents(folder: Path, files: Files) -> LayerContents:
    """What a layer of `files` holds."""
    return read_written(folder, write_layer(folder, "test", files))


@dataclass(frozen=True)
class SmallImage:
    """A written image: its manifest, and what its layers hold."""

    manifest: Manifest
    contents: tuple[LayerContents, ...]


def write_image(folder: Path, layers: Mapping[str, Files]) -> SmallImage:
    """The image of `layers` in the store at `folder`."""
    written = [write_layer(folder, title, files) for title, files in layers.items()]
    manifest: Json = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, Digest.of(b"{}")).to_json(),
        "layers": [layer.descriptor.to_json() for layer in written],
        "annotations": {
            "dev.plinth.base": "test-base",
            "dev.plinth.image": "small",
            "dev.plinth.lock": f"sha256:{'1' * 64}",
            "dev.plinth.plan": "2",
            "org.opencontainers.image.created": "2026-10-20T00:00:00Z",
            "org.opencontainers.image.description": "a small image",
            "org.opencontainers.image.title": "test/small-test-base-cpu-inference",
        },
    }
    held = tuple(read_written(folder, layer) for layer in written)
    return SmallImage(parse_manifest(canonical_json(manifest)), held)


def locked_wheel(
    name: str, version: str, needs: Sequence[str] = (), *, sdist: bool = False, direct: bool = False
) -> LockedPackage:
    """A package of a lock."""
    ending = ".tar.gz" if sdist else "-py3-none-any.whl"
    # As large as one that has a layer of its own.
    digest = Digest(Digest.of(name.encode()).hex, 9_000_000)
    file = LockedFile(f"{name}-{version}{ending}", digest, "1970")
    return LockedPackage(name, version, file, sdist, direct, dependencies=tuple(needs))


def locked_deb(name: str, version: str) -> LockedDeb:
    """A package of an archive's lock."""
    path = f"pool/main/{name[0]}/{name}/{name}_{version.replace(':', '%3a')}_amd64.deb"
    return LockedDeb(name, version, "amd64", "bookworm", path, Digest.of(name.encode()))


def inputs(image: SmallImage) -> SbomInputs:
    """The image with locks that fit it."""
    files = sorted(interpreter().values(), key=lambda file: file.path)
    tree = [
        TreeFile(f.path.removeprefix("opt/python/"), f.mode, f.data, f.target)
        for f in files
        if f.kind != "directory" and not f.path.endswith(".pyc")
    ]
    rootfs = DebianRootfs("debian", ("bookworm",), ("main",), "keyring", ())
    base = BaseSpec("test-base", "", "amd64", (2, 36), rootfs, FoundPython("3.7"), ())
    packages = (
        locked_wheel("demo", "1.0", ["other"], direct=True),
        locked_wheel("other", "2.0", sdist=True),
    )
    wanted = ImageSpec("small", "small", "", CPU, base.name, "", (), (), None, (), "")
    recipe = Recipe(
        wanted,
        Target("3.7", base.glibc, base.architecture, (base,)),
        ImageLock(packages, "3.7", {}, "1" * 64, "2" * 64),
        None,
        base,
        BaseLock((locked_deb("hello", "1:2.10-3"),), {}, tree_digest(tree), {}),
        (locked_deb("libgl1", "1.6.0-1"),),
        None,
        None,
        "",
        {},
    )
    return SbomInputs(image.manifest, image.contents, recipe)


def with_locks(given: SbomInputs, **fields: Any) -> SbomInputs:
    """`given` with another recipe: `fields` replace its own."""
    return replace(given, recipe=replace(given.recipe, **fields))


def changed(files: Files, path: str, **fields: Any) -> Files:
    """`files` with other values of one of them."""
    return {**files, path: replace(files[path], **fields)}


def without(files: Files, path: str) -> Files:
    """`files` but one."""
    return {other: file for other, file in files.items() if other != path}


def more(files: Files, *added: File) -> Files:
    """`files` and others."""
    return {**files, **{file.path: file for file in added}}
