"""Does the image's config say what plinth makes it say: non-root, and the contract's own values?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from plinth.build.image import created, runtime
from plinth.evidence.verify.verdict import Check
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import config_json
from plinth.formats.oci.manifest import Manifest
from plinth.formats.oci.model import TITLE
from plinth.recipe.recipe import Recipe

_ROOTS = ("", "0", "root")


def check_user(config: Mapping[str, Any]) -> Check:
    """The image does not run as root."""
    inner = config.get("config")
    user = inner.get("User", "") if isinstance(inner, dict) else ""
    problems = []
    if not isinstance(user, str) or user.partition(":")[0].strip() in _ROOTS:
        problems.append(f"it runs as root: config.User is {user!r}")
    return Check("user", f"runs as {user}" if not problems else "", tuple(problems))


def check_platform(config: Mapping[str, Any], wanted: str) -> Check:
    """The image is for the platform that was asked for, OS/ARCHITECTURE."""
    found = f"{config.get('os')}/{config.get('architecture')}"
    problem = f"asked for {wanted}, the image is for {found}: --platform {found}"
    return Check("platform", found, () if found == wanted else (problem,))


def check_contract(recipe: Recipe, manifest: Manifest, config: Mapping[str, Any]) -> Check:
    """The config is, value for value, the one plinth gives an image of this recipe.

    Layers are taken from the manifest and from the config itself: that they belong together is
    checked where blobs are.
    """
    try:
        wanted = _expected(recipe, manifest, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Check("contract", "", (f"what the config should be cannot be told: {error}",))
    problems = [*_differences("config", wanted, config)]
    return Check("contract", "config as plinth makes it", tuple(problems))


def _expected(recipe: Recipe, manifest: Manifest, config: Mapping[str, Any]) -> dict[str, Any]:
    layers = [
        Layer(entry.annotations[TITLE], entry.digest, diff_id.removeprefix("sha256:"), 0)
        for entry, diff_id in zip(manifest.layers, config["rootfs"]["diff_ids"], strict=True)
    ]
    made = config_json(
        layers,
        recipe.base.architecture,
        created(recipe.spec),
        runtime(recipe),
        manifest.annotations,
    )
    # Through JSON and back, so that tuples and lists are one.
    parsed: dict[str, Any] = json.loads(json.dumps(made))
    return parsed


def _differences(path: str, wanted: object, found: object) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in sorted({*wanted, *found}):
            yield from _differences(f"{path}.{key}", wanted.get(key), found.get(key))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(f"{path}[{number}]", one, other)
    elif wanted != found:
        yield f"{path}: expected {_shown(wanted)}, found {_shown(found)}"


def _shown(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) < 200 else text[:200] + "…"
