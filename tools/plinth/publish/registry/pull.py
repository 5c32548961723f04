"""Pulling an image and its signatures from a registry into a layout, verified before it has a
name there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import ImageNameError, IntegrityError, LayoutError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.stopping import result, together
from plinth.core.store import BlobStore
from plinth.evidence.verify.gate import Gate
from plinth.evidence.verify.request import Request
from plinth.fetch.sources.model import ImageSource
from plinth.fetch.sources.registry import open_remote
from plinth.formats.oci.documents import document, repository_name
from plinth.formats.oci.layout import check_apart, check_free, read_index, tag
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import MANIFEST, TITLE, Descriptor
from plinth.formats.oci.reference import RegistryReference, parse
from plinth.formats.oci.referrers import BUNDLE, attach_to_layout
from plinth.formats.oci.strict import CONFIG_KEYS
from plinth.inspect.contents.cache import contents_cache
from plinth.recipe.forms import split, tag_of

_IMAGE = "dev.plinth.image"


@dataclass(frozen=True)
class Pulled:
    """What was pulled: the name in the layout, the manifest, and how many bundles with it."""

    name: str
    digest: Digest
    bundles: int


def in_registry(text: str) -> RegistryReference:
    """The image of a registry that `text` names.

    Raises:
        ImageNameError: it names none.
    """
    schemes = ("docker://", "oci:", "oci-archive:", "docker-archive:")
    found = parse(text if text.startswith(schemes) else f"docker://{text}")
    if not isinstance(found, RegistryReference):
        raise ImageNameError(
            "this is not in a registry",
            where=text,
            expected="HOST[:PORT]/REPOSITORY[:TAG | @sha256:…]",
        )
    return found


def pull_image(
    reference: str,
    layout: Path,
    *,
    config: Config,
    gate: Gate | None,
    name: str = "",
    jobs: int = 4,
    progress: Progress,
) -> Pulled:
    """Pull the image `reference` into the layout, which is made where there is none. `gate`
    verifies it before the layout names it; None takes it as it is, its digests checked. `name` is
    its name there; empty takes the image's id. Of an image that nothing verified, its names are
    those of the reference, and one that another image has there is refused.

    Raises:
        ImageNameError: `reference` is in no registry.
        LayoutError: the name stands for another image or is of another form, or engines give it
            to one.
        FetchError: the registry cannot be reached, or has no such image.
        IntegrityError, LayoutError: what it sends is not what digests name, or no image.
        VerificationError: the image does not verify.
    """
    wanted = in_registry(reference)
    store = BlobStore(layout)
    store.prepare()
    with open_remote(reference, wanted, config, store=store) as source:
        manifest = source.manifest()
        if manifest is None:
            raise IntegrityError("the registry sent no manifest", where=reference)
        read = parse_manifest(manifest, reference, media_type=MANIFEST)
        digest = read.digest
        if gate is None:
            # Verification reads what is there already; without it, what is damaged goes here.
            for blob in read.blobs:
                store.sound(blob)
        architecture = _architecture(source.config(), digest.oci)
        called = name or repository_name(wanted.repository)
        image_name = f"{wanted.host}/{wanted.repository}:{wanted.tag}"
        if gate is not None:
            # Before the layers come: nothing of an image that nobody signed does.
            request = Request(source.asked, cache=contents_cache(), config=config)
            verdict = gate.admit(source, request)
            progress(f"verified, {len(verdict.checks)} checks, signed by {gate.shown}")
            called = name or read.annotations.get(_IMAGE, called)
            image_name = f"{read.annotations.get(TITLE, wanted.repository)}:{tag_of(called)}"
        form = split(called)[1]
        if form and form != read.compression:
            raise LayoutError(
                f"{called!r} would name another form than this one",
                where=reference,
                expected=f"an image in {form}",
                found=f"one in {read.compression}",
                remedy="give it another name with --name, or pull the tag of that form",
            )
        if (store.root / "index.json").exists():
            # Told before gigabytes come.
            entries = read_index(store)["manifests"]
            if gate is None:
                # Asked again when it counts.
                check_free(entries, called, digest)
            check_apart(entries, called, image_name, digest)
        _pull_layers(source, len(read.layers), jobs, progress)
        # What strangers attached stays where it is.
        bundles = [
            (one.predicate_type, one.data)
            for one in source.referrers(BUNDLE)
            if not one.problems and (gate is None or gate.proves(one.data))
        ]
    store.put(manifest)
    subject = Descriptor(MANIFEST, digest)
    if bundles:
        attach_to_layout(store, subject, bundles)
    verified = gate is not None
    tag(store, called, subject, image_name=image_name, architecture=architecture, over=verified)
    return Pulled(called, digest, len(bundles))


def _pull_layers(source: ImageSource, count: int, jobs: int, progress: Progress) -> None:
    """Bring all layers into the source's store, several at once."""
    with together(max(1, jobs), "pull") as pool:
        waiting = [pool.submit(_touch, source, number) for number in range(count)]
        for number, layer in enumerate(waiting, 1):
            result(layer)
            if number == count or number % 10 == 0:
                progress(f"pulled {number} of {count} layers")


def _touch(source: ImageSource, number: int) -> None:
    source.layers()[number].open().close()


def _architecture(config: bytes, where: str) -> str:
    found = document(config, f"{where}: config", CONFIG_KEYS).get("architecture")
    return found if isinstance(found, str) else "amd64"
