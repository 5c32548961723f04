"""An accelerator set's whole way: signed archive, lock, layers, linker, image, container."""

from __future__ import annotations

import functools
import random
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli

from plinth.build.accelerator import accelerator_layers, linker_layer
from plinth.build.closure import scan
from plinth.core.digest import Digest
from plinth.core.errors import (
    FetchError,
    IntegrityError,
    LockError,
    PackageError,
    PlinthError,
    ProblemsError,
    StaleLockError,
)
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.formats.elf.closure import Rules, check
from plinth.formats.layer.model import Layer
from plinth.graph.workspace import Workspace
from plinth.lock.accelerator import lock_accelerator
from plinth.recipe.accelerator import Accelerator, load_accelerator
from plinth.recipe.locks.accelerator import choose, read_lock
from support.debs import Archive, Entry, Key, Package, change, flipped, symlink
from support.elves import Root, program, shared
from support.http_server import Server, serving
from support.sessions import session_of

ROOT = Path(__file__).resolve().parents[2]
SET = "cuda11.0.3-debs"
IMAGE = "tensorflow-2.4-cuda11.0.3"
ARCHIVE = "cuda-ubuntu1804"
LOCK = f"locks/base/{SET}.toml"
PINNED = "eb693b3035cd5710e231e123a4b469963bf863cc"
CUDA = "usr/local/cuda-11.0/targets/x86_64-linux/lib"
SYSTEM = "usr/lib/x86_64-linux-gnu"

# What each package of the vendor holds: folder, and libraries with what they need.
CONTENTS: dict[str, tuple[str, dict[str, list[str]]]] = {
    "cuda-cudart-11-0": (CUDA, {"libcudart.so.11.0": []}),
    "libcublas-11-0": (CUDA, {"libcublas.so.11": ["libcublasLt.so.11"], "libcublasLt.so.11": []}),
    "libcufft-11-0": (CUDA, {"libcufft.so.10": []}),
    "libcurand-11-0": (CUDA, {"libcurand.so.10": []}),
    "libcusolver-11-0": (CUDA, {"libcusolver.so.10": ["libcublas.so.11", "libcublasLt.so.11"]}),
    "libcusparse-11-0": (CUDA, {"libcusparse.so.11": []}),
    "libcudnn8": (SYSTEM, {"libcudnn.so.8": ["libcudart.so.11.0"]}),
}
# Large enough for a layer of its own.
LARGE = "libcublas-11-0"
SONAMES = sorted(name for _, libraries in CONTENTS.values() for name in libraries)


@functools.cache
def packages(without: str = "") -> tuple[Package, ...]:
    """The packages the set asks for, in the versions it asks for, with small real libraries;
    `without` is a library that its package lacks."""
    (archive,) = load_accelerator(ROOT / "base", SET).archives
    terms = {"usr/share/doc/cuda-license-11-0/copyright": b"terms\n"}
    found = [Package("cuda-license-11-0", "11.0.228-1", "all", terms)]
    for text in archive.packages:
        name, _, version = text.partition("=")
        folder, libraries = CONTENTS[name]
        files: dict[str, bytes | Entry] = {f"usr/share/doc/{name}/copyright": b"terms\n"}
        for soname, needed in libraries.items():
            if soname != without:
                files[f"{folder}/{soname}.221"] = shared(soname, needed=needed)
                files[f"{folder}/{soname}"] = symlink(f"{folder}/{soname}", f"{soname}.221")
        if name == LARGE:
            files[f"{folder}/kernels.bin"] = random.Random(0).randbytes(9_000_000)  # noqa: S311
        fields = {"Depends": "libc6 (>= 2.17), cuda-license-11-0"}
        found.append(Package(name, version, files=files, fields=fields, compression=""))
        # A newer one, which nobody asked for.
        found.append(Package(name, f"{version}.9", fields=fields, compression=""))
    return tuple(found)


@dataclass(frozen=True)
class Vendor:
    """A signed flat archive on a local server, and the settings that name it."""

    archive: Archive
    server: Server
    keyring: Path

    @property
    def config(self) -> Config:
        return Config(apt={ARCHIVE: f"{self.server.url}/"}, keyrings={ARCHIVE: str(self.keyring)})


@pytest.fixture(scope="session")
def key() -> Key:
    return Key()


@pytest.fixture
def vendor(tmp_path: Path, key: Key) -> Iterator[Vendor]:
    archive = Archive(tmp_path / "archive", key)
    archive.add("/", *packages())
    archive.publish(compressions=("gz",))
    keyring = key.write_keyring(tmp_path / "keys.gpg")
    with serving(archive.root) as server:
        yield Vendor(archive, server, keyring)


