"""Imports: what came is what was exported, or it is refused and nothing of it has a name."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import CHUNK, Digest, canonical_json
from plinth.core.errors import AirgapError, IntegrityError, LayoutError, PlinthError, WheelError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.core.store import BlobStore, BlobWriter
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.documents import annotations_of
from plinth.formats.oci.layout import read_index, references
from plinth.formats.oci.model import INDEX, MANIFEST, TITLE, Descriptor
from plinth.formats.oci.reference import canonical
from plinth.formats.oci.referrers import BUNDLE, attach_to_layout
from plinth.formats.oci.validate import validate
from plinth.formats.python.stored import read_stored
from plinth.formats.python.tree import tree_digest
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.export import write_archive
from plinth.publish.airgap.form import INPUTS, Piece, Trust, artifact
from plinth.publish.airgap.form import TRUST as TRUST_TYPE
from plinth.publish.airgap.read import ArchiveFiles, read_manifest
from plinth.publish.airgap.take import Taken, take
from support.helpers import wheel_files, zipped
from support.oci_images import as_before, layout_files, make_image, tarred
from unit.publish.airgap.conftest import (
    DEB,
    IMAGE,
    NAME,
    OTHER,
    POLICY,
    PYTHON,
    TRUST,
    WHEEL,
    Checkout,
    bundle,
)

Json = Any
SOUND = zipped(wheel_files({"demo.py": b"x = 2\n"}))


@pytest.fixture
def archive(checkout: Checkout, tmp_path: Path) -> Path:
    write_archive(checkout.collect(), tmp_path / "a.tar")
    return tmp_path / "a.tar"


def imported(archive: Path, folder: Path, *, replace: bool = False) -> Taken:
    return take(archive, folder, replace=replace, progress=quiet)


def tree(folder: Path) -> dict[str, bytes]:
    """What is in a folder, but for locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "index.lock"
    }


