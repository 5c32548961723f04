"""Damage of every kind, to everyone who reads layers as gzip files: an error that names the place,
and never one of a library's own."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from gzip import BadGzipFile
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError, PlinthError
from plinth.evidence.verify.compare import differences
from plinth.formats.gunzip import gunzipped, gunzipped_tar
from plinth.formats.layer.blob import plain_digest
from plinth.formats.layer.extract import extract
from plinth.formats.layer.header import END, FILE, ROOT, header
from plinth.formats.layer.model import Layer
from plinth.formats.layer.scan import read_scan
from plinth.formats.oci.image import Runtime, assemble
from plinth.formats.oci.layout import tag
from plinth.formats.oci.validate import validate
from plinth.formats.python.archive import read_written
from plinth.graph.unpack import root_names
from plinth.graph.workspace import Workspace
from plinth.inspect.roots import changed_roots
from plinth.inspect.usage import usage

HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
SOUND = gzip.compress(header("a", FILE, size=512, mode=0o644, owner=ROOT) + bytes(512) + END, 1)


def nonsense(field: int, value: bytes) -> bytes:
    """A tar with one header, where a field is something else; its checksum is right."""
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT)[:512])
    block[field : field + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return gzip.compress(bytes(block) + END, 1)


DAMAGED = {
    "nothing": b"",
    "no gzip": b"PK\x03\x04" * 10,
    "its header alone": HEAD,
    "a header that ends early": HEAD[:5],
    "cut off": SOUND[:-12],
    "without its end": SOUND[:-8],
    "a block of no type": HEAD + b"\xff" * 20,
    "a stored block that disagrees with itself": HEAD + b"\x01\x05\x00\x00\x00hello" + bytes(8),
    "a distance before its start": HEAD + b"\x03\x02\x42\xff" + bytes(8),
    "another CRC": SOUND[:-8] + bytes(4) + SOUND[-4:],
    "another length": SOUND[:-4] + bytes(4),
    "another behind it": SOUND + b"nothing",
}
HOSTILE = {
    "a size that is no number": nonsense(124, b"9" * 12),
    "a size below nothing": nonsense(124, b"\xff" * 12),
    "a size beyond everything": nonsense(124, b"\x80" + b"\xff" * 11),
    "a time beyond everything": nonsense(136, b"\x80" + b"\xff" * 11),
}


def layout(folder: Path, blob: bytes) -> tuple[Workspace, Digest]:
    """A layout with one image of one layer, whatever that is."""
    ws = Workspace(folder, folder / "build")
    digest = ws.layout.put(blob)
    image = assemble(
        ws.layout,
        [Layer("demo", digest, "0" * 64, 1)],
        architecture="amd64",
        created="",
        runtime=Runtime("root", "/", {}, ["x"], [], "SIGTERM"),
        annotations={},
    )
    tag(ws.layout, "demo", image.manifest, image_name="demo", architecture="amd64")
    return ws, digest


TWICE = header("a", FILE, size=0, mode=0o644, owner=ROOT)
AMBIGUOUS = {
    "a name or two times": nonsense(345, b"00000000001\0"),
    "a device number that is none": nonsense(329, b"x"),
    "a contiguous file": nonsense(156, b"7"),
    "a sparse file": nonsense(156, b"S"),
    "a lone block of zeros": gzip.compress(TWICE + bytes(512) + TWICE + END, 1),
    "an entry behind the end": gzip.compress(TWICE + END + TWICE + END, 1),
    "no end": gzip.compress(TWICE, 1),
    "a header for all": gzip.compress(
        tarfile.TarInfo.create_pax_global_header({"mtime": "1"}) + TWICE + END, 1
    ),
}


READERS: dict[str, Callable[[Path, Path], object]] = {
    "plain digest": lambda path, _: plain_digest(path),
    "scan": lambda path, _: read_scan(path, "demo"),
    "extract": lambda path, folder: extract(path, folder / "root"),
    "interpreter": lambda path, _: read_written(path, "3.7", "demo"),
    "usage": lambda path, folder: usage(layout(folder, path.read_bytes())[0]),
}
# Nothing at all is no bad gzip file to its readers.
OF_BYTES = ("plain digest", "usage")


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_layer_is_said_to_be(tmp_path: Path, reader: str, damage: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes(DAMAGED[damage])
    if damage == "nothing" and reader in OF_BYTES:
        READERS[reader](path, tmp_path)
        return
    with pytest.raises(PlinthError) as raised:
        READERS[reader](path, tmp_path)
    assert raised.value.where


@pytest.mark.parametrize("damage", HOSTILE)
@pytest.mark.parametrize("reader", READERS)
def test_fields_of_nonsense_end_in_no_other_error(tmp_path: Path, reader: str, damage: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes(HOSTILE[damage])
    try:
        READERS[reader](path, tmp_path)
    except PlinthError as error:
        assert error.where


@pytest.mark.parametrize("damage", AMBIGUOUS)
@pytest.mark.parametrize("reader", [name for name in READERS if name not in OF_BYTES])
def test_a_tar_that_readers_differ_about_is_refused_by_every_reader(
    tmp_path: Path, reader: str, damage: str
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(AMBIGUOUS[damage])
    with pytest.raises(PlinthError):
        READERS[reader](path, tmp_path)
    assert "cannot be read" in next(differences(path, path))


@pytest.mark.parametrize("damage", [*DAMAGED, *HOSTILE])
def test_layers_that_cannot_be_read_are_compared(tmp_path: Path, damage: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes((DAMAGED | HOSTILE)[damage])
    other.write_bytes(SOUND)
    for pair in ((one, other), (other, one)):
        lines = list(differences(*pair))
        assert lines
        if damage in DAMAGED:
            assert "cannot be read" in lines[0]


@pytest.mark.parametrize("damage", DAMAGED)
def test_validation_names_the_layer(tmp_path: Path, damage: str) -> None:
    ws, _ = layout(tmp_path, DAMAGED[damage])
    (problem,) = validate(ws.layout.root)
    assert "layers[0]" in problem.path


@pytest.mark.parametrize("damage", [*DAMAGED, *HOSTILE])
def test_a_root_of_a_layer_that_cannot_be_read_is_not_trusted(tmp_path: Path, damage: str) -> None:
    ws, digest = layout(tmp_path, (DAMAGED | HOSTILE)[damage])
    for name in root_names([digest]):
        (ws.build / "cache" / "roots" / name).mkdir(parents=True)
    (problem,) = {problem for _, problem in changed_roots(ws, doubtful=False)}
    assert problem == "its layer cannot be read" or damage in HOSTILE


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(SOUND)
    with gunzipped(path) as stream, path.open("rb") as blob, gunzipped(blob) as again:
        data = stream.read()
        assert data == again.read()
    assert Digest.of(data) == plain_digest(path)
    with gunzipped_tar(path) as entries:
        assert [member.name for member, _ in entries] == ["a"]


@pytest.mark.parametrize("damage", DAMAGED)
def test_one_kind_of_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes(DAMAGED[damage])
    if damage != "nothing":
        with pytest.raises(BadGzipFile), gunzipped(path) as stream:
            stream.read()
    with pytest.raises(LayoutError), gunzipped_tar(path) as entries:
        list(entries)


def test_a_file_that_is_not_there_is_not_damaged(tmp_path: Path) -> None:
    for opened in (gunzipped, gunzipped_tar):
        with pytest.raises(FileNotFoundError), opened(tmp_path / "gone"):
            pass