def trust(root: Path, fingerprint: str) -> None:
    """Have the checkout at `root` expect the set's archive to be signed by that key."""
    path = root / "base" / f"{SET}.toml"
    text = path.read_text()
    assert f'fingerprint = "{PINNED}"' in text
    path.write_text(text.replace(PINNED, fingerprint))


@pytest.fixture
def ws(tmp_path: Path, key: Key) -> Workspace:
    """A checkout that has the set's specification and nothing else."""
    root = tmp_path / "checkout"
    (root / "base").mkdir(parents=True)
    shutil.copyfile(ROOT / "base" / f"{SET}.toml", root / "base" / f"{SET}.toml")
    trust(root, key.fingerprint.upper())
    return Workspace(root, root / "build")


def lock(ws: Workspace, config: Config) -> bool:
    return lock_accelerator(ws, SET, config=config, progress=quiet)


def refused(kind: type[PlinthError], ws: Workspace, config: Config) -> PlinthError:
    """The error with which locking ends; it leaves no lock."""
    with pytest.raises(kind) as raised:
        lock(ws, config)
    assert not (ws.root / LOCK).exists()
    return raised.value


# Locking.


def test_the_lock_names_every_package_by_digest(ws: Workspace, vendor: Vendor) -> None:
    assert lock(ws, vendor.config) is True
    document = tomli.loads((ws.root / LOCK).read_text())
    debs = {p.name: p for p in reversed(vendor.archive._suites["/"]["main"])}
    assert document["packages"] == [
        {
            "name": name,
            "version": debs[name].version,
            "architecture": debs[name].architecture,
            "suite": ARCHIVE,
            "path": debs[name].file,
            "size": len(debs[name].deb),
            "sha256": Digest.of(debs[name].deb).hex,
        }
        for name in sorted([*CONTENTS, "cuda-license-11-0"])
    ]
    assert document["indexes"].keys() == {ARCHIVE}
    assert document["wheels"] == []
    # Where it came from is the machine's business.
    assert "127.0.0.1" not in (ws.root / LOCK).read_text()


def test_a_fresh_lock_is_left_alone_and_asks_no_network(ws: Workspace, vendor: Vendor) -> None:
    lock(ws, vendor.config)
    before = (ws.root / LOCK).read_bytes()
    vendor.server.asked.clear()
    assert lock(ws, vendor.config) is False
    assert lock(ws, Config()) is False
    assert vendor.server.asked == []
    assert (ws.root / LOCK).read_bytes() == before


def test_a_stale_lock_says_what_changed_and_is_made_again(ws: Workspace, vendor: Vendor) -> None:
    lock(ws, vendor.config)
    path = ws.bases / f"{SET}.toml"
    path.write_text(path.read_text().replace("libc6 =", "libc5 ="))
    with pytest.raises(StaleLockError) as raised:
        read_lock(ws, load_accelerator(ws.bases, SET))
    assert raised.value.where == LOCK
    assert raised.value.found == "omit: libc6 became libc5"
    assert raised.value.remedy == f"lock again: doit lock:{SET}"
    with pytest.raises(StaleLockError):
        choose(ws, SET)
    before = (ws.root / LOCK).read_bytes()
    with pytest.raises(PackageError, match="needs libc6"):
        lock(ws, vendor.config)
    assert (ws.root / LOCK).read_bytes() == before
    path.write_text(path.read_text().replace("libc5 =", "libc6 ="))
    assert lock(ws, vendor.config) is False


def test_a_malformed_lock_says_what_to_do(ws: Workspace, vendor: Vendor) -> None:
    lock(ws, vendor.config)
    change(ws.root / LOCK, lambda data: data.replace(b'path = "', b'path = "../'))
    with pytest.raises(ProblemsError) as raised:
        read_lock(ws, load_accelerator(ws.bases, SET))
    assert f"{LOCK}: malformed: " in str(raised.value)
    assert "escapes the archive" in str(raised.value)
    assert raised.value.remedy == f"delete it and run doit lock:{SET}"


def test_a_key_with_another_fingerprint_is_refused(ws: Workspace, vendor: Vendor, key: Key) -> None:
    path = ws.bases / f"{SET}.toml"
    path.write_text(path.read_text().replace(key.fingerprint.upper(), PINNED))
    error = refused(PackageError, ws, vendor.config)
    assert error.what == "no valid signature"
    assert error.where == f"InRelease of {ARCHIVE}"
    assert error.expected == f"a signature by a key of keys.gpg with the fingerprint {PINNED}"
    assert error.found == f"the keyring has other keys: {key.fingerprint}"


