"""SLSA provenance v1 of an image: how it was made, from what, by whom (docs/provenance.md)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import IntegrityError, Problem, ProblemsError
from plinth.evidence.git import GitState
from plinth.evidence.statement import inline
from plinth.evidence.values import differing
from plinth.formats import gzip, zstd
from plinth.formats.gzip import COMPRESSOR
from plinth.formats.oci.model import GZIP, MANIFEST, ZSTD
from plinth.recipe.base import NAME
from plinth.recipe.files import MAX_BYTES
from plinth.recipe.materials import Material

BUILD_TYPE = "https://plinth.dev/build-types/image/v2"
"""What the parameters mean: docs/provenance.md."""

WHEEL_TYPE = "https://plinth.dev/build-types/wheel/v1"
"""Of plinth's own wheel: `plinth self` in a checkout of the commit named."""

LOCAL_BUILDER = "https://plinth.dev/builders/local"
"""The builder where the settings name none: somebody's machine, which promises nothing."""

_COMPRESSORS = [f"buildDefinition.internalParameters.{key}" for key in ("compressor", "zstd")]

SOURCE = "source"
_PACKED: dict[str, Json] = {"encoding": "gzip"}
"""The annotations of a file whose `content` is its gzip; its digest is its own."""
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Provenance:
    """What a provenance says.

    image, base, accelerator: the external parameters; accelerator is empty for none.
    sources: files of the checkout by path; materials: all other inputs; git: the commit they are
    of. builder and version: who ran which plinth. manifest: the image manifest's bytes.
    compression: of the image's layers, `gzip` or `zstd`.
    """

    image: str
    base: str
    accelerator: str
    sources: Mapping[str, bytes]
    materials: Sequence[Material]
    git: GitState | None
    builder: str
    version: str
    manifest: bytes
    compression: str = GZIP

    def to_json(self) -> dict[str, Json]:
        """The predicate, by the SLSA provenance v1 specification."""
        dependencies = [*_inputs(self.git, self.sources, packed=True)]
        dependencies += [material.to_json() for material in self.materials]
        external: dict[str, Json] = {
            "image": self.image,
            "base": self.base,
            "accelerator": self.accelerator,
        }
        internal: dict[str, Json] = {"compressor": COMPRESSOR}
        if self.compression == ZSTD:
            external["compression"] = ZSTD
            internal["zstd"] = zstd.COMPRESSOR
        return {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external,
                "internalParameters": internal,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": self.builder, "version": {"plinth": self.version}},
                "byproducts": [
                    {
                        "name": MANIFEST_NAME,
                        "mediaType": MANIFEST,
                        "digest": {"sha256": Digest.of(self.manifest).hex},
                        "content": inline(self.manifest),
                    }
                ],
            },
        }


def _inputs(
    git: GitState | None, sources: Mapping[str, bytes], *, packed: bool = False
) -> Iterator[Json]:
    """The dependencies that come from a checkout: its commit, and files with their content, which
    may be `packed`: in base64, and again in that of the envelope, they would be most of a bundle.
    """
    if git is not None:
        source: dict[str, Json] = {
            "name": SOURCE,
            "digest": {"gitCommit": git.commit},
            "annotations": {"clean": git.clean},
        }
        if git.remote:
            source["uri"] = f"git+{git.remote}"
        yield source
    for path, data in sorted(sources.items()):
        digest = {"sha256": Digest.of(data).hex}
        entry: dict[str, Json] = {"name": path, "digest": digest, "content": inline(data)}
        if packed:
            entry |= {"content": inline(gzip.member(data)), "annotations": _PACKED}
        yield entry


def wheel_provenance(
    git: GitState | None, sources: Mapping[str, bytes], builder: str, version: str
) -> Json:
    """The predicate of plinth's own wheel, `version`, made by `plinth self`; arguments are as the
    fields of `Provenance`."""
    return {
        "buildDefinition": {
            "buildType": WHEEL_TYPE,
            "externalParameters": {},
            "internalParameters": {"compressor": COMPRESSOR},
            "resolvedDependencies": [*_inputs(git, sources)],
        },
        "runDetails": {"builder": {"id": builder, "version": {"plinth": version}}},
    }


