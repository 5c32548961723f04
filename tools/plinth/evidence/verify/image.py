"""Verifying one image from any source: every check, in an order in which each knows enough."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import IntegrityError, LayoutError, PlinthError
from plinth.core.report import Progress, quiet
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.provenance import Provenance, ProvenanceError
from plinth.evidence.provenance import parse as parse_provenance
from plinth.evidence.sbom.check import check_sbom
from plinth.evidence.statement import PROVENANCE, SBOM
from plinth.evidence.verify import statements as bundles_module
from plinth.evidence.verify.blobs import check_blobs, read_config, read_image
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.contract import check_contract, check_platform, check_user
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.provenance import (
    check_checkout,
    check_inputs,
    check_origin,
    claimed_recipe,
)
from plinth.evidence.verify.rebuild import check_rebuild
from plinth.evidence.verify.statements import Proven, RawBundle, Statements, authenticate
from plinth.evidence.verify.verdict import Check, Verdict
from plinth.fetch.sources.model import ImageSource
from plinth.formats.oci.documents import repository_name
from plinth.formats.oci.manifest import Manifest
from plinth.formats.oci.model import TITLE
from plinth.formats.oci.reference import LINUX_AMD64
from plinth.formats.oci.referrers import BUNDLE
from plinth.inspect.contents.model import LayerContents
from plinth.inspect.contents.read import ContentsCache, read_layers
from plinth.recipe.files import write_sources

_IMAGE = "dev.plinth.image"


@dataclass(frozen=True)
class Request:
    """What to verify beside the image itself.

    expected: the image id or name it must be, empty where a digest was asked for. platform: what
    it must be for. bundles: those given by hand. checkout: a folder with the verifier's own
    specifications and locks. cache: what is remembered of layers' contents. rebuild: build it
    again; inputs: blobs at hand for it.
    """

    expected: str = ""
    platform: str = LINUX_AMD64
    bundles: tuple[RawBundle, ...] = ()
    checkout: Path | None = None
    cache: ContentsCache | None = None
    rebuild: bool = False
    inputs: BlobStore | None = None
    config: Config = field(default_factory=Config)
    progress: Progress = quiet


def verify_image(
    source: ImageSource, verifier: BundleVerifier, policy: Policy, request: Request
) -> Verdict:
    """Check everything there is to check of the image in `source`."""
    attached = [*_attached(source), *request.bundles]
    with ThreadPoolExecutor(1, "layers") as pool:
        # Layers are hashed while everything else is checked.
        waiting = pool.submit(lambda: read_layers(source.layers(), request.cache))
        statements = authenticate(attached, verifier)
        try:
            manifest_bytes, config_bytes = source.manifest(), source.config()
            if manifest_bytes is None:
                # A docker archive lost its manifest; the signed provenance has it.
                manifest_bytes = _manifest_of(statements, Digest.of(config_bytes).hex)
            if manifest_bytes is None:
                signed, _ = bundles_module.checks(statements)
                problem = "no valid provenance found with a manifest that has this config"
                return Verdict(source.name, "", (Check("manifest", "", (problem,)), *signed))
            manifest, config = read_image(manifest_bytes), read_config(config_bytes)
        except (IntegrityError, LayoutError) as error:
            return Verdict(source.name, "", (Check("manifest", "", (str(error),)),))
        verification = _Verification(
            source,
            policy,
            request,
            statements,
            manifest_bytes,
            manifest,
            config_bytes,
            config,
        )
        return verification.verdict(waiting.result)


def _attached(source: ImageSource) -> Iterator[RawBundle]:
    for referrer in source.referrers(BUNDLE):
        yield RawBundle(
            referrer.where, referrer.data, referrer.predicate_type, tuple(referrer.problems)
        )


def _manifest_of(statements: Statements, config: str) -> bytes | None:
    """The manifest, carried by an authentic provenance, whose config has the digest `config`."""
    for proven in statements.proven.get(PROVENANCE, []):
        try:
            data = parse_provenance(proven.statement.predicate).manifest
            if read_image(data).config.digest.hex == config:
                return data
        except (ProvenanceError, LayoutError):
            continue
    return None


@dataclass(frozen=True)
class _Verification:
    source: ImageSource
    policy: Policy
    request: Request
    statements: Statements
    manifest_bytes: bytes
    manifest: Manifest
    config_bytes: bytes
    config: dict[str, Any]

    def verdict(self, contents_of_layers: Callable[[], list[LayerContents | str]]) -> Verdict:
        digest, annotations = self.manifest.digest, self.manifest.annotations
        about = bundles_module.about(self.statements, digest.hex, annotations.get(TITLE, ""))
        signed, notes = bundles_module.checks(about)
        checks = [self.name(), *self.index(), check_platform(self.config, self.request.platform)]
        checks += [*signed, check_user(self.config)]
        checks += self.by_provenance(about.proven.get(PROVENANCE, []))
        contents = contents_of_layers()
        checks.append(
            check_blobs(
                self.manifest, self.config_bytes, self.config, contents, self.source.compressed
            )
        )
        checks.append(self.by_sbom(about.proven.get(SBOM, []), contents))
        return Verdict(self.source.name, digest.oci, tuple(checks), tuple(notes), self.run())

    def run(self) -> tuple[str, ...]:
        """What engines take for this image: see `Verdict`."""
        digest = self.manifest.digest.oci
        if self.source.place:
            return (f"{self.source.place}@{digest}",)
        # Of layers that were unpacked, an engine that keeps manifests makes another one.
        config = self.manifest.config.digest.oci
        return (config, digest) if self.source.compressed else (config,)

    def name(self) -> Check:
        """The image is the one that was asked for, not another that is signed as well."""
        known = [self.manifest.annotations.get(key, "") for key in (_IMAGE, TITLE)]
        known.append(known[1].rpartition("/")[2])
        wanted = self.request.expected
        called = [name for name in self.source.called if repository_name(name) not in known]
        if wanted and wanted not in known:
            problem = (
                f"asked for {wanted!r}, this is {known[0]!r}, published as {known[1]!r}; where "
                f"that is the one you want, say so: --image {known[0]}"
            )
        elif called:
            problem = (
                f"engines would name it {called[0]!r} by its index or archive, it is published as "
                f"{known[1]!r}; where that is the name you run it by, put it into the reference"
            )
        elif wanted:
            return Check("name", f"{known[0]}, published as {known[1]}")
        elif self.source.by_digest:
            return Check("name", f"{known[0]}, asked for by digest")
        else:
            # Of a docker archive, which has no manifest, no digest can be asked for.
            by = f", or in the reference @{self.manifest.digest.oci}" * self.source.compressed
            problem = (
                f"no name was asked for, and any image of the signer would pass: this is "
                f"{known[0]!r}, published as {known[1]!r}; where that is the one you want, say "
                f"so: --image {known[0]}{by}"
            )
        return Check("name", "", (problem,))

    def index(self) -> Iterator[Check]:
        """What the reference leads to is this image, on every machine; shown only where not."""
        others = self.source.others(self.manifest.annotations.get(TITLE, ""))
        if others:
            problems = [f"an engine could run another entry: {one}" for one in others]
            digest = self.manifest.digest.oci
            problems.append(f"its index is not signed: verify and run the image as @{digest}")
            yield Check("index", "", tuple(problems))

    def by_provenance(self, proven: Sequence[Proven]) -> list[Check]:
        """All checks that need a provenance, of every one that is authentic."""
        names = ["origin", "provenance", "contract"]
        names += ["checkout"] if self.request.checkout else []
        names += ["rebuild"] if self.request.rebuild else []
        if not proven:
            return [Check(n, "", ("no valid provenance found",)) for n in names]
        checks: list[Check] = []
        for one in proven:
            try:
                checks += self.provenance(parse_provenance(one.statement.predicate))
            except PlinthError as error:
                checks += [Check("provenance", "", (f"{one.where}: {error}",))]
        return checks

    def provenance(self, provenance: Provenance) -> Iterator[Check]:
        yield check_origin(provenance, self.policy)
        with tempfile.TemporaryDirectory(prefix="plinth-verify-") as folder:
            ws = write_sources(provenance.sources, Path(folder))
            try:
                recipe = claimed_recipe(ws, provenance)
            except (PlinthError, OSError) as error:
                problem = f"the locks it carries cannot be used: {error}"
                yield Check("provenance", "", (problem,))
                yield Check("contract", "", ("unknown without these locks",))
            else:
                yield check_inputs(recipe, provenance, self.manifest_bytes)
                yield check_contract(recipe, self.manifest, self.config)
        if self.request.checkout is not None:
            yield check_checkout(provenance, self.request.checkout)
        if self.request.rebuild:
            with tempfile.TemporaryDirectory(prefix="plinth-rebuild-") as folder:
                yield check_rebuild(
                    provenance,
                    self.manifest_bytes,
                    [layer.path() for layer in self.source.layers()],
                    Path(folder),
                    config=self.request.config,
                    inputs=self.request.inputs,
                    progress=self.request.progress,
                )

    def by_sbom(self, proven: Sequence[Proven], contents: Sequence[LayerContents | str]) -> Check:
        """Every authentic SBOM against what the layers hold, and that against its own records."""
        if not proven:
            return Check("sbom", "", ("no valid SBOM found",))
        held = [one for one in contents if isinstance(one, LayerContents)]
        if len(held) != len(contents):
            return Check("sbom", "", ("layers cannot be read, see blobs",))
        problems = []
        for one in proven:
            document = canonical_json(one.statement.predicate)
            problems += [str(problem) for problem in check_sbom(document, self.manifest, held)]
        files = sum(layer.files for layer in held)
        packages = sum(len(layer.packages) for layer in held)
        return Check(
            "sbom", f"{packages} packages, {files} files, each accounted for", tuple(problems)
        )
