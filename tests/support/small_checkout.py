"""A checkout of one small image that builds for real, in about a second and without network."""

from __future__ import annotations

import io
import random
import shutil
import sys
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.formats.python.stored import keep_tree
from plinth.formats.python.tree import TreeFile
from plinth.graph.workspace import Workspace
from plinth.recipe.base import load_base
from plinth.recipe.image import load_image, load_target
from plinth.recipe.locks.base import BaseLock, LockedDeb, write_lock
from plinth.recipe.locks.base import inputs_of as base_inputs_of
from plinth.recipe.locks.inputs import checksum, inputs_of
from plinth.recipe.locks.pylock import ImageLock, LockedFile, LockedPackage, dump
from support.debs import Package
from support.helpers import make_wheel

ROOT = Path(__file__).resolve().parents[2]
BASE = "small"
IMAGE = "small"
DEBS = (
    Package(
        "base-passwd",
        files={
            "usr/share/base-passwd/passwd.master": b"root:*:0:0:root:/root:/bin/bash\n",
            "usr/share/base-passwd/group.master": b"root:*:0:\nshadow:*:42:\n",
        },
    ),
    Package(
        "base-files",
        files={
            "etc/debian_version": b"12.9\n",
            "usr/bin/hello": b"#!/bin/sh\n",
            # As ca-certificates has one: a name that a locale could decide how to read.
            "usr/share/ca-certificates/Főtanúsítvány.crt": b"a certificate\n",
        },
    ),
)


@dataclass(frozen=True)
class SmallCheckout:
    """A checkout at `root`; its wheels are in `wheels`, its .debs in `archive`, as a mirror has
    them. What `settings` names is where they come from."""

    root: Path

    @property
    def ws(self) -> Workspace:
        return Workspace(self.root, self.root / "build")

    @property
    def wheels(self) -> Path:
        return self.root.parent / f"{self.root.name}-wheels"

    @property
    def archive(self) -> Path:
        return self.root.parent / f"{self.root.name}-archive"

    @property
    def settings(self) -> Path:
        return self.root.parent / f"{self.root.name}-settings.toml"

    def command(self, *arguments: str) -> list[str]:
        """The command line of plinth; run it in `root`, with `PLINTH_CONFIG` naming `settings`."""
        return [sys.executable, "-m", "plinth", *arguments]

    def doit(self, *arguments: str) -> list[str]:
        """The command line of doit, likewise."""
        return [sys.executable, "-m", "doit", *arguments]

    def write_settings(self, archive: str = "") -> None:
        """Let wheels come from the folder, .debs from the URL `archive`, and the interpreter from
        nowhere but the store."""
        document = {
            # Some who build here are no children of pytest, which switches these off.
            "public": False,
            "files": {"wheels": str(self.wheels)},
            "python": {"3.7": str(self.root / "none")},
            **({"apt": {"debian": archive}} if archive else {}),
        }
        self.settings.write_text(tomli_w.dumps(document))

    def seed(self, *, debs: bool) -> None:
        """Put into the store what a build asks of nobody: the interpreter; with `debs`, those."""
        keep_tree(self.ws.cache, interpreter())
        if debs:
            for package in DEBS:
                self.ws.cache.put(package.deb)

    def lock(self, wheels: Sequence[Path], image: str = IMAGE) -> None:
        """Let the lock of `image` name exactly `wheels`, and sdists, which lie in the folder."""
        target = load_target(self.ws.bases, BASE)
        spec = load_image(self.ws.images, image)
        below = self.ws.locks / spec.extends / "requirements.txt"
        extended = Digest.of_file(below).hex if spec.extends else ""
        inputs = inputs_of(spec, target, extended)
        packages = tuple(sorted(map(locked, wheels), key=lambda package: package.name))
        text = "".join(
            f"{package.name}=={package.version} \\\n    --hash={package.file.digest.oci}\n"
            for package in packages
        )
        lock = ImageLock(
            packages, target.python, inputs, checksum(inputs), Digest.of(text.encode()).hex
        )
        folder = self.ws.locks / image
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "requirements.txt").write_text(text)
        (folder / "pylock.toml").write_text(dump(lock))


