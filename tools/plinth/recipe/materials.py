"""Everything an image is made from, by digest, as its locks have it (SLSA resolvedDependencies)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from packageurl import PackageURL
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest, Json
from plinth.core.errors import LockError
from plinth.recipe.base import BaseSpec, ImageRootfs, StandalonePython
from plinth.recipe.locks.base import BaseLock, LockedDeb
from plinth.recipe.locks.pylock import every_file
from plinth.recipe.recipe import Recipe

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


def materials(recipe: Recipe) -> list[Material]:
    """All that a build takes in, as the locks of `recipe` have it, sorted.

    Raises:
        LockError: the size of an archive is not locked yet.
    """
    debs = [*recipe.base_lock.packages, *recipe.os_packages]
    found = [*_base(recipe.base, recipe.base_lock), *_debs(debs, recipe.distribution)]
    # A vendor's packages are of no distribution.
    found += _debs(recipe.accelerator_debs, "")
    found += _files(recipe)
    return sorted(_each_once([*found, *_wheels(recipe)]))


def python_purl(recipe: Recipe, name: str, version: str) -> PackageURL:
    """The package URL of a Python package of an image. The type `pypi` is of what an index has;
    one that is local to the checkout is `generic`, with the SHA-256 of its file (purl
    specification, known qualifiers: `checksum`).
    """
    if (own := recipe.spec.own.get(canonicalize_name(name))) is None:
        return PackageURL("pypi", None, name, version)
    return PackageURL("generic", None, name, version, {"checksum": f"sha256:{own.digest.hex}"})


def _each_once(found: Iterable[Material]) -> Iterator[Material]:
    """Each input once: annotations do not tell inputs apart."""
    seen: set[tuple[str, str, str]] = set()
    for one in found:
        key = one.uri, one.name, one.digest.hex
        if key not in seen:
            seen.add(key)
            yield one


def _base(spec: BaseSpec, lock: BaseLock) -> Iterator[Material]:
    if isinstance(spec.rootfs, ImageRootfs):
        rootfs = spec.rootfs
        purl = PackageURL(
            "oci", None, rootfs.repository.rpartition("/")[2], rootfs.manifest.oci
        ).to_string()
        yield Material(purl, "manifest", rootfs.manifest)
        yield Material(purl, "layer", rootfs.layer, {"diff_id": f"sha256:{rootfs.diff_id}"})
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


def _files(recipe: Recipe) -> Iterator[Material]:
    for file in recipe.accelerator_files:
        name = recipe.accelerator.name if recipe.accelerator else ""
        if file.size is None:
            raise LockError(
                f"the lock does not have the size of {file.path.rpartition('/')[2]} yet",
                where=f"locks/base/{name}.toml",
                remedy=f"run doit lock:{name} where the archive was fetched once, then build and "
                "sign again",
            )
        purl = PackageURL("generic", None, file.name, file.version)
        digest = Digest(file.sha256, file.size)
        yield Material(purl.to_string(), file.path.rpartition("/")[2], digest)


def _wheels(recipe: Recipe) -> Iterator[Material]:
    for package in every_file(recipe.wheels):
        purl = python_purl(recipe, package.name, package.version)
        yield Material(purl.to_string(), package.file.name, package.file.digest)
