"""Do manifest and config say what plinth makes them say: non-root, and the contract's values?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plinth.build.plan import (
    PLAN,
    PLAN_OF,
    PULLED,
    Planned,
    created,
    labels,
    planned,
    runtime,
)
from plinth.evidence.values import differing
from plinth.evidence.verify.verdict import Check
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import config_json, manifest_json
from plinth.formats.oci.manifest import Manifest
from plinth.formats.oci.model import LAYER_GZIP, LAYER_ZSTD, ZSTD
from plinth.recipe.recipe import Recipe

# As engines read a number; of a number of none, or none at all, root is the user.
_ROOT = re.compile(r"\s*([+-]?0*|root)\s*")


def check_user(config: Mapping[str, Any]) -> Check:
    """The image does not run as root."""
    inner = config.get("config")
    user = inner.get("User", "") if isinstance(inner, dict) else ""
    problems = []
    if not isinstance(user, str) or _ROOT.fullmatch(user.partition(":")[0]):
        problems.append(f"it runs as root: config.User is {user!r}")
    return Check("user", f"runs as {user}" if not problems else "", tuple(problems))


def check_platform(config: Mapping[str, Any], wanted: str) -> Check:
    """The image is for the platform that was asked for, OS/ARCHITECTURE."""
    found = f"{config.get('os')}/{config.get('architecture')}"
    problem = f"asked for {wanted}, the image is for {found}: --platform {found}"
    return Check("platform", found, () if found == wanted else (problem,))


def check_contract(
    recipe: Recipe,
    manifest: Manifest,
    manifest_bytes: bytes,
    config: Mapping[str, Any],
    compression: str,
) -> Check:
    """Manifest and config are, value for value, those that plinth gives an image of this recipe in
    this `compression`.

    The digests of layers are taken from the manifest and from the config itself: that they belong
    together is checked where blobs are, and what the layers hold elsewhere.
    """
    plan = planned(recipe)
    found = manifest.annotations.get(PLAN_OF, "1")
    if found != PLAN:
        problem = (
            f"its layers are of plan {found}, those of this plinth of plan {PLAN}: verify it with "
            "the plinth that its provenance names, or build it again"
        )
        return Check("contract", "", (problem,))
    if len(plan) != len(manifest.layers):
        problem = f"the locks give {len(plan)} layers, the manifest has {len(manifest.layers)}"
        return Check("contract", "", (problem,))
    try:
        layers = [*_layers(plan, manifest, config, compression)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Check("contract", "", (f"what the config should be cannot be told: {error}",))
    annotations = labels(recipe)
    named = manifest_json(layers, manifest.config.digest, annotations)
    made = config_json(
        layers, recipe.base.architecture, created(recipe.spec), runtime(recipe), annotations
    )
    # Through JSON and back, so that tuples and lists are one.
    problems = [
        f"{path}: expected {one}, found {other}"
        for what, wanted, found in (
            ("manifest", named, json.loads(manifest_bytes)),
            ("config", made, config),
        )
        for path, one, other in differing(what, json.loads(json.dumps(wanted)), found)
    ]
    detail = f"manifest and config as plinth makes them, in {compression}"
    return Check("contract", detail, tuple(problems))


def _layers(
    plan: Sequence[Planned], manifest: Manifest, config: Mapping[str, Any], compression: str
) -> Iterator[Layer]:
    # A pulled base stays as its maker compressed it.
    media_type = LAYER_ZSTD if compression == ZSTD else LAYER_GZIP
    for one, entry, diff_id in zip(
        plan, manifest.layers, config["rootfs"]["diff_ids"], strict=True
    ):
        kind = LAYER_GZIP if one.kind == PULLED else media_type
        hex_id = diff_id.removeprefix("sha256:")
        yield Layer(one.title, entry.digest, hex_id, 0, media_type=kind)
