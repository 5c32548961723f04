"""What the pages show: images, their layers and packages, and what is attached to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

WHEEL, DEB = "wheel", "deb"


@dataclass(frozen=True)
class Package:
    """A component of an image's SBOM: kind as in `plinth.inspect.facts`, licences as declared,
    sha256 (hex, empty where there is none), size of its files in bytes."""

    kind: str
    name: str
    version: str
    licences: tuple[str, ...] = ()
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer as the manifest names it: title, digest (OCI form), compressed size in bytes."""

    title: str
    digest: str
    size: int


@dataclass(frozen=True)
class Attachment:
    """A bundle found attached to an image: what its statement is called (`signature`,
    `provenance`, `sbom`, or another predicate type), and its bytes. problems: how it differs
    from a well-formed one."""

    called: str
    data: bytes
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What verifying the image said while the site was made: number of checks, names of those
    that failed, whose signatures were believed."""

    checks: int
    failed: tuple[str, ...]
    identities: tuple[str, ...]
    issuer: str


@dataclass(frozen=True)
class Image:
    """One image of the catalogue.

    asked: requirements of its specification, each with what its lock pins. name: as engines know
    it, with its tag. base: the one it stands on; wanted_base: the one its specification names.
    missing: the accelerator set it is meant to have and was built without. entries: how many
    files belong to no package. checked: None where nothing was verified.
    """

    id: str
    framework: str
    version: str
    accelerator: str
    summary: str
    asked: tuple[tuple[str, str], ...]
    name: str
    base: str
    wanted_base: str
    missing: str
    digest: str
    manifest_size: int
    created: str
    layers: tuple[Layer, ...]
    packages: tuple[Package, ...]
    entries: int
    sbom: bytes
    attachments: tuple[Attachment, ...] = ()
    checked: Checked | None = None

    @property
    def repository(self) -> str:
        """The name without its tag."""
        head, colon, tag = self.name.rpartition(":")
        return head if colon and "/" not in tag else self.name

    @property
    def curated(self) -> str:
        """What the original catalogue calls the curated environment."""
        return f"AzureML-{self.repository.rpartition('/')[2]}"

    @cached_property
    def size(self) -> int:
        """Bytes of all layers, compressed."""
        return sum(layer.size for layer in self.layers)

    def of_kind(self, kind: str) -> list[Package]:
        """The packages of one kind, by name."""
        return sorted(
            (p for p in self.packages if p.kind == kind), key=lambda p: (p.name, p.version)
        )

    @property
    def platform(self) -> list[Package]:
        """Operating system and interpreter."""
        return sorted(
            (p for p in self.packages if p.kind not in (WHEEL, DEB)), key=lambda p: p.name
        )


@dataclass(frozen=True)
class Site:
    """All images, by id."""

    images: tuple[Image, ...]

    @cached_property
    def holders(self) -> Mapping[str, tuple[str, ...]]:
        """The ids of the images that hold a layer, by its digest."""
        found: dict[str, list[str]] = {}
        for image in self.images:
            for digest in dict.fromkeys(layer.digest for layer in image.layers):
                found.setdefault(digest, []).append(image.id)
        return {digest: tuple(ids) for digest, ids in found.items()}

    def others(self, image: Image, layer: Layer) -> tuple[str, ...]:
        """The other images that hold a layer."""
        return tuple(i for i in self.holders[layer.digest] if i != image.id)

    @cached_property
    def distinct_size(self) -> int:
        """Bytes of all layers, each counted once."""
        sizes = {layer.digest: layer.size for image in self.images for layer in image.layers}
        return sum(sizes.values())