def test_a_signature_by_a_key_that_is_not_in_the_keyring_is_refused(
    ws: Workspace, vendor: Vendor
) -> None:
    vendor.archive.publish(compressions=("gz",), key=Key())
    error = refused(PackageError, ws, vendor.config)
    assert error.what == "no valid signature"
    assert error.where == f"InRelease of {ARCHIVE}"


def test_an_index_that_was_changed_after_signing_is_refused(ws: Workspace, vendor: Vendor) -> None:
    change(vendor.archive.path("/", "Packages.gz"), flipped)
    error = refused(IntegrityError, ws, vendor.config)
    assert error.what == "the index does not match the signed hash"
    assert error.where == f"Packages.gz of {ARCHIVE}"


def test_a_pinned_version_that_is_not_there_is_named_with_those_that_are(
    ws: Workspace, vendor: Vendor
) -> None:
    path = ws.bases / f"{SET}.toml"
    path.write_text(path.read_text().replace("10.2.1.245-1", "10.2.1.246-1", 1))
    error = refused(PackageError, ws, vendor.config)
    assert error.what == "no configured suite has libcufft-11-0 (= 10.2.1.246-1)"
    assert error.where == f"base/{SET}.toml: {ARCHIVE}"
    assert error.found == "libcufft-11-0 10.2.1.245-1.9, libcufft-11-0 10.2.1.245-1"


def test_without_settings_it_is_said_how_to_obtain_the_set(ws: Workspace, vendor: Vendor) -> None:
    error = refused(FetchError, ws, Config())
    assert error.what == f"no archive is configured for {ARCHIVE}"
    assert error.where == f"base/{SET}.toml: {ARCHIVE}"
    assert f"[apt] {ARCHIVE} = " in error.remedy
    assert f"[keyrings] {ARCHIVE} = " in error.remedy
    assert f"doit lock:{SET}" in error.remedy
    # Without a keyring the archive is asked for the pinned key itself.
    error = refused(FetchError, ws, Config(apt=vendor.config.apt))
    assert error.where == "3bf863cc.pub"
    vendor.keyring.rename(vendor.archive.root / "3bf863cc.pub")
    assert lock(ws, Config(apt=vendor.config.apt)) is True


# Choosing.


def test_a_set_without_lock_is_left_out_with_a_note_unless_one_insists(ws: Workspace) -> None:
    spec, found, note = choose(ws, SET)
    assert (spec, found) == (None, None)
    assert note.startswith(f"note: {SET} is not locked, so no digest of its packages is known:")
    assert f"accelerator={SET} insists" in note
    assert f"[apt] {ARCHIVE} = " in note
    assert choose(ws, "cpu") == choose(ws, SET, insist="cpu") == (None, None, "")
    with pytest.raises(LockError) as raised:
        choose(ws, "cpu", insist=SET)
    assert raised.value.where == LOCK
    assert "are not locked: no digests are known" in raised.value.what
    assert f"then run doit lock:{SET}" in raised.value.remedy


def test_a_set_with_lock_is_taken(ws: Workspace, vendor: Vendor) -> None:
    lock(ws, vendor.config)
    spec, found, note = choose(ws, SET)
    assert spec == load_accelerator(ws.bases, SET)
    assert found is not None
    assert len(found.packages) == len(CONTENTS) + 1
    assert note == ""
    assert choose(ws, "cpu", insist=SET) == (spec, found, "")


# Layers.


def built_layers(ws: Workspace, config: Config) -> tuple[Accelerator, list[Layer]]:
    """The set's layers, and the linker's on top."""
    spec = load_accelerator(ws.bases, SET)
    opened = session_of(ws)
    lock = read_lock(ws, spec)
    layers = accelerator_layers(opened, spec, lock, config=config, progress=quiet)
    return spec, [*layers, linker_layer(opened, layers, spec)]


