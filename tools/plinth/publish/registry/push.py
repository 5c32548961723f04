"""Pushing one built image: blobs, manifest, what is attached, and then, verified, its tags."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plinth.core.digest import Digest
from plinth.core.errors import ImageNameError, LayoutError, PlinthError
from plinth.core.report import Progress, counted
from plinth.core.settings import Config
from plinth.evidence.verify.gate import Gate, failures
from plinth.evidence.verify.request import Request
from plinth.fetch.registry.registry import Registry
from plinth.fetch.remote_layers import bring_image, reading
from plinth.fetch.sources.registry import open_remote
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.reference import RegistryReference, parse
from plinth.formats.oci.referrers import BUNDLE
from plinth.formats.soci.index import Ztoc
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.cache import contents_cache
from plinth.publish.registry.attach import attach
from plinth.publish.registry.dated import give_tag, move_tag
from plinth.publish.registry.known import Known
from plinth.publish.registry.soci import push_index
from plinth.publish.registry.upload import Blob, Tally, push_blobs
from plinth.recipe.built import find_reference
from plinth.recipe.forms import suffix_of, tag_of


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    place: `HOST/REPOSITORY`. tag: the dated tag, new or not. newest: `latest`, with the suffix of
    its form. latest: whether that names the image now; where not, refused says why. tally: what
    became of its blobs. soci: its SOCI index, if it was asked for.
    """

    place: str
    digest: Digest
    tag: str
    new: bool
    newest: str
    latest: bool
    refused: str
    tally: Tally
    soci: Digest | None = None


def target(to: str, name: str) -> RegistryReference:
    """The repository for the image of published name `name` at `HOST[:PORT][/PREFIX]`.

    Raises:
        ImageNameError: it is no such place.
    """
    rest = to.removeprefix("docker://").rstrip("/")
    try:
        found = parse(f"docker://{rest}/{name}")
    except ImageNameError as error:
        found, why = None, error.what
    if not isinstance(found, RegistryReference) or not rest:
        raise ImageNameError(
            "this is no place to push to" if not rest else why,
            where=to or "(empty)",
            expected="HOST[:PORT][/PREFIX]",
            remedy="to=HOST/PREFIX (plinth push: --to), or `publish` in the settings",
        )
    return found


def push_image(
    ws: Workspace,
    image_id: str,
    to: str,
    *,
    config: Config,
    gate: Callable[[], Gate],
    before: Gate | None = None,
    today: datetime.date,
    mounts: Sequence[str] = (),
    ztocs: Sequence[Ztoc] = (),
    jobs: int = 4,
    progress: Progress,
) -> Pushed:
    """Push the image that the layout calls `image_id` to `to`, see `target`; the tags of its other
    form have a suffix, see `plinth.recipe.forms`. `before` verifies it before the registry is asked
    anything. `gate` is asked once the image is there, and what it raises keeps `latest` where it
    is. `mounts` are repositories of the registry from
    which blobs may be mounted, beside those pushed to before. `ztocs` are of its layers, and become
    its SOCI index. `today` goes into the dated tag.

    Whenever it is cut off, the registry holds no tag of an image that is not whole, and the same
    push again ends in the same state.

    Raises:
        ImageNameError: `to` is no place to push to.
        LayoutError: the image is not built.
        VerificationError: it does not verify; nothing was sent.
        FetchError: the registry cannot be reached, or refuses.
    """
    built = find_reference(ws, image_id)
    place = target(to, built.image_name.partition(":")[0])
    manifest = ws.layout.get(built.manifest)
    if before is not None:
        bring_image(ws, image_id, config)
        before.admit_built(ws, built, config)
    known = Known(ws.build / "publish", place.host)
    sources = [name for name in (*known.repositories(), *mounts) if name != place.repository]
    registry = Registry.at(
        place,
        config,
        scopes=[
            f"repository:{place.repository}:pull,push",
            *(f"repository:{name}:pull" for name in sources),
        ],
    )
    blobs = _blobs(ws, manifest)
    if config.remote is None:
        # Else it may be fetched, and is looked at when its turn comes.
        for blob in blobs:
            _check_there(ws, blob)
    progress(f"{image_id}: {counted(len(blobs), 'blob')} to {registry}")
    with reading(ws.layout, config) as fetch:

        def bring(blob: Blob) -> None:
            fetch(blob.digest)
            _check_there(ws, blob)

        tally = push_blobs(
            registry,
            blobs,
            sources=lambda digest: [*known.holding(digest, but=place.repository), *mounts],
            bring=bring,
            jobs=jobs,
            progress=progress,
        )
    known.add(place.repository, [blob.digest for blob in blobs])
    # By its digest: nobody finds it by a name before it is known to be good.
    registry.put_manifest(built.manifest.oci, MANIFEST, manifest)
    soci = None
    if ztocs:
        subject = Descriptor(MANIFEST, built.manifest)
        soci = push_index(registry, subject, ztocs, jobs=jobs, progress=progress)
        progress(f"{image_id}: SOCI index {soci.oci} of {counted(len(ztocs), 'layer')}")
    by_digest = RegistryReference(place.host, place.repository, digest=built.manifest.hex)
    refused = _attach(ws, image_id, by_digest, config, progress)
    if not refused:
        # Here is where they are read, whoever has them by now.
        bring_image(ws, image_id, config)
        refused = _refusal(ws, image_id, by_digest, config, gate, progress)
    with known.alone():
        tag, new = give_tag(registry, manifest, today, suffix_of(built.name))
    progress(f"{image_id}: {'tagged' if new else 'has the tag'} {tag}")
    newest = tag_of(built.name)
    if not refused and move_tag(registry, newest, manifest):
        progress(f"{image_id}: {newest} moved to {built.manifest.oci}")
    return Pushed(
        str(registry), built.manifest, tag, new, newest, not refused, refused, tally, soci
    )


