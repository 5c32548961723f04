"""What a build step gives: named blobs, and small facts about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plinth.core.digest import Digest, Json


@dataclass(frozen=True)
class ActionResult:
    """What an action made: named blobs, and small facts about them (`info`)."""

    outputs: Mapping[str, Digest]
    info: Mapping[str, Json] = field(default_factory=dict)
