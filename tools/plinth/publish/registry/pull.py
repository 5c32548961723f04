"""Pulling an image and its signatures from a registry into a layout, verified before it has a
name there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import ImageNameError, IntegrityError, VerificationError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.verify.gate import Gate, failures
from plinth.evidence.verify.image import Request
from plinth.fetch.sources.model import ImageSource
from plinth.fetch.sources.registry import open_remote
from plinth.formats.oci.documents import document, repository_name
from plinth.formats.oci.layout import tag
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import MANIFEST, TITLE, Descriptor
from plinth.formats.oci.reference import RegistryReference, parse
from plinth.formats.oci.referrers import BUNDLE, attach_to_layout
from plinth.formats.oci.strict import CONFIG_KEYS
from plinth.inspect.contents.read import contents_cache

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
    found = parse(text if text.startswith("docker://") else f"docker://{text}")
    if not isinstance(found, RegistryReference):
        raise ImageNameError("this is not in a registry", where=text)
    return found


def pull_image(
    reference: str,
    layout: Path,
    *,
    config: Config,
    gate: Callable[[], Gate] | None,
    name: str = "",
    jobs: int = 4,
    progress: Progress,
) -> Pulled:
    """Pull the image `reference` into the layout, which is made where there is none. `gate`
    verifies it before the layout names it; None takes it as it is, its digests checked. `name` is
    its name there; empty takes the image's id, or the last part of its repository.

    Raises:
        ImageNameError: `reference` is in no registry.
        FetchError: the registry cannot be reached, or has no such image.
        IntegrityError, LayoutError: what it sends is not what digests name, or no image.
        VerificationError: the image does not verify.
    """
    wanted = in_registry(reference)
    # Before anything is pulled: a missing policy shows at once.
    opened = gate() if gate else None
    store = BlobStore(layout)
    store.prepare()
    with open_remote(reference, wanted, config, store=store) as source:
        manifest = source.manifest()
        if manifest is None:
            raise IntegrityError("the registry sent no manifest", where=reference)
        read = parse_manifest(manifest, reference, media_type=MANIFEST)
        digest = read.digest
        architecture = _architecture(source.config(), digest.oci)
        _pull_layers(source, len(read.layers), jobs, progress)
        if opened is not None:
            verdict = opened.verdict(
                source, Request(expected=source.asked, cache=contents_cache(), config=config)
            )
            if not verdict.passed:
                raise VerificationError(
                    f"it does not verify\n{failures(verdict)}",
                    where=f"{reference}, {digest.oci}",
                    remedy="--no-verify pulls it all the same; do not run it",
                )
            progress(f"verified, {len(verdict.checks)} checks, signed by {opened.shown}")
        found = source.referrers(BUNDLE)
        bundles = [(one.predicate_type, one.data) for one in found if not one.problems]
    store.put(manifest)
    noted = read.annotations
    called = name or noted.get(_IMAGE) or repository_name(wanted.repository)
    subject = Descriptor(MANIFEST, digest)
    if bundles:
        attach_to_layout(store, subject, bundles)
    image_name = f"{noted.get(TITLE) or wanted.repository}:latest"
    tag(store, called, subject, image_name=image_name, architecture=architecture)
    return Pulled(called, digest, len(bundles))


def _pull_layers(source: ImageSource, count: int, jobs: int, progress: Progress) -> None:
    """Bring all layers into the source's store, several at once."""
    with ThreadPoolExecutor(max(1, jobs), "pull") as pool:
        waiting = [pool.submit(_touch, source, number) for number in range(count)]
        for number, future in enumerate(waiting, 1):
            future.result()
            if number == count or number % 10 == 0:
                progress(f"pulled {number} of {count} layers")


def _touch(source: ImageSource, number: int) -> None:
    source.layers()[number].open().close()


def _architecture(config: bytes, where: str) -> str:
    found = document(config, f"{where}: config", CONFIG_KEYS).get("architecture")
    return found if isinstance(found, str) else "amd64"
