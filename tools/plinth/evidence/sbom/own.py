"""What plinth itself depends on, as a list of licences and as the SBOM (CycloneDX) of its wheel."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.model.tool import ToolRepository
from packageurl import PackageURL
from packaging.markers import Marker

from plinth.core.digest import Digest
from plinth.core.errors import Problem, SbomError
from plinth.core.store import atomic_write
from plinth.evidence.sbom.components import tool_component
from plinth.evidence.sbom.licences import licences
from plinth.evidence.sbom.output import output
from plinth.formats.wheel.metadata import parse
from plinth.recipe.locks.pins import pins
from plinth.recipe.target import marker_environment

RUN, TEST = "requirements/plinth.txt", "requirements/test.txt"
LIST = "docs/licences.md"
# The Pythons that plinth runs on; of what only others need (3.10.1, say) nothing is said.
_PYTHONS = [marker_environment(one) for one in ("3.10.19", "3.11.0", "3.12.0", "3.13.0")]
UNKNOWN = "unknown"
# Packages that declare none and bring its text; read by a person in the versions locked now.
_BY_FILE = {"atheris": "Apache-2.0", "sigstore-models": "MIT"}
_HEAD = """\
# Licences

Made by `doit self` from `requirements/*.txt` and the packages' own metadata; do not edit. What
packages declare, as SPDX ids where they are that; nobody has compared it with the sources. plinth
is Apache-2.0 and contains none of these: they are installed beside it.
"""
_ROW = re.compile(r"\| (\S+) \| (\S+) \| (.+) \|")


@dataclass(frozen=True)
class Locked:
    """A package that plinth (with `test`, only its tests) is locked to; `via` are the names of
    those that need it, `hashes` the SHA-256 of its files."""

    name: str
    version: str
    test: bool
    via: frozenset[str]
    hashes: frozenset[str]


def locked(root: Path) -> list[Locked]:
    """What the requirements in the checkout `root` pin for CPython on Linux, by name and version.

    Raises:
        OSError: a file cannot be read.
    """
    run = list(_pins(root / RUN, test=False))
    have = {(one.name, one.version) for one in run}
    tests = (one for one in _pins(root / TEST, test=True) if (one.name, one.version) not in have)
    return sorted([*run, *tests], key=lambda one: (one.test, one.name, one.version))


def _pins(path: Path, *, test: bool) -> Iterator[Locked]:
    for pin in pins(path.read_text(encoding="utf-8")):
        if not pin.marker or any(Marker(pin.marker).evaluate(one) for one in _PYTHONS):
            # "plinth (pyproject.toml)" is plinth, "-c requirements/plinth.txt" nobody.
            via = {name.partition(" ")[0] for name in pin.via if not name.startswith("-")}
            yield Locked(pin.name, pin.version, test, frozenset(via), frozenset(pin.hashes))


def known(text: str) -> dict[tuple[str, str], str]:
    """The licences in a list that `listed` made, by name and version."""
    return {(m[1], m[2]): m[3] for line in text.splitlines() if (m := _ROW.fullmatch(line))}


def declared(packages: Iterable[Locked], before: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """The licence of each package, by its purl: of what is installed in that very version here;
    else, for packages of other Pythons, what the list had `before`; else `UNKNOWN`."""
    found = {}
    for package in packages:
        text = _installed(package)
        if text is None:
            text = before.get((package.name, package.version), "")
        found[_purl(package).to_string()] = text or _BY_FILE.get(package.name, UNKNOWN)
    return found


def _installed(package: Locked) -> str | None:
    """What the installed package declares, "" for nothing; None where it is not installed."""
    try:
        text = distribution(package.name).read_text("METADATA") or ""
    except PackageNotFoundError:
        return None
    about = parse(text.encode())
    if about.version != package.version:
        return None
    return ", ".join(sorted(map(_text, licences(about.licences))))


def _text(licence: object) -> str:
    if isinstance(licence, LicenseExpression):
        return str(licence.value)
    if isinstance(licence, DisjunctiveLicense):
        return str(licence.id or licence.name)
    return ""


def _purl(package: Locked) -> PackageURL:
    return PackageURL("pypi", None, package.name, package.version)


def listed(packages: Sequence[Locked], found: Mapping[str, str]) -> str:
    """The list of licences, as Markdown; `found` is of `declared`."""
    lines = [_HEAD]
    for title, test in (("What plinth runs with", False), ("What only its tests need", True)):
        lines += [f"## {title}", "", "| package | version | licence |", "|---|---|---|"]
        for one in packages:
            if one.test == test:
                lines.append(f"| {one.name} | {one.version} | {found[_purl(one).to_string()]} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def own_sbom(root: Path, version: str, wheel: Digest) -> bytes:
    """The SBOM of plinth's own `wheel`: what the checkout `root` locks it to, and not its tests.

    Raises:
        OSError: the requirements or the list of licences cannot be read.
    """
    packages = [one for one in locked(root) if not one.test]
    found = declared(packages, known((root / LIST).read_text(encoding="utf-8")))
    return sbom(packages, found, version, wheel)


def sbom(
    packages: Sequence[Locked], found: Mapping[str, str], version: str, wheel: Digest
) -> bytes:
    """The SBOM of plinth `version`, of which `wheel` is the file, as canonical JSON: the same bytes
    for equal requirements."""
    components = {one: _component(one, found) for one in packages}
    main = Component(
        type=ComponentType.APPLICATION,
        name="plinth",
        version=version,
        bom_ref="self",
        purl=PackageURL("pypi", None, "plinth", version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.hex)],
    )
    graph = [
        Dependency(main.bom_ref, _below("plinth", components)),
        *(Dependency(c.bom_ref, _below(one.name, components)) for one, c in components.items()),
    ]
    content = "\n".join([wheel.hex, *sorted(d for one in packages for d in one.hashes)])
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, Digest.of(content.encode()).oci),
        metadata=BomMetaData(component=main, tools=ToolRepository(components=[tool_component()])),
        components=components.values(),
        dependencies=graph,
    )
    return output(bom, dated=False)


def _below(name: str, components: Mapping[Locked, Component]) -> list[Dependency]:
    return [Dependency(c.bom_ref) for one, c in components.items() if name in one.via]


def _component(package: Locked, found: Mapping[str, str]) -> Component:
    purl = _purl(package)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=purl.to_string(),
        purl=purl,
        scope=ComponentScope.EXCLUDED if package.test else ComponentScope.REQUIRED,
        licenses=licences(found[purl.to_string()].split(", ")),
        properties=[Property(name="dev.plinth:file.sha256", value=h) for h in package.hashes],
    )


def write_licences(root: Path) -> bool:
    """Write the list of licences into the checkout `root`; whether it changed.

    Raises:
        OSError: the requirements cannot be read, or there is no room.
        SbomError: a licence is unknown; the list is written, and says of which package.
    """
    path = root / LIST
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    packages = locked(root)
    found = declared(packages, known(before))
    text = listed(packages, found)
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode())
    if UNKNOWN in found.values():
        problems = [Problem(one, UNKNOWN) for one, text in found.items() if text == UNKNOWN]
        raise SbomError(
            LIST,
            problems,
            remedy=f"pip install --require-hashes -r {TEST}, with each CPython from 3.10 on, "
            "and run this in each",
        )
    return text != before