def _blobs(ws: Workspace, manifest: bytes) -> list[Blob]:
    """Config and layers, with the files they are in."""
    read = parse_manifest(manifest)
    named = [("config", read.config.digest)]
    named += [(layer.title or layer.digest.hex[:12], layer.digest) for layer in read.layers]
    return [Blob(name, digest, ws.layout.path(digest)) for name, digest in named]


def _check_there(ws: Workspace, blob: Blob) -> None:
    if not ws.layout.has(blob.digest):
        raise LayoutError(
            "a blob of the image is not there",
            where=str(blob.path),
            remedy="build it again",
        )


def _shown(place: RegistryReference) -> str:
    return f"docker://{place.host}/{place.repository}@{place.place}"


def _attach(
    ws: Workspace, image_id: str, place: RegistryReference, config: Config, progress: Progress
) -> str:
    """Attach what the layout has of bundles; says what keeps the image from being signed."""
    with open_source(f"oci:{ws.layout.root}@sha256:{place.digest}", config) as source:
        if not any(source.referrers(BUNDLE)):
            return (
                f"it is not signed; sign it (plinth sign {image_id} --trust TRUST) and push again "
                "with --trust TRUST or --policy FILE. TRUST is public (Sigstore's own), embedded "
                "(plinth trust init makes one), or the file of a client trust config"
            )
        attached = attach(source, _shown(place), (), config)
    progress(f"{image_id}: attached {', '.join(kind for kind, _ in attached.bundles)}")
    return ""


def _refusal(
    ws: Workspace,
    image_id: str,
    place: RegistryReference,
    config: Config,
    gate: Callable[[], Gate],
    progress: Progress,
) -> str:
    """Why `latest` must not name the image in the registry; empty where it may.

    Manifest and bundles are read back. Blobs are hashed here: the registry said it has them, by
    their digests.
    """
    try:
        opened = gate()
        with open_remote(_shown(place), place, config, store=ws.layout) as source:
            verdict = opened.verdict(
                source, Request(expected=image_id, cache=contents_cache(), config=config)
            )
    except PlinthError as error:
        return f"it could not be verified: {error}"
    if not verdict.passed:
        return f"it does not verify\n{failures(verdict)}"
    progress(f"{image_id}: verified, {len(verdict.checks)} checks, signed by {opened.shown}")
    return ""
