"""Everything an image is made from, by digest, as its locks have it (SLSA resolvedDependencies)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from packageurl import PackageURL

from plinth.core.digest import Digest, Json
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.base import BaseSpec, DebianRootfs, ImageRootfs, StandalonePython, load_base
from plinth.recipe.image import load_image
from plinth.recipe.locks import stale
from plinth.recipe.locks.accelerator import read_lock as read_accelerator_lock
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.base import read_lock as read_base_lock
from plinth.recipe.locks.packages import read_packages
from plinth.recipe.locks.pylock import LockedPackage, every_file

TREE = "plinth-tree"
"""Marks the one input that is a folder: its digest is `plinth.formats.python.tree.tree_digest`."""


@dataclass(frozen=True, order=True)
class Material:
    """One input: `uri` says what it is (a purl where there is one), `name` its file."""

    uri: str
    name: str
    digest: Digest
    annotations: dict[str, Json] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Json]:
        """The input as an in-toto ResourceDescriptor (v1)."""
        return {
            "uri": self.uri,
            "name": self.name,
            "digest": {"sha256": self.digest.hex},
            "annotations": {"size": self.digest.size, **self.annotations},
        }


def materials(ws: Workspace, image_id: str, base: str, accelerator: str = "") -> list[Material]:
    """All that a build of `image_id` on `base` with the set `accelerator` (empty: none) takes in,
    read from the locks in the tree, sorted.

    Raises:
        LockError: a lock is missing, stale, or edited by hand.
        SpecError, ProblemsError: a specification or a lock is malformed.
    """
    spec = load_image(ws.images, image_id)
    lock = stale.check(ws, image_id)
    base_spec = load_base(ws.bases, base)
    found = [*_base(ws, base_spec), *_wheels(lock.packages)]
    distribution = _distribution(base_spec)
    found += _debs(read_packages(ws, spec, base), distribution)
    if accelerator:
        extra = load_accelerator(ws.bases, accelerator)
        extra_lock = read_accelerator_lock(ws, extra)
        found += [*_debs(extra_lock.packages, ""), *_wheels(extra_lock.wheels)]
    return sorted(_each_once(found))


def _each_once(found: Iterable[Material]) -> Iterator[Material]:
    """Each input once: annotations do not tell inputs apart."""
    seen: set[tuple[str, str, str]] = set()
    for one in found:
        key = one.uri, one.name, one.digest.hex
        if key not in seen:
            seen.add(key)
            yield one


def _distribution(spec: BaseSpec) -> str:
    return spec.rootfs.distribution if isinstance(spec.rootfs, DebianRootfs) else ""


def _base(ws: Workspace, spec: BaseSpec) -> Iterator[Material]:
    lock = read_base_lock(ws, spec)
    if isinstance(spec.rootfs, ImageRootfs):
        rootfs = spec.rootfs
        purl = PackageURL(
            "oci", None, rootfs.repository.rpartition("/")[2], rootfs.manifest.oci
        ).to_string()
        yield Material(purl, "manifest", rootfs.manifest)
        yield Material(purl, "layer", rootfs.layer, {"diff_id": f"sha256:{rootfs.diff_id}"})
    yield from _debs(lock.packages, _distribution(spec))
    python = spec.python
    if isinstance(python, StandalonePython):
        uri = PackageURL("generic", None, "cpython", python.version).to_string()
        yield Material(uri, python.asset, python.digest)
    elif lock.tree is not None:
        uri = PackageURL("generic", None, "cpython", python.version).to_string()
        yield Material(uri, "interpreter tree", lock.tree, {"kind": TREE})


def _debs(packages: Iterable[LockedDeb], distribution: str) -> Iterator[Material]:
    for package in packages:
        qualifiers = {"arch": package.architecture}
        purl = PackageURL("deb", distribution or None, package.name, package.version, qualifiers)
        yield Material(purl.to_string(), package.path.rsplit("/", 1)[-1], package.digest)


def _wheels(packages: Iterable[LockedPackage]) -> Iterator[Material]:
    for package in every_file(packages):
        purl = PackageURL("pypi", None, package.name, package.version)
        yield Material(purl.to_string(), package.file.name, package.file.digest)