class ProvenanceError(ProblemsError):
    """A provenance that does not say what it must, with every problem of it."""


def parse(predicate: Mapping[str, Any]) -> Provenance:
    """Read a predicate of our build type; inlined content is checked against its digest.

    Raises:
        ProvenanceError: something is missing, malformed, of another build type, or more than a
            provenance of plinth's says.
    """
    reader = _Reader()
    found = reader.provenance(predicate)
    if found is not None and not reader.problems:
        reader.other(found, predicate)
    if reader.problems or found is None:
        raise ProvenanceError("provenance", reader.problems)
    return found


def parse_wheel(predicate: Mapping[str, Any]) -> Provenance:
    """Read a predicate that `wheel_provenance` made; all that is of images alone is empty.

    Raises:
        ProvenanceError: something is missing, malformed, or of another build type.
    """
    reader = _Reader()
    definition = reader.table(predicate.get("buildDefinition"), "buildDefinition")
    details = reader.table(predicate.get("runDetails"), "runDetails")
    kind = reader.text(definition, "buildType", "buildDefinition")
    if kind != WHEEL_TYPE:
        reader.wrong("buildDefinition.buildType", f"expected {WHEEL_TYPE}, found {kind!r}")
    git: GitState | None = None
    for entry in reader.entries(definition, "resolvedDependencies", "buildDefinition"):
        if entry.get("name") == SOURCE:
            git = reader.git(entry, "buildDefinition.resolvedDependencies")
    builder = reader.table(details.get("builder"), "runDetails.builder")
    version = reader.table(builder.get("version"), "runDetails.builder.version")
    who = reader.text(builder, "id", "runDetails.builder")
    plinth = reader.text(version, "plinth", "runDetails.builder.version")
    if reader.problems:
        raise ProvenanceError("provenance", reader.problems)
    return Provenance("", "", "", {}, (), git, who, plinth, b"")


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._room = MAX_BYTES

    def wrong(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def table(self, value: object, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.wrong(path, "expected an object")
        return {}

    def text(self, table: Mapping[str, Any], key: str, path: str) -> str:
        value = table.get(key)
        if isinstance(value, str):
            return value
        self.wrong(f"{path}.{key}", f"expected a text, found {value!r}")
        return ""

    def entries(self, table: Mapping[str, Any], key: str, path: str) -> list[dict[str, Any]]:
        value = table.get(key)
        if isinstance(value, list):
            return [self.table(one, f"{path}.{key}[{n}]") for n, one in enumerate(value)]
        self.wrong(f"{path}.{key}", "expected an array")
        return []

    def provenance(self, predicate: Mapping[str, Any]) -> Provenance | None:
        definition = self.table(predicate.get("buildDefinition"), "buildDefinition")
        details = self.table(predicate.get("runDetails"), "runDetails")
        kind = self.text(definition, "buildType", "buildDefinition")
        if kind != BUILD_TYPE:
            self.wrong("buildDefinition.buildType", f"expected {BUILD_TYPE}, found {kind!r}")
            return None
        path = "buildDefinition.externalParameters"
        parameters = self.table(definition.get("externalParameters"), path)
        image, base, accelerator = (
            self.text(parameters, key, path) for key in ("image", "base", "accelerator")
        )
        for key, name in (("image", image), ("base", base), ("accelerator", accelerator)):
            # They become parts of paths.
            if not NAME.fullmatch(name) and (name or key != "accelerator"):
                self.wrong(f"{path}.{key}", f"{name!r} cannot be the name of one")
        compression = parameters.get("compression", GZIP)
        if compression not in (GZIP, ZSTD):
            self.wrong(f"{path}.compression", f"expected {ZSTD}, found {compression!r}")
        for key in sorted(parameters.keys() - {"image", "base", "accelerator", "compression"}):
            self.wrong(f"{path}.{key}", "not a parameter of this build type")
        git: GitState | None = None
        sources: dict[str, bytes] = {}
        found: list[Material] = []
        entries = self.entries(definition, "resolvedDependencies", "buildDefinition")
        for number, entry in enumerate(entries):
            at = f"buildDefinition.resolvedDependencies[{number}]"
            if entry.get("name") == SOURCE:
                git = self.git(entry, at)
            elif "content" in entry:
                sources[self.text(entry, "name", at)] = self.content(entry, at)
            else:
                self.material(entry, at, found)
        builder = self.table(details.get("builder"), "runDetails.builder")
        version = self.table(builder.get("version"), "runDetails.builder.version")
        manifest = b""
        for number, entry in enumerate(self.entries(details, "byproducts", "runDetails")):
            if entry.get("name") == MANIFEST_NAME:
                manifest = self.content(entry, f"runDetails.byproducts[{number}]")
        if not manifest:
            self.wrong("runDetails.byproducts", f"expected {MANIFEST_NAME} with its content")
        return Provenance(
            image,
            base,
            accelerator,
            sources,
            found,
            git,
            self.text(builder, "id", "runDetails.builder"),
            self.text(version, "plinth", "runDetails.builder.version"),
            manifest,
            str(compression),
        )

    def other(self, found: Provenance, predicate: Mapping[str, Any]) -> None:
        """Whatever was not read: where `predicate` is not what `found` is written as."""
        wanted = json.loads(canonical_json(found.to_json()))
        for path, one, other in differing("", _ordered(wanted), _ordered(predicate)):
            # Another plinth has another compressor, and cosign adds what SLSA has as an option.
            if path not in _COMPRESSORS and (path, other) != ("runDetails.metadata", "{}"):
                self.wrong(path, f"expected {one}, found {other}")

    def git(self, entry: dict[str, Any], at: str) -> GitState:
        commit = self.text(self.table(entry.get("digest"), f"{at}.digest"), "gitCommit", at)
        clean = self.table(entry.get("annotations"), f"{at}.annotations").get("clean")
        uri = entry.get("uri", "")
        remote = uri.removeprefix("git+") if isinstance(uri, str) else ""
        return GitState(commit, clean is True, remote)

    def digest(self, entry: dict[str, Any], at: str) -> str:
        return self.text(self.table(entry.get("digest"), f"{at}.digest"), "sha256", at)

    def content(self, entry: dict[str, Any], at: str) -> bytes:
        sha256 = self.digest(entry, at)
        try:
            data = base64.b64decode(str(entry.get("content")), validate=True)
        # A character that is not ASCII is a ValueError, and no binascii.Error.
        except ValueError:
            self.wrong(f"{at}.content", "not base64")
            return b""
        if entry.get("annotations") == _PACKED:
            try:
                data = gzip.unpacked(data, self._room)
            except ValueError as error:
                self.wrong(f"{at}.content", f"not its file's gzip: {error}")
                return b""
            self._room -= len(data)
        if Digest.of(data).hex != sha256:
            self.wrong(
                f"{at}.content",
                f"{entry.get('name')!r} has sha256:{Digest.of(data).hex}, not "
                f"sha256:{sha256} as beside it",
            )
        return data

    def material(self, entry: dict[str, Any], at: str, found: list[Material]) -> None:
        annotations = self.table(entry.get("annotations", {}), f"{at}.annotations")
        size = annotations.get("size")
        if not isinstance(size, int) or isinstance(size, bool):
            self.wrong(f"{at}.annotations.size", f"expected bytes, found {size!r}")
            return
        try:
            digest = Digest(self.digest(entry, at), size)
        except IntegrityError:
            self.wrong(f"{at}.digest.sha256", "not a SHA-256")
            return
        rest = {key: value for key, value in annotations.items() if key != "size"}
        uri, name = self.text(entry, "uri", at), self.text(entry, "name", at)
        found.append(Material(uri, name, digest, rest))


def _ordered(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The predicate with its dependencies by name, whatever their order, and whatever compressed
    their content: neither counts."""
    definition = dict(predicate["buildDefinition"])
    entries = definition.pop("resolvedDependencies")
    named: dict[str, list[Any]] = {}
    for entry in entries:
        if entry.get("annotations") == _PACKED:
            # It was unpacked, and is what its digest says.
            entry = {**entry, "content": ""}
        named.setdefault(f"{entry.get('uri', '')} {entry['name']}".strip(), []).append(entry)
    return {**predicate, "buildDefinition": {**definition, "resolvedDependencies": named}}
