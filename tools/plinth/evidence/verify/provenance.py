"""Is a provenance true: of this image, from these very locks, by whom it should be?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from plinth.build.plan import labels
from plinth.evidence.provenance import LOCAL_BUILDER, Provenance
from plinth.evidence.verify.certificate import FACTS
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.verdict import Check, Claim
from plinth.formats.oci.manifest import parse_manifest
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU
from plinth.recipe.base import LOCAL
from plinth.recipe.materials import Material, materials
from plinth.recipe.recipe import Recipe

# Alone in front: behind a host, `://` is part of a path.
_PROTOCOL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def check_origin(provenance: Provenance, certified: Mapping[str, str], policy: Policy) -> Check:
    """Who built, and from which commit, against what `policy` wants of it.

    What the signer alone says is shown as their claim. `certified` is what the certificate of the
    provenance's signer says: it comes before the claims, which must not contradict it.
    """
    git, problems = provenance.git, []
    claimed = {
        "builder": provenance.builder,
        "source": git.remote if git else "",
        "commit": git.commit if git else "",
    }
    for fact in FACTS:
        said, certain = claimed.get(fact, ""), certified.get(fact, "")
        # Where nobody named a builder, the provenance claims none.
        if certain and said not in ("", LOCAL_BUILDER) and not _same(fact, said, certain):
            problems.append(f"{fact}: the signer says {said}, the certificate says {certain}")
        wanted, found = getattr(policy, fact, ""), certain or said
        if wanted and not _same(fact, found, wanted):
            # What certificates alone have, no signer could say.
            who = "the certificate" if certain or fact not in claimed else "the signer"
            problems.append(f"{fact}: {who} says {found or 'nothing'}, the policy wants {wanted}")
        if fact in policy.certified and not certain:
            problems.append(
                f"{fact}: the policy wants it from the certificate, which says nothing; the "
                f"signer says {said or 'nothing'}"
            )
    if policy.require_clean and (git is None or not git.clean):
        problems.append("built from a tree that no commit describes")
    claims = [Claim("plinth", provenance.version)]
    claims += [Claim(fact, value) for fact, value in claimed.items() if value]
    claims += [Claim("clean", "true" if git.clean else "false")] if git else []
    claims += [Claim(fact, certified[fact], certified=True) for fact in FACTS if fact in certified]
    return Check("origin", _told(provenance, certified), tuple(problems), tuple(claims))


def _same(fact: str, one: str, other: str) -> bool:
    if fact != "source":
        return one == other
    return _repository(one) == _repository(other)


def _repository(uri: str) -> str:
    """Host and path of a repository, which is cloned by several protocols, with and without
    `.git`."""
    return _PROTOCOL.sub("", uri).rstrip("/").removesuffix(".git")


def _told(provenance: Provenance, certified: Mapping[str, str]) -> str:
    git, builder = provenance.git, provenance.builder
    commit = "no commit known"
    if git is not None:
        commit = f"commit {git.commit[:12]}, {'clean' if git.clean else 'with uncommitted changes'}"
    where = "a machine of its own" if builder == LOCAL_BUILDER else builder
    told = f"the signer says: plinth {provenance.version} on {where}, {commit}"
    if certified:
        facts = ", ".join(f"{fact} {certified[fact]}" for fact in FACTS if fact in certified)
        told += f"; the certificate says: {facts}"
    return told


def claimed_recipe(ws: Workspace, provenance: Provenance) -> Recipe:
    """The recipe that `provenance` says the image was built by; `ws` holds its files.

    Raises:
        PlinthError: as `Recipe.load`.
    """
    accelerator = provenance.accelerator or CPU
    return Recipe.load(ws, provenance.image, base=provenance.base, accelerator=accelerator)


def check_inputs(recipe: Recipe, provenance: Provenance, manifest: bytes) -> Check:
    """Compare `provenance` with the recipe made of the files it carries, and with the image's
    manifest."""
    found = materials(recipe)
    problems = [
        *_against_locks(provenance, found),
        *_against_manifest(recipe, provenance, manifest),
    ]
    detail = f"{len(found)} inputs and {len(provenance.sources)} files, as the locks have them"
    return Check("provenance", detail, tuple(problems))


def _against_locks(provenance: Provenance, found: list[Material]) -> Iterator[str]:
    """Every input of the locks is an input it names, and the other way about."""
    said = {_key(one): one for one in provenance.materials}
    locked = {_key(one): one for one in found}
    if len(said) != len(provenance.materials):
        yield "it names an input twice"
    for key in sorted(locked.keys() - said.keys()):
        yield f"the lock has {key[0]} ({key[1]}), the provenance does not"
    for key in sorted(said.keys() - locked.keys()):
        yield f"the provenance has {key[0]} ({key[1]}), no lock does"
    for key in sorted(said.keys() & locked.keys()):
        if said[key].digest != locked[key].digest:
            yield (
                f"{key[0]} ({key[1]}): the lock has {locked[key].digest.oci}, the provenance "
                f"{said[key].digest.oci}"
            )
        elif said[key].annotations != locked[key].annotations:
            yield f"{key[0]} ({key[1]}): its annotations are not those of the lock"


def _key(material: Material) -> tuple[str, str]:
    return material.uri, material.name


def _against_manifest(recipe: Recipe, provenance: Provenance, manifest: bytes) -> Iterator[str]:
    """The manifest is that of the image the provenance is about, and says so."""
    if provenance.manifest != manifest:
        yield "the manifest it carries is another image's"
    for path in sorted(provenance.sources.keys() - recipe.files.keys()):
        yield f"it carries {path}, which has no say in this image"
    wanted = labels(recipe)
    annotations = parse_manifest(manifest).annotations
    for key in sorted({*wanted, *annotations}):
        if annotations.get(key) != wanted.get(key):
            yield (
                f"annotation {key}: the locks give {wanted.get(key)!r}, the manifest has "
                f"{annotations.get(key)!r}"
            )


def check_checkout(provenance: Provenance, checkout: Path) -> Check:
    """Compare the files `provenance` carries with those in the folder `checkout`, where no file
    names the interpreter of a local base."""
    problems = []
    sources = dict(provenance.sources)
    detail = ""
    if provenance.base.endswith(LOCAL):
        sources.pop(f"locks/base/{provenance.base}.toml", None)
        detail = "; the interpreter is the building machine's own"
    for path, data in sorted(sources.items()):
        try:
            own = (checkout / path).read_bytes()
        except OSError:
            problems.append(f"{path}: not in {checkout}")
            continue
        if own != data:
            problems.append(f"{path}: another one than in {checkout}")
    alike = f"{len(sources) - len(problems)} of " if problems else ""
    detail = f"{alike}{len(sources)} files as in {checkout}{detail}"
    return Check("checkout", detail, tuple(problems))