def unpacked(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive, "r:") as tar:
        files = {m.name: tar.extractfile(m) for m in tar if m.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_what_was_exported_is_there(checkout: Checkout, archive: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    taken = imported(archive, there)
    assert taken.images == (IMAGE,)
    assert taken.inputs
    assert taken.there == 0
    layout, cache = BlobStore(there / "oci"), BlobStore(there / "cache")
    assert validate(layout.root) == []
    assert references(layout)[IMAGE] == references(checkout.ws.layout)[IMAGE]
    for data in (WHEEL, DEB):
        assert cache.get(Digest.of(data)) == data
        assert not layout.has(Digest.of(data))
    assert read_stored(cache, tree_digest(PYTHON)) == PYTHON
    for reference in (f"oci:{layout.root}:{IMAGE}", f"oci-archive:{archive}:{IMAGE}"):
        with open_source(reference, Config()) as source:
            found = list(source.referrers(BUNDLE))
            assert len(found) == 2
            assert not any(one.problems for one in found)
    assert taken.trust_folder is not None
    assert taken.trust_folder.parent == there / "trust"
    assert (taken.trust_folder / "trusted_root.json").read_bytes() == TRUST.root
    assert (taken.trust_folder / "policy.toml").read_bytes() == TRUST.policy
    modes = {path.stat().st_mode & 0o777 for path in there.rglob("*") if path.is_file()}
    assert modes <= {0o644, 0o600}


def test_an_archive_of_an_earlier_version_is_taken_in_alike(
    checkout: Checkout, archive: Path, tmp_path: Path
) -> None:
    imported(archive, tmp_path / "now")
    old = BlobStore(tmp_path / "old")
    for name, data in unpacked(archive).items():
        (old.root / name).parent.mkdir(parents=True, exist_ok=True)
        (old.root / name).write_bytes(data)
    as_before(old, checkout.image())
    before = tarred(tmp_path / "before.tar", layout_files(old))
    imported(before, tmp_path / "there")
    assert tree(tmp_path / "there") == tree(tmp_path / "now")


def test_a_second_import_changes_nothing(archive: Path, tmp_path: Path) -> None:
    first = imported(archive, tmp_path / "there")
    before = tree(tmp_path / "there")
    second = imported(archive, tmp_path / "there")
    assert tree(tmp_path / "there") == before
    assert (second.written, second.there) == (0, first.written)


def test_a_layout_that_is_there_keeps_what_it_has(
    checkout: Checkout, archive: Path, tmp_path: Path
) -> None:
    layout = BlobStore(tmp_path / "there" / "oci")
    make_image(layout, "mine")
    same = make_image(layout, IMAGE)
    subject = Descriptor(MANIFEST, same.manifest.digest)
    (mine,) = attach_to_layout(layout, subject, [("mine", bundle(b"mine"))])
    imported(archive, tmp_path / "there")
    assert set(references(layout)) == {"mine", IMAGE}
    assert validate(layout.root) == []
    with open_source(f"oci:{layout.root}:{IMAGE}", Config()) as source:
        found = {one.digest for one in source.referrers(BUNDLE)}
    assert len(found) == 3
    assert mine in found


def test_another_image_of_the_name_gives_way_only_when_told(
    archive: Path, checkout: Checkout, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    layout = BlobStore(there / "oci")
    mine = make_image(layout, IMAGE, "team/changed")
    before = tree(there)
    with pytest.raises(AirgapError, match="small is another image here") as raised:
        imported(archive, there)
    assert raised.value.found == mine.manifest.digest.oci
    assert tree(there) == before
    imported(archive, there, replace=True)
    assert references(layout)[IMAGE].manifest == checkout.image()
    names = [annotations_of(entry).get(REF) for entry in read_index(layout)["manifests"]]
    assert names == [IMAGE, None, None]


def test_a_policy_never_takes_the_place_of_another(checkout: Checkout, tmp_path: Path) -> None:
    """Somebody looked at the first and believes it; the root is the same."""
    folders = []
    for number, policy in enumerate((POLICY, POLICY.replace(b"me", b"you", 1), b"")):
        archive = tmp_path / f"{number}.tar"
        write_archive(checkout.collect(trust=Trust(TRUST.root, policy)), archive)
        folders.append(imported(archive, tmp_path / "there").trust_folder)
    assert len(set(folders)) == 3
    assert folders[0] is not None
    assert (folders[0] / "policy.toml").read_bytes() == TRUST.policy


def test_an_import_cut_off_goes_on_where_it_was(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    whole = imported(archive, tmp_path / "whole")
    count = 0

    def full(store: BlobStore) -> BlobWriter:
        nonlocal count
        count += 1
        if count > 5:
            raise OSError(28, "No space left on device")
        return writer(store)

    writer = BlobStore.writer
    with monkeypatch.context() as patch:
        patch.setattr(BlobStore, "writer", full)
        with pytest.raises(OSError, match="No space left"):
            imported(archive, there)
    assert references(BlobStore(there / "oci")) == {}
    again = imported(archive, there)
    assert again.there == 5
    assert again.written == whole.written - 5
    assert tree(there) == tree(tmp_path / "whole")


def test_what_a_killed_import_left_is_swept(archive: Path, tmp_path: Path) -> None:
    half = tmp_path / "there" / "cache" / "tmp" / "part-x"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    imported(archive, tmp_path / "there")
    assert not half.exists()


def test_archives_written_by_others_are_taken(archive: Path, tmp_path: Path) -> None:
    """Order, times and owners say nothing; GNU tar puts `./` in front."""
    files = unpacked(archive)
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(_folder("."))
        for name in sorted(files, reverse=True):
            (tmp_path / "file").write_bytes(files[name])
            tar.add(tmp_path / "file", f"./{name}")
    imported(tmp_path / "b.tar", tmp_path / "there")
    imported(archive, tmp_path / "whole")
    assert tree(tmp_path / "there") == tree(tmp_path / "whole")


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def refused(archive: Path, folder: Path, match: str | None = None) -> PlinthError:
    """The error; nothing has a name, and no file is outside of the folder."""
    outside = {path for path in folder.parent.iterdir() if path != folder}
    with pytest.raises(
        (AirgapError, LayoutError, IntegrityError, WheelError), match=match
    ) as raised:
        imported(archive, folder)
    assert references(BlobStore(folder / "oci")) == {}
    assert {path for path in folder.parent.iterdir() if path != folder} == outside
    assert not (folder / "trust").exists()
    return raised.value


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("../evil", "", tarfile.REGTYPE),
        ("/tmp/evil", "", tarfile.REGTYPE),  # noqa: S108
        ("blobs/sha256/../../../evil", "", tarfile.REGTYPE),
        ("blobs/sha256/" + "A" * 64, "", tarfile.REGTYPE),
        ("blobs/sha256/" + "a" * 64 + "\n", "", tarfile.REGTYPE),
        ("evil", "", tarfile.REGTYPE),
        ("blobs/sha256/" + "a" * 64, "/etc/passwd", tarfile.SYMTYPE),
        ("blobs/sha256/" + "a" * 64, "index.json", tarfile.LNKTYPE),
        ("blobs/sha256/" + "a" * 64, "", tarfile.FIFOTYPE),
        ("blobs/sha256/" + "a" * 64, "", tarfile.CHRTYPE),
        ("cache", "", tarfile.DIRTYPE),
        ("../blobs", "", tarfile.DIRTYPE),
    ],
)
def test_nothing_but_plain_files_of_a_layout(
    archive: Path, tmp_path: Path, name: str, target: str, kind: bytes
) -> None:
    path = tarred(tmp_path / "b.tar", unpacked(archive), (name, target, kind))
    refused(path, tmp_path / "there", "which is no file of an OCI layout")
    assert not (tmp_path / "there").exists()


def test_a_file_that_is_there_twice(archive: Path, tmp_path: Path) -> None:
    files = unpacked(archive)
    for name in ("index.json", next(iter(files))):
        path = tarred(tmp_path / "b.tar", files, (name, "", tarfile.REGTYPE))
        refused(path, tmp_path / "there", "twice")


def test_an_archive_cut_short_anywhere(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    end = len(data.rstrip(b"\0"))
    cut = tmp_path / "cut.tar"
    for length in (*range(0, end, 997), end - 1):
        cut.write_bytes(data[:length])
        refused(cut, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_any_changed_byte_of_a_blob_is_found(archive: Path, tmp_path: Path) -> None:
    """A blob of every kind: documents, layers, bundles, inputs, the interpreter, the root."""
    files = unpacked(archive)
    blobs = [name for name in files if name.startswith("blobs/") and files[name]]
    assert len(blobs) > 15
    for number, name in enumerate(blobs):
        data = bytearray(files[name])
        data[len(data) // 2] ^= 1
        path = tarred(tmp_path / "b.tar", {**files, name: bytes(data)})
        error = refused(path, tmp_path / f"there{number}")
        assert isinstance(error, IntegrityError)
        assert name in error.where
        kept = BlobStore(tmp_path / f"there{number}" / "oci").blobs.parent.parent.parent
        assert all(Digest.of(blob.read_bytes()).hex == blob.name for blob in kept.rglob("sha256/*"))


def test_any_missing_longer_or_shorter_blob_is_found(archive: Path, tmp_path: Path) -> None:
    files = unpacked(archive)
    for name in [name for name in files if name.startswith("blobs/")]:
        rest = {other: data for other, data in files.items() if other != name}
        for changed in (rest, {**rest, name: files[name] + b"x"}, {**rest, name: b""}):
            if changed == files:
                continue
            path = tarred(tmp_path / "b.tar", changed)
            refused(path, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_blob_that_nothing_names(archive: Path, tmp_path: Path) -> None:
    files = {**unpacked(archive), "blobs/sha256/" + Digest.of(b"x").hex: b"x"}
    refused(tarred(tmp_path / "b.tar", files), tmp_path / "there", "1 blob that nothing names")


@pytest.mark.parametrize(
    "data", [b"", b"not a tar", b"\x1f\x8b" + b"x" * 600, b"x" * 10240, b"\0" * 10240]
)
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(data)
    refused(tmp_path / "b.tar", tmp_path / "there")


def test_a_pipe_is_not_waited_for(archive: Path, tmp_path: Path) -> None:
    """Not even one that takes the archive's place while it is read."""
    files = ArchiveFiles(archive)
    archive.unlink()
    os.mkfifo(archive)
    refused(archive, tmp_path / "there", "expected a regular file")
    with pytest.raises(IntegrityError, match="expected a regular file"):
        files.open("index.json", 1)


def test_headers_that_promise_more_than_there_is(archive: Path, tmp_path: Path) -> None:
    """A pax header of a gigabyte, and a file of 8 exabytes, cost no memory."""
    files = unpacked(archive)
    for kind, size in ((tarfile.XHDTYPE, 1 << 30), (tarfile.REGTYPE, (8 << 60) - 1)):
        path = tarred(tmp_path / "b.tar", files)
        info = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
        info.type, info.size = kind, size
        data = path.read_bytes().rstrip(b"\0")
        data += bytes(-len(data) % 512)
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + data)
        refused(path, tmp_path / "there")


def test_headers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extended headers, each for the next; and more folders than anybody has blobs."""
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, 512
    record = b"512 path=".ljust(511, b"a") + b"\n"
    path = tmp_path / "b.tar"
    path.write_bytes((extended.tobuf(tarfile.USTAR_FORMAT) + record) * 5000)
    refused(path, tmp_path / "there", "two extended headers of one kind")
    monkeypatch.setattr("plinth.formats.tar.MAX_ENTRIES", 100)
    path.write_bytes(_folder("blobs").tobuf(tarfile.USTAR_FORMAT) * 101)
    refused(path, tmp_path / "there", "more than 100 entries")


def edited(archive: Path, path: Path, edit: Callable[[Json], object]) -> Path:
    files = unpacked(archive)
    index = json.loads(files["index.json"])
    edit(index["manifests"])
    files["index.json"] = json.dumps(index).encode()
    return tarred(path, files)


def _image_of(entries: Json) -> Json:
    return next(e for e in entries if e.get("annotations", {}).get(REF) == IMAGE)


def _bundle_of(entries: Json) -> Json:
    return next(e for e in entries if e.get("annotations", {}).get(SUBJECT))


def _kind_of(entries: Json, kind: str) -> Json:
    return next(e for e in entries if e.get("artifactType") == kind)


ROOT = b"trusted-root = "
REF, CALLED = "org.opencontainers.image.ref.name", "io.containerd.image.name"
SUBJECT = "io.containerd.manifest.subject"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: _image_of(m)["annotations"].update({REF: "../x"}), "no name of its own"),
        (lambda m: _image_of(m)["annotations"].update({REF: "a\x1b[2J"}), "no name of its own"),
        (lambda m: _image_of(m)["annotations"].update({REF: "sha256-x"}), "no name of its own"),
        (lambda m: _image_of(m).pop("annotations"), "no name of its own"),
        (lambda m: m.append(_image_of(m)), "no name of its own"),
        (
            lambda m: _image_of(m)["annotations"].update({CALLED: "debian:latest"}),
            "its index calls",
        ),
        (lambda m: m.remove(_image_of(m)), "to an image it does not hold"),
        (lambda m: m.remove(_bundle_of(m)), "blobs that nothing names"),
        (lambda m: m.clear(), "blobs that nothing names"),
        (lambda m: _image_of(m).update(size=True), "not a descriptor"),
        (lambda m: _image_of(m).update(size=10**12), "too many"),
        (lambda m: _image_of(m).update(digest="sha512:x"), "not a descriptor"),
        (
            lambda m: _bundle_of(m)["annotations"].update({SUBJECT: "sha256:" + "0" * 64}),
            "as the index has it",
        ),
        (lambda m: _bundle_of(m).update(mediaType=INDEX), "does not hold"),
        (lambda m: m.append(_bundle_of(m)), "twice"),
        (lambda m: m.append({"mediaType": "text/plain"}), "of an unknown type"),
        (lambda m: m.append(7), "not an OCI image index"),
        (lambda m: _kind_of(m, INPUTS).update(artifactType=TRUST_TYPE), "not of the type"),
        (lambda m: m.append(_kind_of(m, TRUST_TYPE)), "more than once"),
        (lambda m: m.remove(_kind_of(m, INPUTS)), "blobs that nothing names"),
    ],
)
def test_an_index_that_does_not_fit(
    archive: Path, tmp_path: Path, edit: Callable[[Json], object], message: str
) -> None:
    path = edited(archive, tmp_path / "b.tar", edit)
    refused(path, tmp_path / "there", message)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("data", "name", "error", "message"),
    [
        (b"no zip", NAME, WheelError, "zip"),
        (zipped(wheel_files({"../../evil": b""})), NAME, WheelError, "path escapes"),
        (SOUND, "other-1.0-py3-none-any.whl", WheelError, "another project"),
        (SOUND, "demo.whl", AirgapError, "no wheel's name"),
        (SOUND, "../demo-1.0-py3-none-any.whl", PlinthError, "demo"),
    ],
)
def test_wheels_are_inspected_before_they_enter(
    checkout: Checkout,
    tmp_path: Path,
    data: bytes,
    name: str,
    error: type[PlinthError],
    message: str,
) -> None:
    cargo = checkout.collect(trust=None)
    cargo.blobs[Digest.of(data)] = data
    subject = Descriptor(MANIFEST, checkout.image())
    cargo.add_artifact(INPUTS, artifact(INPUTS, [Piece(Digest.of(data), name)], subject=subject))
    write_archive(cargo, tmp_path / "b.tar")
    assert isinstance(refused(tmp_path / "b.tar", tmp_path / "there", message), error)
    assert not BlobStore(tmp_path / "there" / "cache").has(Digest.of(data))
    assert not (tmp_path / "there" / "oci" / "index.json").exists()


def test_inputs_and_bundles_of_an_image_that_is_not_there(
    checkout: Checkout, tmp_path: Path
) -> None:
    stranger = Descriptor(MANIFEST, Digest.of(b"another image"))
    cargo = checkout.collect(trust=None)
    for digest, data in list(cargo.blobs.items()):
        if isinstance(data, bytes) and INPUTS.encode() in data:
            changed = json.loads(data) | {"subject": stranger.to_json()}
            del cargo.blobs[digest]
            cargo.entries = [e for e in cargo.entries if e["digest"] != digest.oci]
            cargo.add_artifact(INPUTS, canonical_json(changed))
    write_archive(cargo, tmp_path / "b.tar")
    refused(tmp_path / "b.tar", tmp_path / "there", "about an image it does not hold")


@pytest.mark.parametrize("name", ["../../evil", "evil.json", ""])
def test_a_root_has_no_name_but_its_own(checkout: Checkout, tmp_path: Path, name: str) -> None:
    class Hostile(Trust):
        def files(self) -> dict[str, bytes]:
            return {**super().files(), name: b"evil"}

    cargo = checkout.collect(trust=Hostile(b"root", POLICY))
    write_archive(cargo, tmp_path / "b.tar")
    refused(tmp_path / "b.tar", tmp_path / "there", "beside a trusted root")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        # People compare the fingerprint of the root beside it.
        (ROOT + b'"../../cache/blobs/sha256/%s"' % (b"0" * 64), "which is the root that came with"),
        (ROOT + b'"policy.toml"', "which is the root that came with"),
        (b'trust = "trusted_root.json"', "which is the root that came with"),
        (ROOT + b'"trusted_root.json"\ntrust = "public"', "trust"),
        (b"", "which is the root that came with"),
        (ROOT + b'"trusted_root.json"\nrequire-clean = true', "and nothing else"),
        (ROOT + b'"trusted_root.json"\nidentities = "a"', "identities: not a key"),
        (b"a = " + b"[" * 1000, "nested"),
        (b"a = " + b"1" * 5000, "digits"),
        (b"\xff", "utf-8"),
    ],
)
def test_the_policy_in_it_is_for_the_root_in_it(
    checkout: Checkout, tmp_path: Path, policy: bytes, message: str
) -> None:
    who = b'identity = "me@example.org"\nissuer = "https://i.example.org"\n'
    write_archive(checkout.collect(trust=Trust(TRUST.root, who + policy)), tmp_path / "b.tar")
    refused(tmp_path / "b.tar", tmp_path / "there", message)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "field", [{"urls": 5}, {"artifactType": 5}, {"data": "!"}, {"platform": []}, {"more": {}}]
)
def test_a_bundle_is_listed_as_others_are(
    checkout: Checkout, archive: Path, tmp_path: Path, field: Json
) -> None:
    """One entry that tools in Go cannot read keeps them from every image of the layout."""
    path = edited(archive, tmp_path / "b.tar", lambda m: _bundle_of(m).update(field))
    imported(path, tmp_path / "there")
    listed = read_index(BlobStore(tmp_path / "there" / "oci"))["manifests"]
    assert [e for e in listed if SUBJECT in annotations_of(e)] == [
        e for e in read_index(checkout.ws.layout)["manifests"] if SUBJECT in annotations_of(e)
    ]


@pytest.mark.parametrize("title", ["", "A B", "-", "a//b", "a:1"])
def test_an_image_that_no_engine_could_name(tmp_path: Path, title: str) -> None:
    """One such name, and no engine loads the layout that it is in."""
    ws = Workspace(tmp_path, tmp_path / "build")
    image = make_image(ws.layout, IMAGE).manifest.digest
    manifest = canonical_json({**json.loads(ws.layout.get(image)), "annotations": {TITLE: title}})
    files = {name: data for name, data in layout_files(ws.layout).items() if image.hex not in name}
    entry = {
        **Descriptor(MANIFEST, Digest.of(manifest)).to_json(),
        "annotations": {REF: IMAGE, CALLED: canonical(f"{title}:latest")},
    }
    files[f"blobs/sha256/{Digest.of(manifest).hex}"] = manifest
    files["index.json"] = canonical_json({"schemaVersion": 2, "manifests": [entry]})
    refused(tarred(tmp_path / "b.tar", files), tmp_path / "there", "no engine could name")


@pytest.mark.parametrize("lacking", [b"identity", b"issuer"])
def test_the_policy_in_it_says_who_signs(
    checkout: Checkout, tmp_path: Path, lacking: bytes
) -> None:
    policy = b"".join(one for one in POLICY.splitlines(True) if not one.startswith(lacking))
    write_archive(checkout.collect(trust=Trust(TRUST.root, policy)), tmp_path / "b.tar")
    refused(tmp_path / "b.tar", tmp_path / "there", "expected identity, issuer")


def test_blobs_are_copied_piece_by_piece(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of a blob is in memory than one piece, writing and reading."""
    large = checkout.ws.cache.put(b"x" * (3 * CHUNK + 1))
    cargo = checkout.collect()
    wheel = Digest.of(WHEEL)
    manifest = next(
        d for d, c in cargo.blobs.items() if isinstance(c, bytes) and wheel.hex.encode() in c
    )
    document = json.loads(cargo.blobs[manifest])  # type: ignore[arg-type]
    document["layers"].append(Descriptor("application/octet-stream", large).to_json())
    del cargo.blobs[manifest]
    cargo.entries = [e for e in cargo.entries if e["digest"] != manifest.oci]
    cargo.add_artifact(INPUTS, canonical_json(document))
    cargo.blobs[large] = checkout.ws.cache.path(large)
    write_archive(cargo, tmp_path / "b.tar")
    sizes: list[int] = []
    write = BlobWriter.write

    def seen(self: BlobWriter, data: bytes) -> None:
        sizes.append(len(data))
        write(self, data)

    monkeypatch.setattr(BlobWriter, "write", seen)
    imported(tmp_path / "b.tar", tmp_path / "there")
    assert max(sizes) == CHUNK
    assert BlobStore(tmp_path / "there" / "cache").has(large)


def test_documents_are_read_and_nothing_else(archive: Path) -> None:
    found = read_manifest(ArchiveFiles(archive))
    assert set(found.images) == {IMAGE}
    assert OTHER not in found.images
    assert Digest.of(WHEEL) in found.cache
    assert Digest.of(TRUST.root) not in found.cache | found.layout
