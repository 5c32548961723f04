"""Hostile images: layouts, manifests, configs, archives of docker's and of ours."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.harness import Case
from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.evidence.verify.blobs import read_config, read_image
from plinth.fetch.sources.docker import open_archive
from plinth.fetch.sources.layout import LayoutSource
from plinth.formats.oci.files import FolderFiles
from plinth.formats.oci.layout import read_index
from plinth.formats.oci.model import CONFIG, LAYER_GZIP, MANIFEST
from plinth.formats.oci.reference import ArchiveReference, LayoutReference
from plinth.formats.oci.referrers import BUNDLE
from plinth.publish.airgap.read import ArchiveFiles, read_manifest

Json = dict[str, Any]
NONE = "sha256:" + "0" * 64


def described(kind: str, data: bytes, **changes: object) -> Json:
    return {"mediaType": kind, "digest": Digest.of(data).oci, "size": len(data), **changes}


def manifest(**changes: object) -> Json:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, b"{}"),
        "layers": [described(LAYER_GZIP, gzip.compress(bytes(1024), mtime=0))],
        **changes,
    }


def layout(data: bytes, **entry: object) -> Callable[[Path], None]:
    """Read, as the verifier does, a layout whose one manifest is `data`."""

    def run(work: Path) -> None:
        blobs = work / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        (work / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (blobs / Digest.of(data).hex).write_bytes(data)
        for blob in (b"{}", gzip.compress(bytes(1024), mtime=0)):
            (blobs / Digest.of(blob).hex).write_bytes(blob)
        index = {"schemaVersion": 2, "manifests": [described(MANIFEST, data, **entry)]}
        (work / "index.json").write_text(json.dumps(index))
        source = LayoutSource("demo", FolderFiles(work), LayoutReference(work))
        for layer in source.layers():
            with layer.open() as stream:
                stream.read()
        list(source.referrers(BUNDLE))
        source.config()

    return run


def index(text: bytes) -> Callable[[Path], object]:
    """Read `text` as the index of somebody's layout."""

    def run(work: Path) -> object:
        (work / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (work / "index.json").write_bytes(text)
        return LayoutSource("demo", FolderFiles(work), LayoutReference(work)).layers()

    return run


def own_index(work: Path) -> None:
    """Read a nested index of the layout that a build writes to."""
    (work / "index.json").write_bytes(DEEP)
    read_index(BlobStore(work))


def verified(data: bytes, read: Callable[[bytes], object]) -> Callable[[Path], None]:
    """As `verify` reads a document, whose errors are one check's problems."""

    def run(_: Path) -> None:
        read(data)

    return run


def tar(*members: tuple[str, bytes, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            info.linkname = "../../victim" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def docker(images: object, *members: tuple[str, bytes, bytes]) -> Callable[[Path], None]:
    """Read an archive as `docker save` writes them."""

    def run(work: Path) -> None:
        path = work / "image.tar"
        listed = json.dumps(images).encode()
        path.write_bytes(tar(("manifest.json", listed, tarfile.REGTYPE), *members))
        source = open_archive("demo", ArchiveReference(path))
        for layer in source.layers():
            with layer.open() as stream:
                stream.read()
        source.config()

    return run


def imported(data: bytes) -> Callable[[Path], None]:
    """Import an archive of `plinth export`."""

    def run(work: Path) -> None:
        path = work / "bundle.tar"
        path.write_bytes(data)
        read_manifest(ArchiveFiles(path))

    return run


def member(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE
) -> tuple[str, bytes, bytes]:
    return name, data, kind


MARK = member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
IMAGE = {"Config": "config.json", "RepoTags": ["a:b"], "Layers": ["layer.tar"]}
DEEP = b'{"a":' + b"[" * 200_000
CASES = [
    Case(
        "traversal",
        "index: digest",
        layout(b"{}", digest="sha256:../../../victim"),
        "not a descriptor",
    ),
    Case(
        "traversal",
        "docker: layer",
        docker([{**IMAGE, "Layers": ["../../victim"]}], member("config.json", b"{}")),
        "no file|path",
    ),
    Case(
        "traversal",
        "docker: config",
        docker([{**IMAGE, "Config": "/etc/passwd"}], member("layer.tar")),
        "no file|path",
    ),
    Case(
        "traversal",
        "import: member",
        imported(tar(MARK, member("../../victim"))),
        "victim|path|not",
    ),
    Case("traversal", "import: absolute", imported(tar(MARK, member("/etc/x"))), "etc|path|not"),
    Case(
        "links",
        "docker: symbolic link",
        docker([IMAGE], member("layer.tar", b"", tarfile.SYMTYPE), member("config.json", b"{}")),
        "no file|link",
    ),
    Case(
        "links",
        "import: hard link",
        imported(tar(MARK, member("index.json", b"", tarfile.LNKTYPE))),
        "index.json|link|not",
    ),
    Case(
        "devices",
        "import: device",
        imported(tar(MARK, member("index.json", b"", tarfile.CHRTYPE))),
        "index.json|device|not",
    ),
    Case(
        "duplicates",
        "index: key twice",
        index(b'{"manifests":[],"manifests":[{}]}'),
        "twice|duplicate",
    ),
    Case(
        "duplicates",
        "docker: member twice",
        docker(
            [IMAGE],
            member("config.json", b"{}"),
            member("config.json", b'{"a":1}'),
            member("layer.tar"),
        ),
        "twice",
    ),
    Case("duplicates", "import: member twice", imported(tar(MARK, MARK)), "twice"),
    Case("size lies", "index: size", layout(b"{}", size=9), "size|bytes|digest"),
    Case("size lies", "index: negative size", layout(b"{}", size=-1), "size|digest"),
    Case(
        "size lies",
        "manifest: layer's size",
        layout(json.dumps(manifest(layers=[described(LAYER_GZIP, b"x", size=1 << 62)])).encode()),
        "size|no file|there is no|bytes",
    ),
    Case("bombs", "index: nested", index(DEEP), "JSON|nested|not"),
    Case("bombs", "own index: nested", own_index, "not JSON"),
    Case("bombs", "manifest: nested", layout(DEEP), "JSON|nested|not"),
    Case("bombs", "config: nested", verified(DEEP, read_config), "JSON|nested"),
    Case(
        "bombs", "manifest: too large", layout(b"[" + b"0," * (8 << 20) + b"0]"), "bytes|large|many"
    ),
    Case(
        "names",
        "index: half a character",
        index(b'{"manifests":[{"annotations":{"a":"\\ud800"}}]}'),
        "JSON|character|surrogate|Unicode|not",
    ),
    Case("digests", "manifest: other bytes", layout(b"{}", digest=NONE), "no|digest|there is"),
    Case(
        "digests",
        "manifest: layer that is not there",
        layout(json.dumps(manifest(layers=[described(LAYER_GZIP, b"gone")])).encode()),
        "no",
    ),
    Case(
        "downgrades",
        "manifest: SHA-1",
        layout(b"{}", digest="sha1:" + "0" * 40),
        "not a descriptor",
    ),
    Case(
        "downgrades",
        "manifest of schema 1",
        verified(json.dumps(manifest(schemaVersion=1)).encode(), read_image),
        "not of type",
    ),
    Case(
        "downgrades",
        "manifest: foreign layers",
        verified(
            json.dumps(
                manifest(
                    layers=[
                        described(
                            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                            b"x",
                            urls=["https://elsewhere.test/x"],
                        )
                    ]
                )
            ).encode(),
            read_image,
        ),
        "not a descriptor",
    ),
    Case("nonsense", "index: not a number", index(b'{"manifests":[{"size":NaN}]}'), "JSON|NaN|not"),
    Case("nonsense", "index: a list", index(b"[]"), "not"),
    Case("nonsense", "config: a list", verified(b"[]", read_config), "not a JSON object"),
    Case("nonsense", "docker: no list", docker({"a": 1}), "not a list of images"),
    Case(
        "nonsense", "docker: numbers", docker([{"Config": 7, "Layers": 8}]), "no Config|no Layers"
    ),
    Case(
        "nonsense", "import: no archive", imported(b"PK\x03\x04" + bytes(600)), "not a tar|archive"
    ),
]
