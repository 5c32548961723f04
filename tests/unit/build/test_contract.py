"""The contract's layer: exactly its files, with its modes and owners, under any umask."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from plinth.build.contract import contract_layer
from plinth.build.contract_files import ALL_FILES, RUNTIME, files, source
from plinth.core.errors import PlinthError
from plinth.formats.layer.header import DOCKERUSER, ROOT, SHARED
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.image import assemble
from plinth.graph.workspace import Workspace
from support.sessions import session_of

CHECKOUT = Path(__file__).resolve().parents[3]
RUNSVDIR, RUN = "usr/local/bin/runsvdir", "var/runit/server/run"
DISTRIBUTION = ("nginx", "nginx-common", "runit")
"""Packages that bring the front and the supervisor."""


def checkout(root: Path) -> Workspace:
    """A checkout with the contract's files, as git would write them under this umask."""
    for path in ALL_FILES:
        copy = root / "base" / "rootfs" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / "base" / "rootfs" / path, copy)
    return Workspace(root, root / "build")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return checkout(tmp_path)


@pytest.mark.parametrize("packages", [(), DISTRIBUTION], ids=["image", "distribution"])
def test_the_layer_holds_the_folders_and_files_of_the_contract(
    ws: Workspace, packages: tuple[str, ...]
) -> None:
    layer = contract_layer(session_of(ws), packages, "3.7")
    assert (layer.name, layer.built) == ("contract", True)
    found: dict[str, tuple[int | str, tuple[int, int]]] = {}
    with tarfile.open(ws.layout.path(layer.digest)) as tar:
        for member in tar:
            assert member.mtime == 0
            about = member.linkname if member.issym() else member.mode
            found[f"{member.name}/" if member.isdir() else member.name] = (
                about,
                (member.uid, member.gid),
            )
            if member.isreg():
                stream = tar.extractfile(member)
                assert stream is not None
                assert (
                    stream.read() == (CHECKOUT / "base/rootfs" / source(member.name)).read_bytes()
                )
    folders = {name: one for name, one in found.items() if name.endswith("/")}
    assert folders.pop("var/") == (0o1775, SHARED)
    roots = {
        *("etc/", "home/", "opt/", "usr/", "usr/local/", "usr/local/bin/", "usr/local/lib/"),
        *("usr/local/lib/plinth/", "var/lib/"),
    }
    users = {
        *("home/dockeruser/", "run/", "var/azureml-app/", "var/azureml-app/azureml-models/"),
        *("var/lib/nginx/", "var/log/", "var/runit/", "var/runit/server/"),
        *("opt/miniconda/", "opt/miniconda/bin/", "opt/miniconda/envs/", "opt/miniconda/etc/"),
        *("opt/miniconda/etc/profile.d/", "opt/miniconda/lib/"),
        *("opt/miniconda/lib/plinth_conda/", "opt/python/", "opt/python/lib/"),
        "opt/python/lib/python3.7/",
    }
    programs = {
        "opt/miniconda/bin/conda": (0o755, DOCKERUSER),
        "usr/local/bin/plinth-place": (0o755, ROOT),
        RUNSVDIR: (0o755, ROOT),
        RUN: (0o755, DOCKERUSER),
    }
    files = {"opt/miniconda/bin/activate", "opt/python/lib/python3.7/ensurepip.py"}
    if packages:
        roots |= {"etc/nginx/", "etc/nginx/sites-available/", "etc/nginx/sites-enabled/"}
        services = "var/runit/nginx/", "var/runit/nginx/control/", "var/runit/server/control/"
        users |= {"var/log/nginx/", *services}
        programs |= {
            f"var/runit/{name}": (0o755, DOCKERUSER)
            for name in (
                *("nginx/control/t", "nginx/finish", "nginx/run"),
                *("server/control/t", "server/finish"),
            )
        }
    else:
        programs |= {
            "usr/local/bin/plinth-front": (0o755, ROOT),
            "usr/local/lib/plinth/supervise": (0o755, ROOT),
        }
    assert {name for name, one in folders.items() if one == (0o755, ROOT)} == roots
    assert {name for name, one in folders.items() if one == (0o755, DOCKERUSER)} == users
    others = {name: one for name, one in found.items() if not name.endswith("/")}
    assert {name: one for name, one in others.items() if one[0] == 0o755} == programs
    assert {name: one for name, one in others.items() if isinstance(one[0], str)} == {
        "opt/miniconda/bin/pip": ("/opt/python/bin/pip", DOCKERUSER),
        "opt/miniconda/bin/python": ("/opt/python/bin/python", DOCKERUSER),
        "opt/miniconda/envs/amlenv": ("/opt/python", DOCKERUSER),
    }
    assert files < {name for name, one in others.items() if one == (0o644, DOCKERUSER)}
    assert ("etc/nginx/front.conf" in others) == bool(packages)


