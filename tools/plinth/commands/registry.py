"""Verbs on images in registries: push, tags, pull, attach."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core import settings as config
from plinth.core.errors import VerificationError, plain
from plinth.core.report import counted, human_size, working
from plinth.graph.workspace import Workspace

if TYPE_CHECKING:
    from plinth.evidence.verify.gate import Gate
    from plinth.formats.soci.index import Ztoc
    from plinth.publish.registry.push import Pushed


def push(
    ws: Workspace,
    ids: Sequence[str],
    *,
    to: str,
    mount_from: Sequence[str],
    compression: str,
    soci: bool,
    no_verify: bool,
    jobs: int,
    policy: str,
    trust: str,
) -> None:
    """Push the images `ids`, verified where a policy is set, and print a few lines of each; see
    `plinth.publish.registry.push.push_image`. `compression` is the form that is pushed, made where
    it is not there (empty: the one that is named, see `plinth.recipe.forms`). `soci`: with indexes
    by which they are pulled lazily, see `plinth.build.soci`.

    Raises:
        VerificationError: the images are there, and `latest` was not moved to one of them.
    """
    from plinth.evidence.verify.gate import open_gate, required
    from plinth.evidence.verify.policy import Policy, in_force
    from plinth.publish.registry.push import push_image

    settings = config.load()
    # A publication has a date, of the moment it is made; no output depends on it.
    today = datetime.datetime.now(datetime.timezone.utc).date()

    @lru_cache(maxsize=1)
    def gate() -> Gate:
        return open_gate(in_force(settings, Policy(trust=trust), policy))

    before = required(settings, policy=policy, trust=trust, no_verify=no_verify)
    if compression:
        ids = [_form(ws, image_id, compression, settings) for image_id in ids]
    # Before anything is pushed: an image that has no index shows at once.
    ztocs = [_ztocs(ws, image_id, settings) if soci else [] for image_id in ids]
    kept = {}
    for image_id, of_image in zip(ids, ztocs, strict=True):
        with working(f"pushing {image_id}") as progress:
            pushed = push_image(
                ws,
                image_id,
                to or settings.publish,
                config=settings,
                gate=gate,
                before=before,
                today=today,
                mounts=mount_from,
                ztocs=of_image,
                jobs=jobs,
                progress=progress,
            )
        print(_summary(image_id, pushed), flush=True)
        if not pushed.latest:
            kept[f"{image_id}: {pushed.refused}"] = f"`{pushed.newest}`"
    if kept:
        newest = " or ".join(dict.fromkeys(kept.values()))
        raise VerificationError(
            f"pushed, with a dated tag; {newest} was not moved: it may only point to a signed, "
            "verified image\n" + "\n".join(kept)
        )


def _form(ws: Workspace, image_id: str, compression: str, settings: config.Config) -> str:
    from plinth.build.compression import ensure_form
    from plinth.core.lease import adding
    from plinth.graph.session import default_jobs

    with adding(ws.build), working(f"making {image_id} in {compression}") as progress:
        return ensure_form(
            ws, image_id, compression, config=settings, jobs=default_jobs(), progress=progress
        )


def _ztocs(ws: Workspace, image_id: str, settings: config.Config) -> list[Ztoc]:
    from plinth.build.soci import ensure_ztocs
    from plinth.core.lease import adding
    from plinth.graph.session import default_jobs

    with adding(ws.build), working(f"looking into {image_id}") as progress:
        return ensure_ztocs(ws, image_id, config=settings, jobs=default_jobs(), progress=progress)


def _summary(image_id: str, pushed: Pushed) -> str:
    tally = pushed.tally
    tags = [pushed.tag, *([pushed.newest] if pushed.latest else [])]
    soci = f"\n  SOCI      {pushed.soci.oci}" if pushed.soci else ""
    return (
        f"{image_id}: {counted(tally.sent, 'blob')} sent ({human_size(tally.sent_bytes)}), "
        f"{tally.mounted} mounted, {tally.there} there before\n"
        f"  {pushed.place}:{', '.join(tags)}\n"
        f"  manifest  {pushed.digest.oci}{soci}"
    )


def tags(*, image: str, as_json: bool) -> None:
    """List the tags of `image`, HOST/REPOSITORY."""
    from plinth.publish.registry.listing import list_tags, table
    from plinth.publish.registry.pull import in_registry

    place = in_registry(image)
    found = list_tags(place, config.load())
    if as_json:
        print(json.dumps([tag.to_json() for tag in found], indent=1))
    else:
        print(table(place, found))


def pull(
    *,
    reference: str,
    layout: str,
    name: str,
    no_verify: bool,
    jobs: int,
    policy: str,
    trust: str,
) -> None:
    """Pull an image into the OCI layout at `layout`."""
    from plinth.core.lease import adding_from_outside
    from plinth.evidence.verify.gate import open_gate, state
    from plinth.evidence.verify.policy import Policy, in_force
    from plinth.publish.registry.pull import pull_image

    settings = config.load()
    # Before anything is pulled: a missing policy shows at once.
    gate = None if no_verify else open_gate(in_force(settings, Policy(trust=trust), policy))
    # A checkout's layout lies in its build folder.
    folder = Path(layout).absolute().parent
    with adding_from_outside(folder), working(f"pulling {reference}") as progress:
        pulled = pull_image(
            reference,
            Path(layout),
            config=settings,
            gate=gate,
            name=name,
            jobs=jobs,
            progress=progress,
        )
    print(
        f"oci:{layout}:{pulled.name}: {pulled.digest.oci}, "
        f"{counted(pulled.bundles, 'bundle')}, {state(gate)}"
    )


def attach(*, image: str, target: str, bundle: Sequence[str], no_verify: bool) -> None:
    """Attach an image's bundles, or those in `bundle`, to the same image in a registry; verified
    where a policy is set.

    Raises:
        VerificationError: the image does not verify with these bundles.
        PlinthError: as `plinth.publish.registry.attach.attach`.
    """
    from plinth.commands.reference import named, read_bundles
    from plinth.evidence.verify.gate import required, state
    from plinth.evidence.verify.request import Request
    from plinth.fetch.sources.source import open_source
    from plinth.inspect.contents.cache import contents_cache
    from plinth.publish.registry.attach import attach as attach_one

    settings = config.load()
    gate, one, given = required(settings, no_verify=no_verify), named(image), read_bundles(bundle)
    with open_source(one.reference, settings) as source:
        if gate is not None:
            expected, cache = one.id or source.asked, contents_cache()
            gate.admit(source, Request(expected, bundles=tuple(given), cache=cache))
        done = attach_one(source, target, given, settings)
    print(f"attached to {done.place}, {state(gate)}")
    for name, digest in done.bundles:
        # Of an unknown type it is whatever the bundle says.
        print(f"  {plain(name):<10}  {digest.oci}")
    if done.listed:
        print(f"listed under the tag {done.listed}: the registry has no referrers API")
    else:
        print("listed by the registry's referrers API")
