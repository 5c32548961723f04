"""Other people's tools: name → function(reading of an image) → the images it takes for it.

A reader that takes nothing raises `RefusedError`. What one takes is the digest of the config and
the files, or, of those that copy and do not unpack, the layers.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differential.image import Made
from plinth.core.digest import Digest
from support import judges

Tree = dict[str, str]
"""By path: type, mode, owner and group, and the target of a link or the SHA-256 of a file."""


class RefusedError(Exception):
    """A reader takes no image."""


@dataclass(frozen=True)
class Taken:
    """What a reader takes: the config's SHA-256, and the files or the SHA-256 of each layer;
    and, of those that say so, the folder and the command that it starts."""

    config: str
    tree: Tree | None = None
    layers: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()


def starts(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The folder and the command in the `config` of a config."""
    command = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    return (config.get("WorkingDir") or "/", *command)


@dataclass(frozen=True)
class Engines:
    """What readers need: a folder, sockets of engines, and a registry to push to."""

    folder: Path
    docker: str = ""
    current: str = ""
    containerd: str = ""
    registry: str = ""


Reader = Callable[[Made, Engines, Path], list[Taken]]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a program prints; it refuses by its status."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=60, cwd=cwd)
    except subprocess.TimeoutExpired:
        raise RefusedError("no answer within 60 s") from None
    if done.returncode:
        raise RefusedError((done.stderr or done.stdout).decode(errors="replace").strip()[-300:])
    return done.stdout.decode(errors="replace")


def run_quietly(*command: str | Path) -> None:
    """Clean up, as far as there is anything to clean."""
    subprocess.run(command, check=False, capture_output=True)


def line(kind: str, mode: int, uid: int, gid: int, what: str = "") -> str:
    """An entry of a `Tree`."""
    return f"{kind} {'' if kind == 'symlink' else f'{mode:o}'} {uid}:{gid} {what}"


def walk(root: Path) -> Tree:
    """The files below a folder."""
    found: Tree = {}
    for folder, below, names in os.walk(os.fsencode(root)):
        for name in (*below, *names):
            path = folder + b"/" + name
            found[_shown(os.path.relpath(path, os.fsencode(root)))] = _file(path)
    return found


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _file(path: bytes) -> str:
    about = os.lstat(path)
    common = stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
    extra = [n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("trusted.")]
    more = f" {sorted(extra)}" if extra else ""
    if stat.S_ISLNK(about.st_mode):
        return line("symlink", *common, _shown(os.readlink(path))) + more  # noqa: PTH115
    if stat.S_ISDIR(about.st_mode):
        return line("directory", *common) + more
    if stat.S_ISREG(about.st_mode):
        return line("file", *common, Digest.of_file(Path(os.fsdecode(path))).hex) + more
    return line("other", about.st_mode, *common[1:], str(about.st_rdev)) + more


def of_tar(path: Path) -> Tree:
    """The files in a tar that a reader wrote of an image."""
    found: Tree = {}
    with tarfile.open(path) as tar:
        for one in tar:
            name = one.name.removeprefix("./").rstrip("/")
            common = one.mode & 0o7777, one.uid, one.gid
            if one.islnk():
                found[name] = found[one.linkname.removeprefix("./").lstrip("/")]
            elif one.issym():
                found[name] = line("symlink", *common, one.linkname)
            elif one.isdir():
                found[name] = line("directory", *common)
            elif one.isreg():
                stream = tar.extractfile(one)
                assert stream is not None
                found[name] = line("file", *common, hashlib.sha256(stream.read()).hexdigest())
            else:
                found[name] = line("other", *common, repr(one.type))
    found.pop("", None)
    found.pop(".", None)
    return whole(found)