def test_over_a_pulled_base_the_accounts_have_the_user_too(ws: Workspace) -> None:
    root = b"root:x:0:0:root:/root:/bin/bash\n"
    with LayerWriter(ws.layout) as writer:
        writer.directory("etc")
        writer.file("etc/passwd", root)
        pulled = writer.commit("pulled").digest
    layer = contract_layer(session_of(ws), (), "3.7", pulled)
    with tarfile.open(ws.layout.path(layer.digest)) as tar:
        found = {path: tar.extractfile(path) for path in ("etc/passwd", "etc/group")}
        texts = {path: stream.read() for path, stream in found.items() if stream is not None}
    line = b"dockeruser:*:1000:1000::/home/dockeruser:/bin/bash\n"
    assert texts == {"etc/passwd": root + line, "etc/group": b"dockeruser:*:1000:\n"}


@pytest.mark.parametrize("python", ["3.7", "3.8", "3.14"])
def test_what_python_needs_is_in_the_folder_of_the_bases_own(ws: Workspace, python: str) -> None:
    layer = contract_layer(session_of(ws), (), python)
    with tarfile.open(ws.layout.path(layer.digest)) as tar:
        names = [name for name in tar.getnames() if name.startswith("opt/python/lib/")]
    assert names == [
        f"opt/python/lib/python{python}",
        f"opt/python/lib/python{python}/ensurepip.py",
    ]


def test_the_layer_is_made_once(ws: Workspace) -> None:
    first, second = (
        contract_layer(session_of(ws), (), "3.7"),
        contract_layer(session_of(ws), (), "3.7"),
    )
    assert (first.built, second.built) == (True, False)
    assert first.digest == second.digest


def test_the_layer_is_made_again_when_a_file_changes(ws: Workspace) -> None:
    first = contract_layer(session_of(ws), (), "3.7")
    run = ws.bases / "rootfs" / RUN
    run.write_bytes(run.read_bytes() + b"# more\n")
    second = contract_layer(session_of(ws), (), "3.7")
    assert second.built
    assert second.digest != first.digest


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777 & ~0o700])
def test_no_umask_and_no_mode_of_the_checkout_changes_a_byte(
    ws: Workspace, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        other = checkout(tmp_path / "other")
        (other.bases / "rootfs" / RUN).chmod(0o600)
        layer = contract_layer(session_of(other), (), "3.7")
    finally:
        os.umask(before)
    assert layer.digest == contract_layer(session_of(ws), (), "3.7").digest


@pytest.mark.parametrize("path", [RUNSVDIR, RUN])
def test_a_missing_file_is_named(ws: Workspace, path: str) -> None:
    (ws.bases / "rootfs" / path).unlink()
    with pytest.raises(PlinthError) as raised:
        contract_layer(session_of(ws), (), "3.7")
    assert raised.value.what == "a file of the contract is missing"
    assert raised.value.where == f"base/rootfs/{path}"


@pytest.mark.parametrize(
    "path", ["etc/motd", "var/runit/server/run~", "usr/local/bin/runsvdir.orig"]
)
def test_a_file_the_contract_does_not_know_is_named(ws: Workspace, path: str) -> None:
    file = ws.bases / "rootfs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with pytest.raises(PlinthError) as raised:
        contract_layer(session_of(ws), (), "3.7")
    assert raised.value.what == "a file no image would hold"
    assert raised.value.where == f"base/rootfs/{path}"
    assert (
        raised.value.remedy
        == "name it, with mode and owner, in plinth.build.contract_files, or remove it"
    )
    assert not ws.layout.root.exists() or not list(ws.layout.blobs.iterdir())


def test_the_scripts_run_under_what_the_image_has() -> None:
    # The supervisor must not see the user's packages; the service is a shell script.
    first = {
        path: (CHECKOUT / "base/rootfs" / path).read_text().split("\n", 1)[0]
        for path, mode, _ in (*files((), "3.7"), *files(DISTRIBUTION, "3.7"))
        if mode == 0o755
    }
    assert first.pop("usr/local/lib/plinth/supervise") == "#!/opt/python/bin/python3 -I"
    assert first.pop("usr/local/bin/plinth-front") == "#!/opt/python/bin/python3 -IS"
    for path in ("opt/miniconda/bin/conda", "usr/local/bin/plinth-place"):
        assert first.pop(path) == "#!/opt/python/bin/python3 -IB"
    assert set(first.values()) == {"#!/bin/sh"}


def test_the_documented_contract_is_what_images_run_with(ws: Workspace) -> None:
    image = assemble(
        ws.layout,
        [contract_layer(session_of(ws), (), "3.7")],
        architecture="amd64",
        created="",
        runtime=RUNTIME,
        annotations={},
    )
    config = json.loads(ws.layout.get(image.config))["config"]
    assert config["User"] == str(DOCKERUSER.uid)
    assert config["Cmd"] == ["runsvdir", "/var/runit"]
    assert "Entrypoint" not in config
    assert config["WorkingDir"] == "/var/azureml-app"
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["ExposedPorts"]) == {"5001/tcp", "8883/tcp", "8888/tcp"}
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    assert environment["PATH"].startswith("/opt/python/bin:/opt/miniconda/bin:/usr/local/sbin:")
    # The table of docs/contract.md: variable, default, meaning.
    text = (CHECKOUT / "docs" / "contract.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\|", text, re.MULTILINE)
    assert len(rows) == 15
    for name, default in rows:
        assert environment.get(name, "") == default
