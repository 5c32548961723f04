"""Pushing images one after the other, and saying what came of it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache

from plinth.core import settings as config
from plinth.core.errors import VerificationError
from plinth.core.report import Progress, human_size
from plinth.evidence.verify.gate import Gate, open_gate
from plinth.evidence.verify.policy import Policy, in_force
from plinth.graph.workspace import Workspace
from plinth.publish.registry.push import Pushed, push_image


def push_images(
    ws: Workspace,
    ids: Sequence[str],
    *,
    to: str,
    policy: str,
    trust: str,
    mounts: Sequence[str],
    jobs: int,
    progress: Progress,
) -> None:
    """Push the images `ids` and print a few lines of each; see
    `plinth.publish.registry.push.push_image`.

    Raises:
        VerificationError: the images are there, and `latest` was kept from naming one of them.
    """
    settings = config.load()
    # A publication has a date, of the moment it is made; no output depends on it.
    today = datetime.datetime.now(datetime.timezone.utc).date()

    @lru_cache(maxsize=1)
    def gate() -> Gate:
        return open_gate(in_force(settings, Policy(trust=trust), policy))

    kept = []
    for image_id in ids:
        pushed = push_image(
            ws,
            image_id,
            to or settings.publish,
            config=settings,
            gate=gate,
            today=today,
            mounts=mounts,
            jobs=jobs,
            progress=progress,
        )
        print(_told(image_id, pushed), flush=True)
        if not pushed.latest:
            kept.append(f"{image_id}: {pushed.refused}")
    if kept:
        raise VerificationError(
            "`latest` was not moved: it may only point to a signed, verified image\n"
            + "\n".join(kept)
        )


def _told(image_id: str, pushed: Pushed) -> str:
    tally = pushed.tally
    tags = [pushed.tag, *(["latest"] if pushed.latest else [])]
    return (
        f"{image_id}: {tally.sent} blobs sent ({human_size(tally.sent_bytes)}), {tally.mounted} "
        f"mounted, {tally.there} there before\n"
        f"  {pushed.place}:{', '.join(tags)}\n"
        f"  manifest  {pushed.digest.oci}"
    )
