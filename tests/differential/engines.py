"""Engines, which hold one image at a time: name → function(image) → the images they take for it."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import requests

from differential.image import Made
from differential.readers import (
    Engines,
    Reader,
    RefusedError,
    Taken,
    Tree,
    go,
    hexed,
    place,
    run,
    run_quietly,
    starts,
    walk,
)
from plinth.formats.oci.reference import share
from support import judges


def _asked(made: Made, names: Mapping[str, str]) -> set[str]:
    """Of images by the names that an engine gave them, those that are the one asked for."""
    if not made.name and made.form != "registry":
        return set(names.values())
    return {image for name, image in names.items() if share([name], made.names)}


def _some(found: list[Taken]) -> list[Taken]:
    if not found:
        raise RefusedError("no image of this name")
    return found


def _tarred(made: Made, work: Path) -> Path:
    """The archive; a layout packed, as whoever loads it does."""
    if made.path.is_file():
        return made.path
    run("tar", "-cf", work / "layout.tar", "-C", made.path, ".")
    return work / "layout.tar"


@contextlib.contextmanager
def _mounted(*command: str | Path, at: Path, undo: list[str]) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    run(*command)
    try:
        yield at
    finally:
        run_quietly(*undo, at)


def podman(made: Made, engines: Engines, work: Path) -> list[Taken]:
    """Debian's podman, in a storage of its own each time, which is looked at as its files are."""
    base = engines.folder / "podman"
    folders: list[str | Path] = ["--root", base / "root", "--runroot", base / "run"]
    command: list[str | Path] = ["podman", *folders, "--storage-driver", "overlay"]
    pulled = made.form in ("layout", "oci-archive", "registry")
    try:
        if pulled:
            more = ["--tls-verify=false"] if made.form == "registry" else []
            run(*command, "pull", "--quiet", *more, place(made))
        else:
            run(*command, "load", "--quiet", "--input", made.path)
        listed = json.loads((base / "root/overlay-images/images.json").read_bytes())
        layers = json.loads((base / "root/overlay-layers/layers.json").read_bytes())
        parents = {layer["id"]: layer.get("parent", "") for layer in layers}
        names = {
            name.removeprefix("localhost/"): one["id"]
            for one in listed
            for name in one.get("names") or [one["id"]]
        }
        asked = {*names.values()} if pulled else _asked(made, names)
        tops = {one["id"]: one["layer"] for one in listed}
        found = []
        for image in sorted(asked):
            chain, layer = [], tops[image]
            while layer:
                chain.append(base / "root/overlay" / layer / "diff")
                layer = parents[layer]
            found.append(Taken(image, _overlaid(chain, work)))
        return _some(found)
    finally:
        # The storage is its own mount.
        run_quietly("umount", base / "root/overlay")
        shutil.rmtree(base, ignore_errors=True)


def _overlaid(layers: list[Path], work: Path) -> Tree:
    """The files of layers, the uppermost first, as the kernel shows them."""
    if len(layers) == 1:
        return walk(layers[0])
    options = "ro,lowerdir=" + ":".join(map(str, layers))
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(work / "mount")]
    with _mounted(*mount, at=work / "mount", undo=["umount"]) as root:
        return walk(root)


def ctr(made: Made, engines: Engines, work: Path) -> list[Taken]:
    return _containerd(made, work, [judges.program("containerd", "ctr"), "-a", engines.containerd])


def _containerd(made: Made, work: Path, command: list[str]) -> list[Taken]:
    try:
        if made.form == "registry":
            run(
                *command,
                "images",
                "pull",
                "--plain-http",
                "--platform",
                "linux/amd64",
                made.reference,
            )
        else:
            run(*command, "images", "import", "--platform", "linux/amd64", _tarred(made, work))
        return _images(made, work, command)
    finally:
        _clean(command)


def _clean(command: list[str]) -> None:
    with contextlib.suppress(RefusedError):
        if listed := run(*command, "images", "list", "-q").split():
            run(*command, "images", "rm", "--sync", *listed)


def _images(made: Made, work: Path, command: list[str]) -> list[Taken]:
    rows = [row.split() for row in run(*command, "images", "list").splitlines()[1:]]
    listed = {row[0]: row[2] for row in rows}
    names = {name: name for name in listed}
    found = []
    for name in sorted(_asked(made, names)):
        manifest = go(run(*command, "content", "get", listed[name]).encode())
        if "manifests" in manifest:
            # The one whose snapshot is mounted.
            listed_here = [m for m in manifest["manifests"] if _here(m)]
            if not listed_here:
                raise RefusedError("an index without an image for this platform")
            manifest = go(run(*command, "content", "get", listed_here[0]["digest"]).encode())
        undo = [*command, "images", "unmount", "--rm"]
        mount = [*command, "images", "mount", "--platform", "linux/amd64", name]
        with _mounted(*mount, work / "mount", at=work / "mount", undo=undo) as root:
            found.append(Taken(hexed(manifest["config"]["digest"]), walk(root)))
    return _some(found)


def _here(entry: Mapping[str, Any]) -> bool:
    platform = entry.get("platform") or {}
    return (platform.get("architecture") or "amd64") in ("amd64", "x86_64")


@functools.cache
def _client(host: str) -> docker.DockerClient:
    return docker.DockerClient(base_url=host, timeout=60)


def docker_classic(made: Made, engines: Engines, work: Path) -> list[Taken]:
    """Debian's engine, with layers of its own."""
    api = _client(engines.docker).api
    try:
        _load(made, work, api)
        names: dict[str, str] = {}
        for image in api.images():
            names |= dict.fromkeys(
                image["RepoTags"] or image["RepoDigests"] or [image["Id"]], image["Id"]
            )
        found = [_classic_image(api, image, work) for image in sorted(_asked(made, names))]
    finally:
        for image in api.images(all=True):
            with contextlib.suppress(docker.errors.APIError):
                api.remove_image(image["Id"], force=True)
    return _some(found)


def _load(made: Made, work: Path, api: docker.APIClient) -> None:
    try:
        if made.form == "registry":
            said = api.pull(made.reference, platform="linux/amd64")
        else:
            with _tarred(made, work).open("rb") as stream:
                said = "".join(json.dumps(one) for one in api.load_image(stream))
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise RefusedError(str(error)[-300:]) from None
    if '"errorDetail"' in said:
        raise RefusedError(said[-300:])


def _classic_image(api: docker.APIClient, image: str, work: Path) -> Taken:
    about = api.inspect_image(image)
    data = about["GraphDriver"]["Data"]
    layers = [data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))]
    tree = _overlaid([*map(Path, layers)], work)
    return Taken(hexed(image), tree, (), starts(about["Config"]))


def docker_current(made: Made, engines: Engines, work: Path) -> list[Taken]:
    """Today's engine, with containerd's image store, of which containerd's client tells."""
    address = (
        Path(engines.current.removeprefix("unix://")).parent / "exec/containerd/containerd.sock"
    )
    command = [judges.program("containerd", "ctr"), "-a", str(address), "-n", "moby"]
    try:
        _load(made, work, _client(engines.current).api)
        return _images(made, work, command)
    finally:
        _clean(command)


ENGINES: Mapping[str, Reader] = {
    "containerd": ctr,
    "podman": podman,
    "docker.io": docker_classic,
    "docker": docker_current,
}
