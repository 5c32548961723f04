"""Layers a builder changed, and signed over: documents are in order, contents are not."""

from __future__ import annotations

import gzip as system_gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plinth import __version__
from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import LayoutError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.sbom.inputs import sbom_action
from plinth.evidence.statement import PROVENANCE, SBOM
from plinth.evidence.verify.request import RawBundle
from plinth.formats import gzip
from plinth.formats.layer.header import (
    DIRECTORY,
    END,
    FILE,
    SYMLINK,
    Owner,
    header,
    padding,
)
from plinth.formats.oci.model import CONFIG
from plinth.formats.wheel.record import parse, row_of, write
from plinth.inspect.contents.cache import ContentsCache
from plinth.recipe.recipe import Recipe
from support.forge import (
    Copy,
    Forger,
    Json,
    Judge,
    docker_archive,
    payload,
    rejected,
    relayered,
    resigned,
)
from support.layer_files import Files
from support.relayer import Image
from support.small_checkout import SmallCheckout

Edit = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]
EVIL = b"import os\n"


def _repacked(data: bytes, edit: Edit) -> tuple[bytes, str]:
    """The layer with its members edited; and its diff_id."""
    members = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            members.append((member, content.read() if content else b""))
    edit(members)
    plain = b"".join(_entry(info, content) for info, content in members) + END
    return gzip.member(plain), Digest.of(plain).hex


def _entry(info: tarfile.TarInfo, content: bytes) -> bytes:
    """An entry as plinth writes it, or as tarfile does where plinth never would."""
    kind = {tarfile.DIRTYPE: DIRECTORY, tarfile.SYMTYPE: SYMLINK, tarfile.REGTYPE: FILE}
    info.size = len(content)
    try:
        head = header(
            info.name,
            kind[info.type],
            size=info.size,
            mode=info.mode,
            owner=Owner(info.uid, info.gid),
            target=info.linkname,
        )
    except (KeyError, LayoutError):
        head = info.tobuf(tarfile.PAX_FORMAT)
    return head + content + padding(len(content))


def _member(members: list[tuple[tarfile.TarInfo, bytes]], end: str) -> int:
    return next(n for n, (member, _) in enumerate(members) if member.name.endswith(end))