def unpacked(ws: Workspace, layers: list[Layer], root: Root) -> dict[str, bytes]:
    """Put the files and links of layers into `root`; returns the files."""
    files = {}
    for layer in layers:
        with tarfile.open(ws.layout.path(layer.digest)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    files[member.name] = content.read()
                    root.put(member.name, files[member.name])
                elif member.issym():
                    root.link(member.name, member.linkname)
    return files


def test_packages_become_layers_and_the_linker_finds_all_of_them(
    ws: Workspace, vendor: Vendor, tmp_path: Path
) -> None:
    lock(ws, vendor.config)
    spec, layers = built_layers(ws, vendor.config)
    assert [layer.name for layer in layers] == [
        "7 OS packages, cuda-cudart-11-0 to libcusparse-11-0",
        "libcublas-11-0 11.2.0.252-1",
        "cuda11.0.3-debs linker configuration",
    ]
    root = Root(tmp_path / "root")
    files = unpacked(ws, layers, root)
    assert f"{CUDA}/libcufft.so.10.221" in files
    assert files["usr/share/doc/libcudnn8/copyright"] == b"terms\n"
    status = files["var/lib/dpkg/status.d/libcudnn8"]
    assert b"Package: libcudnn8\nVersion: 8.0.5.39-1+cuda11.0\n" in status
    assert b"libcudnn.so.8.221" in files["var/lib/dpkg/status.d/libcudnn8.md5sums"]
    assert files[f"etc/ld.so.conf.d/{SET}.conf"] == f"/{CUDA}\n".encode()
    root.put("app", program(SONAMES))
    found, complaints = root.traced("app")
    assert found == {
        name: f"/{folder}/{name}" for folder, libraries in CONTENTS.values() for name in libraries
    }, complaints
    scans = [(layer.name, scan(session_of(ws), layer)) for layer in layers]
    dlopen = (*SONAMES, "libcuda.so.1")
    assert check(scans, Rules(dlopen, frozenset(spec.host), gpu=True)) == ([], [])
    # Without the last layer the set's folder is none of the linker's.
    problems, _ = check(scans[:-1], Rules(dlopen, frozenset(spec.host), gpu=True))
    found_wrong = [str(problem) for problem in problems]
    assert "libcufft.so.10, which the framework opens, is not in the image" in found_wrong
    assert "libcudnn.so.8, which the framework opens, is not in the image" not in found_wrong
    assert (
        f"{SYSTEM}/libcudnn.so.8.221 ({layers[0].name}): "
        "needs libcudart.so.11.0, which is not in the image"
    ) in found_wrong
    # An image for the CPU has no business with any of it.
    problems, _ = check(scans, Rules())
    assert (
        f"{layers[1].name} holds libraries of a GPU: libcublas.so.11.221, libcublasLt.so.11.221"
    ) in [str(problem) for problem in problems]


def test_layers_are_made_once_and_the_same_everywhere(
    ws: Workspace, vendor: Vendor, tmp_path: Path
) -> None:
    lock(ws, vendor.config)
    _, first = built_layers(ws, vendor.config)
    assert all(layer.built for layer in first)
    vendor.server.asked.clear()
    _, again = built_layers(ws, Config())
    assert vendor.server.asked == []
    assert not any(layer.built for layer in again)
    shutil.copytree(ws.root, tmp_path / "other", ignore=shutil.ignore_patterns("build"))
    other = Workspace(tmp_path / "other", tmp_path / "other" / "build")
    _, elsewhere = built_layers(other, vendor.config)
    assert all(layer.built for layer in elsewhere)
    digests = [layer.digest for layer in first]
    assert digests == [layer.digest for layer in again] == [layer.digest for layer in elsewhere]


def test_a_package_that_changed_after_locking_is_refused(ws: Workspace, vendor: Vendor) -> None:
    lock(ws, vendor.config)
    change(vendor.archive.root / "libcufft-11-0_10.2.1.245-1_amd64.deb", flipped)
    with pytest.raises(IntegrityError) as raised:
        built_layers(ws, vendor.config)
    assert "libcufft-11-0 10.2.1.245-1" in str(raised.value)
    assert raised.value.expected.startswith("sha256:")


def test_a_package_that_is_gone_says_how_to_lock_again(ws: Workspace, vendor: Vendor) -> None:
    lock(ws, vendor.config)
    (vendor.archive.root / "libcudnn8_8.0.5.39-1+cuda11.0_amd64.deb").unlink()
    with pytest.raises(FetchError) as raised:
        built_layers(ws, vendor.config)
    assert raised.value.where == "libcudnn8 8.0.5.39-1+cuda11.0"
    assert raised.value.what == "the archive has no such file any more"
    assert f"doit lock:{SET}" in raised.value.remedy
    with pytest.raises(FetchError, match=f"no archive is configured for {ARCHIVE}"):
        built_layers(ws, Config())
