"""The recipe of an image: every specification and lock that decides it, read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest
from plinth.core.errors import LockError
from plinth.core.regular import read_regular
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU, Accelerator
from plinth.recipe.base import LOCAL, BaseSpec, DebianRootfs, check_serves, load_base, origin
from plinth.recipe.ids import files_of
from plinth.recipe.image import ImageSpec, Target
from plinth.recipe.locks.accelerator import AcceleratorLock, LockedVendorFile, choose
from plinth.recipe.locks.base import (
    BaseLock,
    Local,
    LockedDeb,
    local_text,
    read_local,
    read_lock,
)
from plinth.recipe.locks.packages import read_packages
from plinth.recipe.locks.pylock import ImageLock, LockedPackage
from plinth.recipe.locks.stale import LockedImage, read_image
from plinth.recipe.record import Record, read_record
from plinth.recipe.target import fits


@dataclass(frozen=True)
class Recipe:
    """Specifications and locks of one image on one base, fresh and whole.

    `parent` is the image it extends, None where it extends no other. `accelerator` and its lock
    are None where the image holds no set; `note` says why, where its specification asks for one.
    `files` is the one list of the files that decide the image: their content, by path relative to
    the checkout.
    """

    spec: ImageSpec
    target: Target
    lock: ImageLock
    parent: LockedImage | None
    base: BaseSpec
    base_lock: BaseLock
    os_packages: tuple[LockedDeb, ...]
    accelerator: Accelerator | None
    accelerator_lock: AcceleratorLock | None
    note: str
    files: Mapping[str, bytes]

    @classmethod
    def load(cls, ws: Workspace, image_id: str, *, base: str = "", accelerator: str = "") -> Recipe:
        """The recipe of `image_id` on `base` (empty: the one it was last built on, else the
        fallback of its own, which can be built anywhere).

        `accelerator` is a set or `cpu`; empty: the set of the specification, where it is locked.

        Raises:
            SpecError: a specification is invalid, or the lock does not serve that base.
            LockError: a lock is missing, stale, or edited by hand.
            ProblemsError: a lock is malformed.
        """
        image = read_image(ws, image_id)
        name = base or _usual_base(ws, image)
        return cls.of(ws, image, base=name, accelerator=accelerator)

    @classmethod
    def of(
        cls,
        ws: Workspace,
        image: LockedImage,
        *,
        base: str,
        local: Local | None = None,
        accelerator: str = "",
    ) -> Recipe:
        """As `load`, of an image that is read already, before its base was chosen; `local` is
        what a local base is (None: what is noted for it)."""
        spec = image.spec
        check_serves(image.target.bases[0], base)
        base_spec = load_base(ws.bases, base)
        if local is None and base.endswith(LOCAL):
            local = read_local(ws, base)
        base_lock = read_lock(ws, base_spec, local)
        packages = read_packages(ws, spec, base_spec, base_lock)
        extra, extra_lock, note = choose(ws, spec.accelerator, insist=accelerator)
        if extra is not None and extra_lock is not None:
            _check_fits(image, extra, extra_lock)
        paths = [*files_of(ws, spec.id), *_shared(ws, image, extra)]
        paths.append(ws.locks / "base" / f"{origin(base)}.toml")
        named = {path.relative_to(ws.root).as_posix(): path for path in paths}
        files = {name: read_regular(path, name, ws.root) for name, path in named.items()}
        if local is not None:
            files[f"locks/base/{base}.toml"] = local_text(local)
        return cls(
            spec,
            image.target,
            image.lock,
            image.parent,
            base_spec,
            base_lock,
            packages,
            extra,
            extra_lock,
            note,
            dict(sorted(files.items())),
        )

    @property
    def name(self) -> str:
        """The name the image is published under."""
        label = self.accelerator.label if self.accelerator else ""
        return self.spec.published(self.base.name, label)

    @property
    def pinned(self) -> tuple[str, ...]:
        """What the lock has for each requirement of the specification: `numpy 1.21.6`."""
        versions = {package.name: package.version for package in self.lock.packages}
        names = [canonicalize_name(Requirement(text).name) for text in self.spec.requirements]
        # Not there is what a marker leaves out.
        return tuple(
            f"{name} {versions[name]}" if name in versions else f"no {name} on this target"
            for name in names
        )

    @property
    def wheels(self) -> tuple[LockedPackage, ...]:
        """All Python packages: the image's, the set's."""
        return (*self.lock.packages, *self.accelerator_wheels)

    @property
    def accelerator_wheels(self) -> tuple[LockedPackage, ...]:
        """The Python packages of the set."""
        return self.accelerator_lock.wheels if self.accelerator_lock else ()

    @property
    def accelerator_debs(self) -> tuple[LockedDeb, ...]:
        """The Debian packages of the set."""
        return self.accelerator_lock.packages if self.accelerator_lock else ()

    @property
    def accelerator_files(self) -> tuple[LockedVendorFile, ...]:
        """The archives of vendors that the set is made of."""
        return self.accelerator_lock.files if self.accelerator_lock else ()

    @property
    def debs(self) -> tuple[LockedDeb, ...]:
        """All Debian packages: the base's, the image's, the set's."""
        return (*self.base_lock.packages, *self.os_packages, *self.accelerator_debs)

    @property
    def distribution(self) -> str:
        """The distribution whose archive the base is assembled from; empty where it is pulled."""
        return self.base.rootfs.distribution if isinstance(self.base.rootfs, DebianRootfs) else ""

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each of `files`, in hexadecimal."""
        return {path: Digest.of(data).hex for path, data in self.files.items()}

    def changed_since(self, record: Record) -> list[str]:
        """Paths of the files that are not as they were when `record` was made."""
        now, then = self.digests, record.inputs
        return sorted(path for path in {*now, *then} if now.get(path) != then.get(path))


def _usual_base(ws: Workspace, image: LockedImage) -> str:
    wanted = image.target.bases[0]
    record = read_record(ws, image.spec.id)
    if record is not None and origin(record.base) in (wanted.name, wanted.fallback):
        return record.base
    return wanted.fallback or wanted.name


def _shared(ws: Workspace, image: LockedImage, extra: Accelerator | None) -> Iterator[Path]:
    """The files of the checkout that the image shares with others, but for its base's lock."""
    for base in image.target.bases:
        yield ws.bases / f"{base.name}.toml"
    # One that lacks its set is named so: building it again reads the set's specification.
    for name in {image.spec.accelerator, extra.name if extra else CPU} - {CPU}:
        if (path := ws.bases / f"{name}.toml").exists():
            yield path
    if extra is not None:
        yield ws.locks / "base" / f"{extra.name}.toml"
    yield from (path for path in (ws.bases / "rootfs").rglob("*") if path.is_file())


def _check_fits(image: LockedImage, extra: Accelerator, lock: AcceleratorLock) -> None:
    """Refuse a set that was locked for another Python or libc than the image's."""
    target = image.target
    wrong = [one.file.name for one in lock.wheels if not fits(one.file.name, target)]
    if wrong:
        raise LockError(
            f"wheels of the set {extra.name} do not fit the image {image.spec.id}",
            where=f"locks/base/{extra.name}.toml",
            expected=f"wheels for {target}",
            found=", ".join(wrong),
            remedy=f"name the set as accelerator in images/{image.spec.id}.toml, delete the lock "
            f"and run doit lock:{extra.name}",
        )
