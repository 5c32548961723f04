"""Attaching an image's bundles to the same image in a registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plinth.core.digest import Digest
from plinth.core.errors import (
    AttestationError,
    FetchError,
    ImageNameError,
    IntegrityError,
    LayoutError,
)
from plinth.core.settings import Config
from plinth.evidence.statement import CALLED, parse
from plinth.evidence.verify.request import RawBundle
from plinth.fetch.registry.referrers import attach_to_registry
from plinth.fetch.registry.registry import Registry
from plinth.fetch.sources.model import ImageSource
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.reference import RegistryReference
from plinth.formats.oci.reference import parse as parse_reference
from plinth.formats.oci.referrers import BUNDLE, payload, referrers_name


@dataclass(frozen=True)
class Attached:
    """What was attached, and where it can be found.

    place: the image by digest, `HOST/REPOSITORY@sha256:…`. bundles: what each bundle is called
    and the digest of its manifest. listed: the tag of the index that lists them, empty where the
    registry's referrers API does.
    """

    place: str
    bundles: tuple[tuple[str, Digest], ...]
    listed: str


def attach(
    source: ImageSource, target: str, given: Sequence[RawBundle], config: Config
) -> Attached:
    """Attach bundles to the image `target` of a registry: those `given`, else those attached to
    the image in `source`, which must be the same. No signature is checked; `verify` does that.

    Raises:
        ImageNameError: `target` is not in a registry.
        IntegrityError: the registry's image has another manifest.
        AttestationError: there is no bundle, or one is damaged or about another image.
        FetchError: the registry cannot be reached, lacks the image, or refuses.
    """
    wanted = parse_reference(target)
    if not isinstance(wanted, RegistryReference):
        raise ImageNameError(
            "this is not in a registry", where=target, expected="HOST[:PORT]/REPOSITORY[:TAG]"
        )
    manifest = source.manifest()
    if manifest is None:
        raise AttestationError(
            "an archive without its manifest cannot say what to attach to", where=source.name
        )
    subject = Digest.of(manifest)
    bundles = [(_kind(bundle, subject), bundle.data) for bundle in given or _attached(source)]
    if not bundles:
        raise AttestationError(
            "no bundle is attached to the image",
            where=source.name,
            remedy="sign it first (plinth sign), or name bundles with --bundle",
        )
    registry = Registry.at(wanted, config)
    _compare(registry, wanted, subject, source.name)
    made = attach_to_registry(registry, Descriptor(MANIFEST, subject), bundles)
    listed = {str(entry.get("digest")) for entry in registry.referrers(subject, BUNDLE)}
    if not {digest.oci for digest in made} <= listed:
        raise FetchError(
            "the registry took the bundles, and does not list them",
            where=f"{registry}@{subject.oci}",
        )
    name = referrers_name(subject)
    return Attached(
        f"{wanted.host}/{wanted.repository}@{subject.oci}",
        tuple(
            (CALLED.get(kind, kind), digest)
            for (kind, _), digest in zip(bundles, made, strict=True)
        ),
        name if registry.manifest(name) is not None else "",
    )


def _attached(source: ImageSource) -> list[RawBundle]:
    return [
        RawBundle(one.where, one.data, one.predicate_type, one.problems)
        for one in source.referrers(BUNDLE)
    ]


def _kind(bundle: RawBundle, subject: Digest) -> str:
    """The predicate type of a bundle that is about `subject` and nothing else."""
    if bundle.problems:
        raise AttestationError("; ".join(bundle.problems), where=bundle.where)
    try:
        statement = parse(payload(bundle.data), bundle.where)
    except LayoutError as error:
        raise AttestationError(error.what, where=bundle.where) from None
    if set(statement.subjects) != {subject.hex}:
        raise AttestationError(
            "it is about another image",
            where=bundle.where,
            expected=subject.oci,
            found=", ".join(f"sha256:{one}" for one in statement.subjects),
        )
    return statement.predicate_type


def _compare(registry: Registry, wanted: RegistryReference, subject: Digest, name: str) -> None:
    found = registry.manifest(wanted.place)
    where = f"{registry}{'@' if wanted.digest else ':'}{wanted.place}"
    remedy = f"copy it there first: skopeo copy {name} docker://{registry}:TAG"
    if found is None:
        raise FetchError("there is no such image", where=where, remedy=remedy)
    if Digest.of(found.data) != subject:
        raise IntegrityError(
            "the registry has a different image; these bundles are not about it",
            where=where,
            expected=f"{subject.oci}, as {name} has it",
            found=Digest.of(found.data).oci,
            remedy=f"{remedy} (docker push makes another manifest)",
        )
