"""What an image's lock is made from, as one document with a checksum, and how two differ."""

from __future__ import annotations

from collections.abc import Mapping

from plinth.core.clock import moment_text
from plinth.core.digest import Digest, Json, canonical_json
from plinth.recipe.image import ImageSpec, Target

PIP_TOOLS = "6.14.0"
"""The last that runs on Python 3.7."""

FORMAT = 1
"""Raised whenever the code would make another lock of the same inputs."""


def inputs_of(spec: ImageSpec, target: Target, extended: str = "") -> dict[str, Json]:
    """Everything that decides the lock of `spec` for `target`; `extended` is the SHA-256 of the
    requirements.txt of the image it extends, whose pins it keeps."""
    more: dict[str, Json] = {"extends": spec.extends, "extended": extended} if extended else {}
    if spec.overrides:
        more["overrides"] = [one.requirement for one in spec.overrides]
    if spec.own:
        more["local"] = {one.key: one.recorded for one in spec.own.values()}
    # With a fallback, both indexes are right.
    bound = {name: spec.indexes[name] for name in spec.indexes if name not in spec.fallbacks}
    if bound:
        more["indexes"] = bound
    return {
        **more,
        "format": FORMAT,
        "pip-tools": PIP_TOOLS,
        "python": target.python,
        "glibc": f"{target.glibc[0]}.{target.glibc[1]}",
        "architecture": target.architecture,
        "as-of": moment_text(spec.as_of) if spec.as_of else "",
        "requirements": list(spec.requirements),
        "base-requirements": list(target.requirements),
        "constraints": [constraint.requirement for constraint in spec.constraints],
    }


def checksum(inputs: Mapping[str, Json]) -> str:
    """The SHA-256 of the inputs, in hexadecimal."""
    return Digest.of(canonical_json(inputs)).hex


def changes(old: Mapping[str, Json], new: Mapping[str, Json]) -> list[str]:
    """One sentence for each input that differs."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, list) and isinstance(after, list):
            gone = [str(item) for item in before if item not in after]
            come = [str(item) for item in after if item not in before]
            if gone and come:
                found.append(f"{key}: {', '.join(gone)} became {', '.join(come)}")
            elif gone or come:
                verb = "removed" if gone else "added"
                found.append(f"{key}: {', '.join(gone or come)} {verb}")
            else:
                found.append(f"{key}: the order changed")
        else:
            found.append(f"{key}: {before!r} became {after!r}")
    return found