def _changed(end: str, data: bytes = EVIL) -> Edit:
    def edit(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        number = _member(members, end)
        members[number] = (members[number][0], data)

    return edit


def _removed(end: str) -> Edit:
    return lambda members: members.pop(_member(members, end)) and None


def _added(name: str, data: bytes = b"x", **fields: Any) -> Edit:
    def edit(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(member, key, value)
        members.append((member, data if member.isfile() else b""))

    return edit


def repack(copy: Copy, forger: Forger, title: str, edit: Edit) -> None:
    """Change one layer, and sign everything again: true in all but what the layer holds."""
    number = copy.layer(title)
    data, diff_id = _repacked(copy.blob(copy.manifest()["layers"][number]["digest"]), edit)
    relayered(copy, forger, number, data, diff_id)


# The layer of both wheels.
AT = "layer 3 (demo 1.0 and 1 more)"
SITE = "opt/python/lib/python3.7/site-packages"
LAYERS: list[tuple[str, str, Edit, str]] = [
    ("a module changed", "demo ", _changed("demo/m0.py"), "demo/m0.py"),
    ("a module gone", "demo ", _removed("demo/m0.py"), "demo/m0.py"),
    ("a module more", "demo ", _added(f"{SITE}/demo/evil.py"), "demo/evil.py"),
    ("bytecode changed", "demo ", _changed("__pycache__/m0.cpython-37.pyc"), "demo"),
    ("RECORD gone", "demo ", _removed("dist-info/RECORD"), "RECORD"),
    ("a start-up hook", "demo ", _added(f"{SITE}/evil.pth", b"import evil\n"), "evil.pth"),
    ("a file elsewhere", "demo ", _added("etc/cron.d/evil"), "etc/cron.d/evil"),
    ("a whiteout", "demo ", _added("etc/.wh.passwd", b""), ".wh.passwd"),
    ("a device", "demo ", _added("dev/x", type=tarfile.CHRTYPE), "dev/x"),
    ("a path that escapes", "demo ", _added("../evil"), "../evil"),
    ("a program of the system", "small system", _changed("usr/bin/hello"), "usr/bin/hello"),
    ("users", "small system", _changed("etc/passwd"), "etc/passwd"),
    ("a setuid program", "contract", _added("usr/bin/evil", mode=0o4755), "usr/bin/evil"),
    ("the supervisor", "contract", _changed("usr/local/bin/runsvdir"), "runsvdir"),
    (
        "the interpreter",
        "small python",
        _changed("lib/python3.7/os.py"),
        "interpreter: its tree is sha256:",
    ),
]


@pytest.mark.parametrize(
    ("title", "edit", "message"), [c[1:] for c in LAYERS], ids=[c[0] for c in LAYERS]
)
def test_a_layer_that_holds_something_else(
    judge: Judge, copy: Copy, forger: Forger, title: str, edit: Edit, message: str
) -> None:
    repack(copy, forger, title, edit)
    said = judge.problems(copy)
    assert any(message in problem for problem in said), said
    # The forgery was good: signatures and provenance have nothing to say against it.
    assert all(p.startswith(("layers: ", "sbom: ", "blobs: ", "form: ")) for p in said), said


def mismatched(copy: Copy, forger: Forger) -> tuple[int, bytes]:
    """Sign the image with its good layers and a config that names another tar; its layer's number,
    and that tar, of plinth's form."""
    number = copy.layer("demo ")
    manifest, config = copy.manifest(), copy.config()
    data, diff_id = _repacked(
        copy.blob(manifest["layers"][number]["digest"]), _changed("demo/m0.py", EVIL)
    )
    config["rootfs"]["diff_ids"][number] = f"sha256:{diff_id}"
    manifest["config"] = copy.put(CONFIG, canonical_json(config))
    resigned(copy, forger, canonical_json(manifest))
    return number, system_gzip.decompress(data)


def saved(copy: Copy, judge: Judge, path: Path, tars: Mapping[int, bytes]) -> list[str]:
    """What is wrong with the image as a docker archive with these `tars`."""
    bundles = tuple(RawBundle(kind, data) for kind, data in copy.bundles().items())
    return replace(judge, bundles=bundles).problems(copy, docker_archive(copy, path, tars))


def kinds(contents: Path) -> list[str]:
    """What a cache remembers, by kind."""
    return [json.loads(path.read_bytes())["mnemonic"] for path in contents.glob("actions/*.json")]


def test_an_image_whose_config_names_other_tars_leaves_no_sbom_for_its_docker_archive(
    judge: Judge, copy: Copy, forger: Forger, tmp_path: Path
) -> None:
    """The layers that the manifest names are good, those that the config names are not."""
    judge = replace(judge, cache=ContentsCache(tmp_path / "contents"))
    number, tar = mismatched(copy, forger)
    (said,) = judge.problems(copy)
    assert said.startswith(f"blobs: {AT}: unpacked it is sha256:")
    assert set(kinds(tmp_path / "contents")) == {"layer-contents"}
    refused_as_saved(copy, judge, tmp_path, number, tar)


def test_the_sbom_of_the_layers_of_a_manifest_is_not_that_of_a_docker_archives(
    judge: Judge, copy: Copy, forger: Forger, checkout: SmallCheckout, tmp_path: Path
) -> None:
    """However it came to be remembered."""
    cache = ContentsCache(tmp_path / "contents")
    number, tar = mismatched(copy, forger)
    made = canonical_json(payload(copy.bundles()[SBOM])["predicate"])
    action = sbom_action(copy.digest, Recipe.load(checkout.ws, copy.name), __version__)
    cache.store(action, "sbom", made)
    refused_as_saved(copy, replace(judge, cache=cache), tmp_path, number, tar)


def refused_as_saved(copy: Copy, judge: Judge, folder: Path, number: int, tar: bytes) -> None:
    """The image as a docker archive with that tar, which its config names, is refused."""
    for _ in range(2):
        said = saved(copy, judge, folder / "saved.tar", {number: tar})
        assert any(one.startswith("layers: ") and "demo/m0.py" in one for one in said), said
        assert not any(one.startswith("blobs: ") for one in said), said


def test_the_sbom_of_a_docker_archive_is_remembered(
    judge: Judge, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = replace(judge, cache=ContentsCache(tmp_path / "contents"))
    assert saved(copy, judge, tmp_path / "saved.tar", {}) == []
    assert kinds(tmp_path / "contents").count("sbom") == 1
    monkeypatch.delattr("plinth.evidence.sbom.make.make_sbom")
    assert saved(copy, judge, tmp_path / "saved.tar", {}) == []


def payload_digest(bom: Json) -> str:
    """The manifest digest (hexadecimal) that an SBOM is about."""
    version: str = bom["metadata"]["component"]["version"]
    return version.removeprefix("sha256:")


def test_a_config_the_builder_changed(judge: Judge, copy: Copy, forger: Forger) -> None:
    predicates = {kind: payload(b)["predicate"] for kind, b in copy.bundles().items()}
    config = copy.config()
    config["config"]["Env"].append("LD_PRELOAD=/tmp/x.so")
    copy.become(copy.manifest(), config)
    copy.attach({kind: forger.state(copy, kind, p) for kind, p in predicates.items()})
    rejected(judge, copy, "contract: config.config.Env")


def test_what_only_building_again_can_tell(
    judge: Judge, copy: Copy, forger: Forger, checkout: SmallCheckout
) -> None:
    """A module that the RECORD beside it lists, and that is not the locked wheel's."""
    path, record = f"{SITE}/demo/data.bin", f"{SITE}/demo-1.0.dist-info/RECORD"
    image = Image.of(copy)

    def change(files: Files) -> Files:
        rows = [row for row in parse(files[record].data)[0] if row.path != "demo/data.bin"]
        listed = write([*rows, row_of("demo/data.bin", b"evil")])
        return {
            **files,
            path: replace(files[path], data=b"evil"),
            record: replace(files[record], data=listed),
        }

    image.edit("demo ", change)
    image.sign(forger, checkout)
    assert judge.problems(copy) == []
    said = replace(judge, rebuild=True, inputs=checkout.ws.cache).problems(copy)
    assert all(problem.startswith("rebuild: ") for problem in said), said
    assert f"rebuild: {AT}: /{path}: size is 4, rebuilt 4000" in said
    begin = f"rebuild: {AT}: /{path}: differs from byte 0 on: 6576696c"
    assert any(one.startswith(begin) for one in said)


def test_inputs_that_nobody_has_cannot_be_built_again(
    judge: Judge, copy: Copy, tmp_path: Path
) -> None:
    nowhere = Config(files={"wheels": str(tmp_path)}, apt={"debian": "file:///nowhere"})
    (said,) = replace(judge, rebuild=True, config=nowhere).problems(copy)
    assert said.startswith("rebuild: it could not be built again: ")


def test_a_store_at_hand_that_cannot_be_read(
    judge: Judge, copy: Copy, checkout: SmallCheckout, tmp_path: Path
) -> None:
    """Of links in circles: that is a check that fails, of this image alone."""
    store = BlobStore(tmp_path / "inputs")
    store.prepare()
    for blob in checkout.ws.cache.blobs.iterdir():
        (store.blobs / blob.name).symlink_to(blob.name)
    (said,) = replace(judge, rebuild=True, inputs=store).problems(copy)
    assert said.startswith("rebuild: it could not be built again: ")
    assert "Too many levels of symbolic links" in said


def test_a_layer_more_than_is_built_again(
    judge: Judge, copy: Copy, forger: Forger, checkout: SmallCheckout
) -> None:
    """By a builder that says it is of another version."""
    manifest, config = copy.manifest(), copy.config()
    manifest["layers"].append(manifest["layers"][-1])
    config["rootfs"]["diff_ids"].append(config["rootfs"]["diff_ids"][-1])
    predicates = {kind: payload(b)["predicate"] for kind, b in copy.bundles().items()}
    copy.become(manifest, config)
    predicates[PROVENANCE]["runDetails"]["builder"]["version"]["plinth"] = "0.0.7"
    copy.attach({kind: forger.state(copy, kind, p) for kind, p in predicates.items()})
    said = replace(judge, rebuild=True, inputs=checkout.ws.cache).problems(copy)
    number = len(manifest["layers"])
    fields = {one.split(":")[1].strip() for one in said if one.startswith("rebuild: manifest.")}
    assert fields == {"manifest.config.digest", "manifest.config.size"}
    assert f"rebuild: {number} layers in the image, {number - 1} rebuilt" in said
    assert f"rebuild: it was built by plinth 0.0.7, this is {__version__}" in said
