"""An image's SBOM: CycloneDX 1.6 JSON, a function of its locks and of what its layers hold."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.tool import ToolRepository

from plinth import __version__
from plinth.core.digest import Digest
from plinth.core.errors import LayoutError, Problem, SbomError
from plinth.core.store import BlobStore
from plinth.evidence.sbom.components import Maker, image_component, tool_component
from plinth.evidence.sbom.inputs import SbomInputs, compare
from plinth.evidence.sbom.output import output
from plinth.formats.oci.layout import ImageReference
from plinth.formats.oci.manifest import read_manifest
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.cache import ContentsCache, workspace_cache
from plinth.inspect.contents.read import read_layers
from plinth.inspect.facts import DEB, ENTRY, LAYER, SYSTEM, WHEEL, facts_of, held_layers
from plinth.recipe.built import find_reference, recipe_of
from plinth.recipe.recipe import Recipe

_CREATED = "org.opencontainers.image.created"


def make_sbom(inputs: SbomInputs, version: str = __version__) -> bytes:
    """The SBOM of an image that plinth `version` built, as canonical JSON: the same bytes for the
    same inputs, anywhere.

    Raises:
        SbomError: the layers do not hold what the locks name, with every difference.
    """
    name = inputs.manifest.annotations.get("dev.plinth.image", inputs.manifest.digest.oci)
    problems = compare(inputs)
    if len(inputs.contents) != len(inputs.manifest.layers):
        problems.append(Problem("layers", "the manifest has another number of them"))
    maker = Maker(inputs)
    made: dict[str, tuple[str, Component]] = {}
    held = held_layers(inputs.manifest.layers, inputs.contents)
    for place, layer in zip(held, inputs.contents, strict=False):
        for fact, source in facts_of(place, layer):
            component = maker.component(fact, source)
            ref = str(component.bom_ref.value)
            if ref in made:
                problems.append(Problem(fact.label, "two layers hold it"))
            made[ref] = (fact.kind, component)
    if problems:
        raise SbomError(name, problems, remedy="build the image again; if this stays, report it")
    image = image_component(inputs, held)
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, inputs.manifest.digest.oci),
        metadata=BomMetaData(
            component=image,
            timestamp=_moment(inputs.manifest.annotations[_CREATED]),
            tools=ToolRepository(components=[tool_component(version)]),
        ),
        components=[component for _, component in made.values()],
        dependencies=_graph(inputs, image, made.values()),
    )
    return output(bom)


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def _graph(
    inputs: SbomInputs, image: Component, made: Iterable[tuple[str, Component]]
) -> list[Dependency]:
    """Wheels need what the lock says, an operating system its packages and files; the image all
    that nothing else needs."""
    components = list(made)
    refs = {(kind, component.name): component.bom_ref for kind, component in components}
    layers = {kind: _layer(component) for kind, component in components if kind == SYSTEM}
    needs: dict[str, Dependency] = {}
    needed: set[str] = set()
    for kind, component in components:
        below = []
        if kind == WHEEL and component.name in inputs.wheels:
            names = inputs.wheels[component.name].dependencies
            below = [refs[WHEEL, name] for name in names if (WHEEL, name) in refs]
        elif kind == SYSTEM:
            below = [
                other.bom_ref
                for what, other in components
                if what in (DEB, ENTRY) and _layer(other) == layers[SYSTEM]
            ]
        needed.update(str(ref.value) for ref in below)
        needs[str(component.bom_ref.value)] = _dependency(component, below)
    wanted = {p.name for p in inputs.wheels.values() if p.direct or p.from_base}
    top = [
        component.bom_ref
        for kind, component in components
        if component.bom_ref.value not in needed or (kind == WHEEL and component.name in wanted)
    ]
    return [_dependency(image, top), *needs.values()]


def _dependency(component: Component, below: Iterable[Any]) -> Dependency:
    return Dependency(component.bom_ref, [Dependency(ref) for ref in below])


def _layer(component: Component) -> str:
    values = {one.name: one.value for one in component.properties}
    return str(values.get(LAYER))


@dataclass(frozen=True)
class StoredLayer:
    """A layer in a layout's blobs."""

    store: BlobStore
    digest: Digest

    def open(self) -> BinaryIO:
        """See `plinth.inspect.contents.hashing.LayerBlob`.

        Raises:
            OSError: it is not there.
        """
        return cast(BinaryIO, self.store.path(self.digest).open("rb", buffering=0))


def sbom_of(ws: Workspace, image_id: str, cache: ContentsCache | None = None) -> bytes:
    """The SBOM of the built image `image_id`, from its layers and the locks in the tree; what
    layers hold is remembered in `cache` (None: the workspace's).

    Raises:
        LayoutError: it is not built, or a layer is damaged.
        LockError: a lock is missing or stale.
        SbomError: its layers do not hold what its locks name.
    """
    image = find_reference(ws, image_id)
    return make_sbom(gather(ws, image, recipe_of(ws, image), cache))


def gather(
    ws: Workspace, image: ImageReference, recipe: Recipe, cache: ContentsCache | None = None
) -> SbomInputs:
    """What the SBOM of `image`, made by `recipe`, is made from.

    Raises:
        LayoutError: a layer is damaged.
    """
    manifest = read_manifest(ws.layout, image.manifest)
    layers = [StoredLayer(ws.layout, layer.digest) for layer in manifest.layers]
    contents = []
    read = read_layers(layers, cache or workspace_cache(ws))
    for layer, held in zip(layers, read, strict=True):
        if isinstance(held, str) or held.digest != layer.digest:
            raise LayoutError(
                "a layer of the image is damaged",
                where=str(ws.layout.path(layer.digest)),
                expected=layer.digest.oci,
                found=held if isinstance(held, str) else held.digest.oci,
                remedy="delete that file and build again",
            )
        contents.append(held)
    return SbomInputs(manifest, contents, recipe)
