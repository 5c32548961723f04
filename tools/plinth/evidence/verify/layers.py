"""Do the layers hold what the locks give, all of it and nothing else, and does the SBOM say so?"""

from __future__ import annotations

from collections.abc import Sequence

from plinth import __version__
from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import Problem, SbomError
from plinth.core.report import counted
from plinth.evidence.sbom.check import check_sbom
from plinth.evidence.sbom.inputs import SbomInputs, compare, sbom_action
from plinth.evidence.verify.candidate import Candidate, notes, ranked
from plinth.evidence.verify.statements import Proven
from plinth.evidence.verify.verdict import Check
from plinth.inspect.conform import strays
from plinth.inspect.contents.cache import ContentsCache


def check_layers(
    inputs: SbomInputs, proven: Sequence[Proven], version: str, cache: ContentsCache | None
) -> tuple[Check, Check, list[str]]:
    """The checks `layers` and `sbom` of an image that plinth `version` built: its layers against
    its locks, and the SBOMs that are `proven` against the one that both give; with notes on those
    that are not it, where one is.

    That SBOM is a function of manifest, locks and layers, and made only where the layers are right,
    so `cache` remembers it under all three: the manifest's digest stands for the layers only where
    those that were read are the ones that it names. A docker archive has others.
    """
    read = [layer.digest for layer in inputs.contents]
    others = read if read != [layer.digest for layer in inputs.manifest.layers] else []
    action = sbom_action(inputs.manifest.digest, inputs.recipe, version, others)
    made = cache.lookup(action, "sbom") if cache is not None else None
    if made is None:
        # What is known already costs the library's time to load nobody.
        from plinth.evidence.sbom.make import make_sbom

        problems = [*compare(inputs), *strays(inputs.recipe, inputs.manifest, inputs.contents)]
        try:
            made = b"" if problems else make_sbom(inputs, version)
        except SbomError as error:
            problems = list(error.problems)
        # Annotations and metadata may be anybody's.
        except (ValueError, KeyError, TypeError) as error:
            problems = [Problem("", f"no SBOM can be made of it: {type(error).__name__}: {error}")]
        if problems or made is None:
            texts = tuple(dict.fromkeys(map(str, problems)))
            unknown = "what it should be is unknown: the layers are not what the locks give"
            return Check("layers", "", texts), Check("sbom", "", (unknown,)), []
        if cache is not None:
            cache.store(action, "sbom", made)
    files = sum(layer.files for layer in inputs.contents)
    packages = sum(len(layer.packages) for layer in inputs.contents)
    detail = f"{counted(packages, 'package')}, {counted(files, 'file')}, as the locks give them"
    return Check("layers", detail), *_sbom(proven, made, version)


def _sbom(proven: Sequence[Proven], made: bytes, version: str) -> tuple[Check, list[str]]:
    """The first SBOM that is the one `made`; and notes on the others."""
    if not proven:
        return Check("sbom", "", ("no valid SBOM found",)), []
    detail = f"the one that image and locks give, sha256:{Digest.of(made).hex[:12]}"
    found = []
    for one in proven:
        problems = [*map(str, check_sbom(canonical_json(one.statement.predicate), made))]
        if problems and version != __version__:
            problems.append(f"it was made by plinth {version}, this is {__version__}")
        found.append(Candidate(one.where, [Check("sbom", detail, tuple(problems))]))
    best, *others = ranked(found)
    return best.checks[0], [*notes(others)]
