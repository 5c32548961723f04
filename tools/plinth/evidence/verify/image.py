"""Verifying one image from any source: every check, in an order in which each knows enough."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError, PlinthError
from plinth.core.report import counted
from plinth.core.stopping import meanwhile
from plinth.evidence.provenance import Provenance, ProvenanceError
from plinth.evidence.provenance import parse as parse_provenance
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.evidence.statement import PREDICATES, PROVENANCE, SBOM
from plinth.evidence.verify import statements as bundles_module
from plinth.evidence.verify.blobs import (
    UNSIGNED,
    check_blobs,
    read_config,
    read_image,
    read_signed,
)
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.bytecode import check_bytecode
from plinth.evidence.verify.candidate import Candidate, notes, ranked
from plinth.evidence.verify.contract import check_contract, check_platform, check_user
from plinth.evidence.verify.form import check_form
from plinth.evidence.verify.inputs import check_locked_files
from plinth.evidence.verify.layers import check_layers
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.provenance import (
    check_checkout,
    check_inputs,
    check_origin,
    claimed_recipe,
)
from plinth.evidence.verify.rebuilders import Rebuilder, Subject, check_rebuilders, without_rebuilt
from plinth.evidence.verify.request import RawBundle, Request, bundles_of, others_of
from plinth.evidence.verify.statements import Proven, Statements, authenticate
from plinth.evidence.verify.verdict import Check, Verdict
from plinth.fetch.sources.model import ImageSource
from plinth.formats.oci.documents import repository_name
from plinth.formats.oci.manifest import Manifest
from plinth.formats.oci.model import TITLE
from plinth.inspect.contents.hashing import Hashing
from plinth.inspect.contents.model import LayerContents
from plinth.recipe.files import write_sources
from plinth.recipe.forms import split
from plinth.recipe.recipe import Recipe

_IMAGE = "dev.plinth.image"
Contents = Callable[[], "list[LayerContents | str]"]
"""What the layers hold, or why one cannot be read; waits until all are read."""


def verify_image(
    source: ImageSource,
    verifier: BundleVerifier,
    policy: Policy,
    request: Request,
    rebuilders: Sequence[Rebuilder] = (),
    bundles: Iterable[RawBundle] | None = None,
    hashing: Hashing | None = None,
) -> Verdict:
    """Check everything there is to check of the image in `source`; `rebuilders` are those that
    `policy` names, `bundles` those of `request`, where they were read already; `hashing` has begun
    with layers."""
    rebuilt: list[RawBundle] = []
    bundles = bundles_of(source, request) if bundles is None else bundles
    statements = authenticate(without_rebuilt(bundles, rebuilt), verifier)
    with meanwhile(1, "layers") as pool:
        try:
            manifest_bytes, config_bytes = source.manifest(), source.config()
            # A docker archive lost its manifest; the signed provenance has it.
            known = (
                [manifest_bytes]
                if manifest_bytes is not None
                else [*_manifests_of(statements, Digest.of(config_bytes).hex)]
            )
            if not known:
                signed, noted = bundles_module.checks(statements)
                problem = (
                    "the archive has no manifest, and no valid provenance was found that has one "
                    "with this config"
                )
                checks = (Check("manifest", "", (problem,)), *signed)
                return Verdict(source.name, "", checks, tuple(noted))
            manifests = [(one, read_image(one)) for one in known]
            config = read_config(config_bytes)
        except (IntegrityError, LayoutError) as error:
            return Verdict(source.name, "", (Check("manifest", "", (str(error),)),))
        checked = [
            _Verification(
                source,
                policy,
                request,
                statements,
                *one,
                config_bytes,
                config,
                rebuilt,
                rebuilders,
                hashing,
            )
            for one in manifests
        ]
        # Layers are read while everything else is checked.
        verdicts = [one.verdict(pool.submit(one.contents).result) for one in checked]
        return next((one for one in verdicts if one.passed), verdicts[0])


def _manifests_of(statements: Statements, config: str) -> list[bytes]:
    """The manifests, each carried by an authentic provenance that is about it, whose config has
    the digest `config`."""
    found = {}
    for proven in statements.proven.get(PROVENANCE, []):
        try:
            data = parse_provenance(proven.statement.predicate).manifest
            read = read_image(data)
        except (ProvenanceError, LayoutError):
            continue
        if read.config.digest.hex == config and read.digest.hex in proven.statement.subjects:
            found[read.digest.hex] = data
    return list(found.values())


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
    rebuilt: Sequence[RawBundle]
    rebuilders: Sequence[Rebuilder]
    hashing: Hashing | None

    @cached_property
    def about(self) -> Statements:
        """The statements that are about this very manifest."""
        title = self.manifest.annotations.get(TITLE, "")
        return bundles_module.about(self.statements, self.manifest.digest.hex, title)

    def contents(self) -> list[LayerContents | str]:
        """What the layers hold; nothing of them is unpacked before a signature is about this very
        manifest."""
        if not any(self.about.proven.get(kind) for kind in PREDICATES):
            return [UNSIGNED] * len(self.manifest.layers)
        return read_signed(
            self.source, self.manifest, self.config, self.request.cache, self.hashing
        )

    def verdict(self, contents_of_layers: Contents) -> Verdict:
        digest, annotations, about = self.manifest.digest, self.manifest.annotations, self.about
        signed, noted = bundles_module.checks(about)
        checks = [self.name(), *self.index(), check_platform(self.config, self.request.platform)]
        checks += [*signed, check_user(self.config)]
        proven, sboms = about.proven.get(PROVENANCE, []), about.proven.get(SBOM, [])
        ordered = self.by_provenance(proven, sboms, contents_of_layers)
        best, *others = ordered
        checks += best.checks
        noted += [*best.notes, *notes(others)]
        if self.policy.rebuilders:
            good = {one.statement for one in ordered if not one.failed}
            subject = Subject(digest.hex, annotations.get(TITLE, ""), good)
            check, ignored = check_rebuilders(
                self.rebuilt, self.policy.rebuilders, self.rebuilders, subject
            )
            checks.append(check)
            noted += ignored
        elif self.rebuilt:
            count = counted(len(self.rebuilt), "statement")
            noted.append(f"{count} of rebuilds: the policy wants none")
        contents = contents_of_layers()
        checks.append(
            check_blobs(
                self.manifest, self.config_bytes, self.config, contents, self.source.compressed
            )
        )
        checks.append(
            check_form(
                self.manifest,
                self.manifest_bytes,
                self.config_bytes,
                self.config,
                contents,
                best.provenance,
                compressed=self.source.compressed,
            )
        )
        return Verdict(
            self.source.name,
            digest.oci,
            tuple(checks),
            tuple(noted),
            self.run(),
            best.statement,
        )

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
        wanted, form = split(self.request.expected)
        called = [name for name in self.source.called if repository_name(name) not in known]
        if wanted and wanted not in known:
            problem = (
                f"asked for {wanted!r}, this is {known[0]!r}, published as {known[1]!r}; where "
                f"that is the one you want, say so: --image {known[0]}"
            )
        elif form and form != self.manifest.compression:
            problem = f"asked for the form in {form}, this is in {self.manifest.compression}"
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
        others = others_of(self.source, self.manifest)
        if others:
            problems = [f"an engine could run another entry: {one}" for one in others]
            digest = self.manifest.digest.oci
            problems.append(f"its index is not signed: verify and run the image as @{digest}")
            yield Check("index", "", tuple(problems))

    def by_provenance(
        self, proven: Sequence[Proven], sboms: Sequence[Proven], contents: Contents
    ) -> list[Candidate]:
        """Every authentic provenance with the checks that need one, the one that counts first."""
        names = ["origin", "provenance", "contract", "layers", "sbom"]
        names += ["checkout"] if self.request.checkout else []
        names += ["rebuild"] if self.request.rebuild else []
        if not proven:
            lacking = [Check(name, "", ("no valid provenance found",)) for name in names]
            return [Candidate("", lacking)]
        found = ranked(self.candidate(one, sboms, contents) for one in proven)
        if self.request.rebuild:
            for number, one in enumerate(found):
                # It takes long: of those that fail already, only one that is shown.
                if number and one.failed:
                    break
                one.checks += self.rebuild(one)
                if not one.failed:
                    found.insert(0, found.pop(number))
                    break
        return found

    def candidate(self, proven: Proven, sboms: Sequence[Proven], contents: Contents) -> Candidate:
        """An authentic provenance with all its checks but the rebuild."""
        statement = Digest.of(proven.authentic.payload).hex
        try:
            said = parse_provenance(proven.statement.predicate)
            noted: list[str] = []
            certified = proven.authentic.certified
            checks = list(self.provenance(said, certified, sboms, contents, noted))
        except PlinthError as error:
            wrong = Check("provenance", "", (f"{proven.where}: {error}",))
            return Candidate(proven.where, [wrong], statement)
        return Candidate(proven.where, checks, statement, said, noted)

    def provenance(
        self,
        provenance: Provenance,
        certified: Mapping[str, str],
        sboms: Sequence[Proven],
        contents: Contents,
        noted: list[str],
    ) -> Iterator[Check]:
        yield check_origin(provenance, certified, self.policy)
        with tempfile.TemporaryDirectory(prefix="plinth-verify-") as folder:
            ws = write_sources(provenance.sources, Path(folder))
            try:
                recipe = claimed_recipe(ws, provenance)
            except (PlinthError, OSError) as error:
                problem = f"the locks it carries cannot be used: {error}"
                yield Check("provenance", "", (problem,))
                for name in ("contract", "layers", "sbom"):
                    yield Check(name, "", ("unknown without these locks",))
            else:
                yield check_inputs(recipe, provenance, self.manifest_bytes)
                yield check_contract(
                    recipe,
                    self.manifest,
                    self.manifest_bytes,
                    self.config,
                    provenance.compression,
                )
                yield from self.layers(recipe, sboms, provenance.version, contents(), noted)
        if self.request.checkout is not None:
            yield check_checkout(provenance, self.request.checkout)

    def rebuild(self, candidate: Candidate) -> Iterator[Check]:
        provenance = candidate.provenance
        if any(check.name == "checkout" for check in candidate.failed):
            # The interpreter that a base's files name is run outside of a sandbox.
            problem = "not built again: by files that are not the checkout's, nothing is run"
            yield Check("rebuild", "", (problem,))
        elif provenance is not None:
            # All that builds comes with it.
            from plinth.evidence.verify.rebuild import check_rebuild

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

    def layers(
        self,
        recipe: Recipe,
        sboms: Sequence[Proven],
        version: str,
        contents: Sequence[LayerContents | str],
        noted: list[str],
    ) -> Iterator[Check]:
        """What the layers hold, and the authentic SBOMs, against the locks; what is worth knowing
        is added to `noted`."""
        held = tuple(one for one in contents if isinstance(one, LayerContents))
        if len(held) != len(contents) or len(held) != len(self.manifest.layers):
            for name in ("layers", "sbom"):
                yield Check(name, "", ("layers cannot be read, see blobs",))
            return
        inputs = SbomInputs(self.manifest, held, recipe)
        # Where the config names other tars, `blobs` fails: nothing is remembered of such an image.
        tars = [f"sha256:{one.diff_id}" for one in held]
        cache = self.request.cache if tars == self.config["rootfs"]["diff_ids"] else None
        right, sbom, ignored = check_layers(inputs, sboms, version, cache)
        noted += ignored
        yield from (right, sbom)
        if right.passed:
            yield from self.deeper(inputs)

    def deeper(self, inputs: SbomInputs) -> Iterator[Check]:
        """What layers that are as the locks give them are compared with, where it is at hand."""
        request, layers = self.request, self.source.layers()
        try:
            if request.inputs is not None and not request.rebuild:
                found = check_locked_files(inputs, layers, request.inputs, request.cache)
                yield from filter(None, (found,))
        except (PlinthError, OSError) as error:
            yield Check("inputs", "", (str(error),))
        try:
            if request.interpreters is not None:
                yield check_bytecode(
                    inputs.recipe, layers, inputs.contents, request.interpreters, request.cache
                )
        except (PlinthError, OSError) as error:
            yield Check("bytecode", "", (str(error),))