def whole(tree: Tree) -> Tree:
    """The files, with the folders that no entry is of, as all make them."""
    above = {parent for path in tree for parent in _parents(path)}
    return dict.fromkeys(above, line("directory", 0o755, 0, 0)) | tree


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def go(data: bytes) -> Any:
    """JSON as Go takes it: the last of the keys that are one but for case."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key.casefold(): value for key, value in found}

    text = data.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    return json.JSONDecoder(object_pairs_hook=pairs).raw_decode(text)[0]


def hexed(digest: str) -> str:
    return digest.removeprefix("sha256:")


def layers(blobs: list[bytes]) -> tuple[str, ...]:
    """The SHA-256 of each layer, unpacked where it is gzip."""
    plain = (gzip.decompress(b) if b.startswith(b"\x1f\x8b") else b for b in blobs)
    return tuple(hashlib.sha256(one).hexdigest() for one in plain)


# Tools that copy.


def place(made: Made) -> str:
    """The image as containers/image's tools name it."""
    if made.form == "registry":
        return f"docker://{made.reference}"
    return made.reference


def _copied(folder: Path) -> list[Taken]:
    manifest = go((folder / "manifest.json").read_bytes())
    config = hexed(manifest["config"]["digest"])
    blobs = [(folder / hexed(one["digest"])).read_bytes() for one in manifest["layers"]]
    try:
        return [Taken(config, None, layers(blobs))]
    except (OSError, EOFError) as error:
        raise RefusedError(str(error)) from None


def skopeo(made: Made, engines: Engines, work: Path) -> list[Taken]:
    target = work / "skopeo"
    options = ["--quiet", "--src-tls-verify=false"]
    run("skopeo", "copy", *options, place(made), f"dir:{target}")
    return _copied(target)


def skopeo_docker(made: Made, engines: Engines, work: Path) -> list[Taken]:
    """The same archive by its manifest.json."""
    if made.form not in ("both", "save"):
        raise RefusedError("not of this form")
    target = work / "skopeo-docker"
    place = f"docker-archive:{made.path}" + (f":{made.names[0]}" if made.name else "")
    run("skopeo", "copy", "--quiet", place, f"dir:{target}")
    return _copied(target)


def containers_image(made: Made, engines: Engines, work: Path) -> list[Taken]:
    target = work / "containers-image"
    target.mkdir()
    run(judges.program("containers-image"), place(made), target)
    return _copied(target)


def umoci(made: Made, engines: Engines, work: Path) -> list[Taken]:
    """The layout, of an archive as GNU tar extracts it, unpacked."""
    if made.form in ("registry", "docker-archive") or not made.name:
        raise RefusedError("not of this form")
    layout = made.path
    if made.path.is_file():
        layout = work / "extracted"
        layout.mkdir()
        run("tar", "-xf", made.path, "-C", layout)
    bundle = work / "umoci"
    run("umoci", "unpack", "--image", f"{layout}:{made.name}", bundle)
    steps = json.loads((bundle / "umoci.json").read_bytes())["from_descriptor_path"]
    digest = hexed(steps["descriptor_walk"][-1]["digest"])
    manifest = go((layout / "blobs" / "sha256" / digest).read_bytes())
    process = json.loads((bundle / "config.json").read_bytes())["process"]
    command = (process["cwd"], *process["args"])
    return [Taken(hexed(manifest["config"]["digest"]), walk(bundle / "rootfs"), (), command)]


def crane(made: Made, engines: Engines, work: Path) -> list[Taken]:
    tar = work / "crane.tar"
    program = judges.program("crane")
    if made.form == "registry":
        config = run(program, "--insecure", "--platform", "linux/amd64", "config", made.reference)
        run(program, "--insecure", "--platform", "linux/amd64", "export", made.reference, tar)
        return [Taken(hashlib.sha256(config.encode()).hexdigest(), of_tar(tar))]
    if made.form not in ("both", "save", "docker-archive"):
        raise RefusedError("not of this form")
    with made.path.open("rb") as stream:
        done = subprocess.run([program, "export", "-", tar], stdin=stream, capture_output=True)
    if done.returncode:
        raise RefusedError(done.stderr.decode(errors="replace")[-300:])
    # Which config it was only its own push shows.
    place = f"{made.path.parent.name}-crane/x:1"
    digest = run(program, "--insecure", "push", made.path, f"{engines.registry}/{place}").strip()
    config = run(program, "--insecure", "config", digest)
    return [Taken(hashlib.sha256(config.encode()).hexdigest(), of_tar(tar))]


CHEAP: Mapping[str, Reader] = {
    "skopeo": skopeo,
    "skopeo-docker": skopeo_docker,
    "umoci": umoci,
    "containers-image": containers_image,
    "crane": crane,
}
