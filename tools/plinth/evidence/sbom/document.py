"""Reading an SBOM that somebody hands us: its facts, each problem with its path, no traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packageurl import PackageURL

from plinth.core.errors import Problem
from plinth.inspect.facts import (
    ARCHIVE,
    DEB,
    ENTRY,
    FROM_LOCKS,
    INTERPRETER,
    KIND,
    KINDS,
    SYSTEM,
    WHEEL,
    Fact,
)

_PURL_TYPES = {WHEEL: "pypi", DEB: "deb", ARCHIVE: "generic", INTERPRETER: "generic"}


@dataclass
class Document:
    """What an SBOM says, and what is wrong with the document itself.

    image: name, version, sha256, purl and the purl's version of what it is of; `properties` its
    properties. facts: its components. pulled: layers (digests) that are another image's,
    unmodified.
    """

    image: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    pulled: set[str] = field(default_factory=set)
    timestamp: str = ""
    serial: str = ""
    facts: list[Fact] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def parse(data: bytes) -> Document:
    """Read the CycloneDX document `data`; what cannot be read is among the problems."""
    found = Document()
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        found.problems.append(Problem("", f"the SBOM is not JSON: {error}"))
        return found
    if not isinstance(document, dict) or document.get("bomFormat") != "CycloneDX":
        found.problems.append(Problem("", "not a CycloneDX document"))
        return found
    if document.get("specVersion") != "1.6":
        message = f"expected 1.6, found {document.get('specVersion')!r}"
        found.problems.append(Problem("specVersion", message))
    reader = _Reader(found.problems)
    metadata = reader.table(document, "metadata", "")
    image = reader.table(metadata, "component", "metadata")
    at = "metadata.component"
    texts = {key: reader.text(image, key, at) for key in ("name", "version", "purl")}
    found.image = {
        **texts,
        "sha256": reader.sha256(image, at),
        "purl-version": reader.parsed(texts["purl"], f"{at}.purl").version or "",
    }
    found.properties = reader.properties(image, at)
    found.timestamp = reader.text(metadata, "timestamp", "metadata")
    found.serial = reader.text(document, "serialNumber", "")
    components = document.get("components")
    if not isinstance(components, list):
        found.problems.append(Problem("components", "expected an array"))
        return found
    refs: dict[str, int] = {}
    for number, component in enumerate(components):
        at = f"components[{number}]"
        if not isinstance(component, dict):
            found.problems.append(Problem(at, "expected an object"))
            continue
        ref = str(component.get("bom-ref"))
        if refs.setdefault(ref, number) != number:
            message = f"{ref} is there twice, also as components[{refs[ref]}]"
            found.problems.append(Problem(at, message))
        fact = reader.fact(component, at)
        if fact is not None:
            found.facts.append(fact)
            purl = component.get("purl")
            if fact.kind == SYSTEM and isinstance(purl, str) and purl.startswith("pkg:oci/"):
                found.pulled.add(fact.layer)
    return found


class _Reader:
    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def wrong(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def table(self, table: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
        value = table.get(key)
        if isinstance(value, dict):
            return value
        self.wrong(f"{path}.{key}".lstrip("."), "expected an object")
        return {}

    def text(self, table: Mapping[str, Any], key: str, path: str) -> str:
        value = table.get(key)
        if isinstance(value, str):
            return value
        self.wrong(f"{path}.{key}".lstrip("."), f"expected a text, found {value!r}")
        return ""

    def sha256(self, component: Mapping[str, Any], at: str) -> str:
        """The one SHA-256 of a component, empty where there is none."""
        hashes = component.get("hashes", [])
        if not isinstance(hashes, list) or not all(isinstance(one, dict) for one in hashes):
            self.wrong(f"{at}.hashes", "expected an array of objects")
            return ""
        found = [one.get("content") for one in hashes if one.get("alg") == "SHA-256"]
        if len(found) > 1 or len(hashes) != len(found):
            self.wrong(f"{at}.hashes", "expected one SHA-256")
        return str(found[0]) if found else ""

    def properties(self, component: Mapping[str, Any], at: str) -> dict[str, str]:
        entries = component.get("properties", [])
        found: dict[str, str] = {}
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            self.wrong(f"{at}.properties", "expected an array of objects")
            return found
        for number, entry in enumerate(entries):
            name = self.text(entry, "name", f"{at}.properties[{number}]")
            value = self.text(entry, "value", f"{at}.properties[{number}]")
            if name in found:
                self.wrong(f"{at}.properties[{number}]", f"{name} is there twice")
            found[name] = value
        return found

    def fact(self, component: Mapping[str, Any], at: str) -> Fact | None:
        name = self.text(component, "name", at)
        properties = self.properties(component, at)
        kind = properties.get(KIND, "")
        if kind not in KINDS:
            self.wrong(at, f"{name}: {KIND} is {kind!r}; expected one of {', '.join(KINDS)}")
            return None
        sha256 = self.sha256(component, at)
        version = "" if kind == ENTRY else self.text(component, "version", at)
        if kind in _PURL_TYPES:
            self.purl(component, at, _PURL_TYPES[kind], name, version)
        own = {key: value for key, value in properties.items() if key not in FROM_LOCKS}
        return Fact(kind, name, version, sha256 if kind == ENTRY else "", own)

    def parsed(self, text: str, at: str) -> PackageURL:
        """A purl; one of nothing where `text` is none."""
        try:
            return PackageURL.from_string(text)
        except ValueError as error:
            self.wrong(at, f"not a purl: {error}")
            return PackageURL("none", None, "none")

    def purl(
        self, component: Mapping[str, Any], at: str, wanted: str, name: str, version: str
    ) -> None:
        text = self.text(component, "purl", at)
        purl = self.parsed(text, f"{at}.purl")
        if (purl.type, purl.name, purl.version) != (wanted, name, version):
            message = f"{text} is not the {wanted} package {name} {version} that it stands for"
            self.wrong(f"{at}.purl", message)
