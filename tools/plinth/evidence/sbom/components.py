"""Components of an SBOM: what a layer holds, with what its lock says of where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement
from packageurl import PackageURL

import plinth
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.evidence.sbom.licences import licences
from plinth.formats.oci.model import TITLE
from plinth.inspect.contents.model import (
    Entry,
    FoundArchive,
    FoundDeb,
    FoundInterpreter,
    FoundSystem,
    FoundWheel,
)
from plinth.inspect.facts import (
    FILE_NAME,
    HASH_OF,
    PREFIX,
    Fact,
    Held,
    Source,
    image_properties,
)
from plinth.recipe.base import ImageRootfs, StandalonePython
from plinth.recipe.materials import python_purl


def image_component(inputs: SbomInputs, held: Iterable[Held]) -> Component:
    """The image itself: `metadata.component`; `held` are its layers."""
    annotations, digest = inputs.manifest.annotations, inputs.manifest.digest
    name = str(annotations.get(TITLE, "image"))
    short = name.rpartition("/")[2].lower()
    arch = inputs.recipe.base.architecture
    purl = PackageURL("oci", None, short, digest.oci, {"arch": arch})
    return Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=digest.oci,
        description=annotations.get("org.opencontainers.image.description"),
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=_sha256(digest.hex),
        properties=_properties(
            {
                HASH_OF: "manifest",
                f"{PREFIX}manifest.bytes": str(digest.size),
                **image_properties(annotations),
                **{key: value for one in held for key, value in one.described().items()},
            }
        ),
    )


def tool_component(version: str = plinth.__version__) -> Component:
    """This program, or another `version` of it: `metadata.tools`."""
    return Component(
        type=ComponentType.APPLICATION, name="plinth", version=version, bom_ref="plinth"
    )


class Maker:
    """Makes components of facts; `inputs` have the locks."""

    def __init__(self, inputs: SbomInputs) -> None:
        self._inputs = inputs
        systems = [layer.system for layer in inputs.contents if layer.system]
        self._system = systems[0] if systems else FoundSystem("linux", "", "")
        self._wheels, self._debs = inputs.wheels, inputs.debs

    def component(self, fact: Fact, source: Source) -> Component:
        """The component that states `fact` about `source`."""
        if isinstance(source, FoundWheel):
            return self._wheel(fact, source)
        if isinstance(source, FoundDeb):
            return self._deb(fact, source)
        if isinstance(source, FoundArchive):
            return self._archive(fact, source)
        if isinstance(source, FoundInterpreter):
            return self._interpreter(fact, source)
        if isinstance(source, FoundSystem):
            return self._operating_system(fact, source)
        return _entry(fact, source)

    def _wheel(self, fact: Fact, wheel: FoundWheel) -> Component:
        purl = python_purl(self._inputs.recipe, wheel.name, wheel.version)
        locked = self._wheels.get(wheel.name)
        more = {}
        if locked is not None:
            kind = "sdist, built by plinth" if locked.is_sdist else "wheel"
            more = {HASH_OF: kind, FILE_NAME: locked.file.name}
        return Component(
            type=ComponentType.LIBRARY,
            name=wheel.name,
            version=wheel.version,
            bom_ref=purl.to_string(),
            purl=purl,
            hashes=_sha256(locked.file.digest.hex if locked else ""),
            licenses=licences(wheel.licences),
            properties=_properties({**fact.properties, **more}),
        )

    def _deb(self, fact: Fact, deb: FoundDeb) -> Component:
        system = self._system
        vendor = self._inputs.vendor(deb.name, system.name)
        qualifiers = {"arch": deb.architecture}
        if vendor == system.name:
            qualifiers["distro"] = f"{system.name}-{system.version}"
        purl = PackageURL("deb", vendor, deb.name, deb.version, qualifiers)
        locked = self._debs.get(deb.name)
        more = {}
        if locked is not None:
            more = {HASH_OF: "deb", FILE_NAME: locked.path.rpartition("/")[2]}
        return Component(
            type=ComponentType.LIBRARY,
            name=deb.name,
            version=deb.version,
            bom_ref=purl.to_string(),
            purl=purl,
            hashes=_sha256(locked.digest.hex if locked else ""),
            licenses=licences(deb.licences, debian=True),
            properties=_properties({**fact.properties, **more}),
        )

    def _archive(self, fact: Fact, found: FoundArchive) -> Component:
        purl = PackageURL("generic", None, found.name, found.version)
        locked = self._inputs.archives.get(found.name)
        more = {}
        if locked is not None:
            more = {HASH_OF: "archive", FILE_NAME: locked.path.rpartition("/")[2]}
        return Component(
            type=ComponentType.LIBRARY,
            name=found.name,
            version=found.version,
            bom_ref=purl.to_string(),
            purl=purl,
            hashes=_sha256(locked.sha256 if locked else ""),
            licenses=[
                DisjunctiveLicense(
                    name=found.licence, acknowledgement=LicenseAcknowledgement.DECLARED
                )
            ],
            properties=_properties({**fact.properties, **more}),
        )

    def _interpreter(self, fact: Fact, found: FoundInterpreter) -> Component:
        purl = PackageURL("generic", None, fact.name, fact.version)
        python = self._inputs.recipe.base.python
        more, sha256 = {HASH_OF: "tree"}, found.tree
        if isinstance(python, StandalonePython):
            more = {HASH_OF: "archive", FILE_NAME: python.asset}
            sha256 = python.digest.hex
        return Component(
            type=ComponentType.PLATFORM,
            name=fact.name,
            version=fact.version,
            bom_ref=purl.to_string(),
            purl=purl,
            hashes=_sha256(sha256),
            licenses=[
                DisjunctiveLicense(
                    id="Python-2.0.1", acknowledgement=LicenseAcknowledgement.DECLARED
                )
            ],
            properties=_properties({**fact.properties, **more}),
        )

    def _operating_system(self, fact: Fact, system: FoundSystem) -> Component:
        pulled = self._inputs.recipe.base.rootfs
        if isinstance(pulled, ImageRootfs):
            name = pulled.repository.rpartition("/")[2]
            purl = PackageURL("oci", None, name, pulled.manifest.oci)
            more, sha256 = {HASH_OF: "manifest of the image it is from"}, pulled.manifest.hex
        else:
            purl = PackageURL("generic", None, system.name, system.version)
            more, sha256 = {HASH_OF: "layer"}, fact.layer.removeprefix("sha256:")
        return Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=fact.name,
            version=fact.version,
            bom_ref=purl.to_string(),
            purl=purl,
            hashes=_sha256(sha256),
            properties=_properties({**fact.properties, **more}),
        )


def _entry(fact: Fact, entry: Entry) -> Component:
    properties = dict(fact.properties)
    if entry.sha256:
        properties[HASH_OF] = "file"
    return Component(
        type=ComponentType.FILE,
        name=fact.name,
        bom_ref=f"{fact.layer}{fact.name}",
        hashes=_sha256(entry.sha256),
        properties=_properties(properties),
    )


def _sha256(hexadecimal: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=hexadecimal)] if hexadecimal else []


def _properties(values: Mapping[str, str]) -> list[Property]:
    return [Property(name=name, value=value) for name, value in values.items() if value]
