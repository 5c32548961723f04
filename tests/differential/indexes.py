"""Mutations of what lists images: name → function(rng, document, the other image's)."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

from differential.image import NAME, REF

_PLATFORMS: tuple[Any, ...] = (
    None,
    {"os": "linux", "architecture": "amd64"},
    {"os": "linux", "architecture": "arm64"},
    {"os": "Linux", "architecture": "AMD64"},
    {"os": "linux", "architecture": "x86_64"},
    {"os": "unknown", "architecture": "unknown"},
    {"os": "unknown", "architecture": "amd64"},
    {"os": "linux", "architecture": "unknown"},
    {"architecture": "amd64"},
    {"os": "linux"},
    {"os": "linux", "architecture": "amd64", "variant": "v3"},
    {"os": "linux", "architecture": "amd64", "os.version": "10"},
    {"os": "windows", "architecture": "amd64"},
    {},
    [],
)


def _entry(rng: Random, ours: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The other image's entry, more or less like ours."""
    made = copy.deepcopy(other)
    if rng.random() < 0.6:
        made["platform"] = copy.deepcopy(rng.choice(_PLATFORMS))
        if made["platform"] is None:
            del made["platform"]
    if rng.random() < 0.3:
        made["artifactType"] = rng.choice(["application/vnd.example", "", None])
    if rng.random() < 0.3:
        kinds = ["application/vnd.example", "", "application/vnd.oci.image.index.v1+json"]
        kinds += ["application/vnd.docker.distribution.manifest.v2+json"]
        made["mediaType"] = rng.choice(kinds)
        if rng.random() < 0.2:
            del made["mediaType"]
    if "annotations" in made:
        made["annotations"] = _names(rng, ours["annotations"])
    return made


def _names(rng: Random, noted: dict[str, str]) -> dict[str, str]:
    title = noted.get(NAME, "")
    short = title.removeprefix("docker.io/")
    bare = short.removesuffix(":latest")
    values = [
        title,
        short,
        bare,
        noted.get(REF, ""),
        "latest",
        "x",
        f"index.{title}",
        title.upper(),
    ]
    values += [f"localhost/{short}", f"{bare}:1", f"docker.io/library/{noted.get(REF)}:latest", ""]
    found = dict(noted) if rng.random() < 0.4 else {}
    for key in (REF, NAME):
        if rng.random() < 0.6:
            found[key] = rng.choice(values)
    if rng.random() < 0.1:
        found["io.containerd.manifest.subject"] = "sha256:" + "0" * 64
    return found


def _is_ours(entry: dict[str, Any], others: list[dict[str, Any]]) -> bool:
    return entry not in others


def entries(edit: Callable[[Random, list[Any], int, dict[str, Any]], object]) -> Any:
    """Change the entries of an index: all, the place of the image's, and the other's like it."""

    def change(rng: Random, data: bytes, other: bytes) -> bytes:
        value, beside = json.loads(data), json.loads(other)
        at = next(n for n, e in enumerate(value["manifests"]) if _is_ours(e, beside["manifests"]))
        edit(rng, value["manifests"], at, beside["manifests"][at])
        return json.dumps(value, separators=(",", ":")).encode()

    return change


def _added(rng: Random, listed: list[Any], at: int, other: dict[str, Any]) -> None:
    made = _entry(rng, listed[at], other)
    listed.insert(rng.choice([0, at, at + 1, len(listed)]), made)


def _ours_changed(rng: Random, listed: list[Any], at: int, other: dict[str, Any]) -> None:
    made = _entry(rng, listed[at], listed[at])
    listed[at] = made
    if rng.random() < 0.5:
        listed.insert(rng.choice([0, at, len(listed)]), other)


def _second_name(rng: Random, listed: list[Any], at: int, other: dict[str, Any]) -> None:
    more = copy.deepcopy(listed[at])
    more["annotations"] = {REF: rng.choice(["1", "again", "v1.0"])}
    listed.insert(rng.choice([at + 1, len(listed), 0]), more)


def _unrelated(rng: Random, listed: list[Any], at: int, other: dict[str, Any]) -> None:
    noted = {REF: "unrelated", NAME: "docker.io/team/unrelated:1"}
    listed.insert(rng.choice([at, len(listed), 0]), {**other, "annotations": noted})


def _reordered(rng: Random, listed: list[Any], at: int, other: dict[str, Any]) -> None:
    rng.shuffle(listed)


ENTRIES = {
    "an entry more": entries(_added),
    "its entry otherwise": entries(_ours_changed),
    "entries in another order": entries(_reordered),
}
NAMED = {
    "a second name": entries(_second_name),
    "an unrelated image": entries(_unrelated),
}


# Of manifest.json: images that a reader may take instead.


def _images(rng: Random, data: bytes, other: bytes) -> bytes:
    (ours,), (evil,) = json.loads(data), json.loads(other)
    tag = ours["RepoTags"][0]
    tags = [tag, f"docker.io/{tag}", tag.removesuffix(":latest"), "x:1", f"localhost/{tag}", ""]
    kind = rng.randrange(6)
    if kind == 0:
        evil["RepoTags"] = rng.choice([[rng.choice(tags)], [], None, ["x:1", tag]])
        images = rng.sample([ours, evil], 2)
    elif kind == 1:
        ours["RepoTags"] = rng.choice([[rng.choice(tags)], [], None, ["x:1", tag], [tag, tag]])
        images = [ours]
    elif kind == 2:
        at = rng.randrange(len(ours["Layers"]))
        path = ours["Layers"][at]
        ways = [f"./{path}", f"/{path}", path.replace("/", "//"), f"x/../{path}", f"{path}/"]
        ours["Layers"][at] = rng.choice([*ways, path.upper(), evil["Layers"][-1], None, ""])
        images = [ours]
    elif kind == 3:
        path = ours["Config"]
        ways = [f"./{path}", f"/{path}", f"../{path}", f"x/../{path}", evil["Config"], ""]
        ours["Config"] = rng.choice(ways)
        images = [ours]
    elif kind == 4:
        images = [ours, ours]
    else:
        rng.shuffle(ours["Layers"])
        images = [ours]
    return json.dumps(images).encode()


LISTING = {"images": _images}