def locked(path: Path) -> LockedPackage:
    """The package whose file is the wheel or sdist at `path`, as a lock names it."""
    is_sdist = path.name.endswith(".tar.gz")
    name, version = path.name.removesuffix(".tar.gz").split("-")[:2]
    file = LockedFile(path.name, Digest.of_file(path), "1970-01-01T00:00:00+00:00")
    return LockedPackage(canonicalize_name(name), version, file, is_sdist=is_sdist, direct=True)


def interpreter() -> list[TreeFile]:
    """An interpreter: a script that runs the tests' own CPython, a module, and a file whose name is
    not ASCII."""
    script = f'#!/bin/sh\nexec {sys.executable} "$@"\n'.encode()
    return [
        TreeFile("bin/python3.7", 0o755, script),
        TreeFile("lib/python3.7/Grüße.txt", 0o644, b"a text\n"),
        TreeFile("lib/python3.7/os.py", 0o644, b"name = 'posix'\n"),
    ]


def wheel(folder: Path, name: str, version: str, *, modules: int = 3, data: int = 4_000) -> Path:
    """A wheel of `modules` modules and of `data` bytes that do not compress, the same wherever it
    is made."""
    drawn = random.Random(f"{name} {version}")  # noqa: S311
    files = {
        f"{name}/m{number}.py": f"VERSION = {version!r}\nX = {drawn.random()}\n".encode()
        for number in range(modules)
    }
    files[f"{name}/data.bin"] = drawn.randbytes(data)
    return make_wheel(folder, files, name=name, version=version)


def sdist(folder: Path, name: str, version: str) -> Path:
    """An sdist of nothing but what every one has."""
    top = f"{name}-{version}"
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    info = tarfile.TarInfo(f"{top}/PKG-INFO")
    info.size = len(text)
    path = folder / f"{top}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info, io.BytesIO(text))
    return path


def some_wheels(folder: Path) -> list[Path]:
    """Eight wheels: one that layers hash in threads, one of many modules, and small ones."""
    return [
        wheel(folder, "large", "1.0", data=5 << 20),
        wheel(folder, "many", "2.0", modules=150),
        *(wheel(folder, f"package{n}", f"1.{n}", data=100_000 * n) for n in range(6)),
    ]


def make(
    root: Path, wheels: Iterable[Path] = (), *, images: Sequence[str] = (IMAGE,)
) -> SmallCheckout:
    """A checkout at `root`, locked to `wheels` (none: `some_wheels`), with nothing in its store."""
    checkout = SmallCheckout(root)
    for folder in (checkout.wheels, checkout.archive, root / "images", root / "locks" / "base"):
        folder.mkdir(parents=True)
    shutil.copytree(ROOT / "base" / "rootfs", root / "base" / "rootfs")
    shutil.copyfile(ROOT / "dodo.py", root / "dodo.py")
    (root / "tools").symlink_to(ROOT / "tools")
    for image in images:
        (root / "images" / f"{image}.toml").write_text(
            f'framework = "{image}"\naccelerator = "cpu"\nbase = "{BASE}"\nsummary = "a test"\n'
            "[python]\nrequirements = []\n"
        )
    (root / "base" / f"{BASE}.toml").write_text(
        'summary = "a test"\narchitecture = "amd64"\nglibc = "2.36"\n'
        '[rootfs]\nkind = "debian"\ndistribution = "debian"\nsuites = ["bookworm"]\n'
        'components = ["main"]\nkeyring = "none"\n'
        f"packages = {[package.name for package in DEBS]}\n"
        '[python]\nversion = "3.7"\nkind = "found"\nrequirements = []\n'
    )
    _lock_base(checkout)
    for package in DEBS:
        path = checkout.archive / package.path()
        path.parent.mkdir(parents=True)
        path.write_bytes(package.deb)
    checkout.write_settings()
    named = list(wheels) or some_wheels(checkout.wheels)
    for image in images:
        checkout.lock(named, image)
    return checkout


def _lock_base(checkout: SmallCheckout) -> None:
    debs = tuple(
        LockedDeb(p.name, p.version, "amd64", "bookworm", p.path(), Digest.of(p.deb)) for p in DEBS
    )
    inputs = base_inputs_of(load_base(checkout.ws.bases, BASE))
    # Where the tree is kept does not matter: its digest does.
    tree = keep_tree(BlobStore(checkout.archive / "tree"), interpreter())
    write_lock(checkout.ws, BASE, BaseLock(debs, {}, tree, inputs))
