"""Commands in a checkout that is built for real: what they write, and what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.commands.main import main
from plinth.core.errors import LayoutError, LockError
from plinth.core.report import quiet
from plinth.core.settings import load
from plinth.evidence.sbom.make import sbom_of
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.lock.os_packages import lock_packages
from plinth.recipe.image import load_image
from support.small_checkout import IMAGE, ROOT, SmallCheckout, make, wheel

Output = pytest.CaptureFixture[str]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallCheckout:
    """A checkout with one small image, built."""
    (tmp_path / "wheels").mkdir()
    made = make(tmp_path / "checkout", [wheel(tmp_path / "wheels", "one", "1.0")])
    made.seed(debs=True)
    for path in (tmp_path / "wheels").iterdir():
        made.ws.cache.put_file(path)
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("PLINTH_CONFIG", str(made.settings))
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    assert main(["build", IMAGE]) == 0
    return made


def test_an_sbom(checkout: SmallCheckout, capsys: Output) -> None:
    assert main(["sbom", IMAGE]) == 0
    (path,) = (checkout.ws.build / "sbom").rglob("*.json")
    assert str(path) in capsys.readouterr().out
    names = {component["name"] for component in json.loads(path.read_bytes())["components"]}
    assert {"one", "base-files", "base-passwd"} <= names


def test_an_sbom_of_a_damaged_image_is_none(checkout: SmallCheckout) -> None:
    ws = checkout.ws
    manifest = references(ws.layout)[IMAGE].manifest
    path = ws.layout.path(read_manifest(ws.layout, manifest).layers[0].digest)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(LayoutError, match="a layer of the image is damaged") as raised:
        sbom_of(ws, IMAGE)
    assert raised.value.where == str(path)


@pytest.mark.parametrize("words", [["explain", IMAGE], ["gc", "--list", "--json"]])
def test_whoever_stopped_reading_has_seen_enough(checkout: SmallCheckout, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "plinth", *words]
    # Buffered, as where nobody asked for anything else: then only the last flush fails.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, check=False, stdout=writing, stderr=subprocess.PIPE, env=environment
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_build_record_of_no_image_is_garbage(checkout: SmallCheckout, capsys: Output) -> None:
    record = checkout.ws.build / "cache" / "images" / "gone.json"
    record.write_text("{}")
    damaged = checkout.ws.actions.root / f"{'0' * 64}.json"
    damaged.write_text("{")
    for path in (record, damaged):
        os.utime(path, (0, 0))
    capsys.readouterr()
    assert main(["gc", "--list"]) == 0
    told = capsys.readouterr().out
    assert str(record) in told and str(damaged) in told
    assert main(["gc", "--delete"]) == 0
    assert not record.exists() and not damaged.exists()
    assert main(["validate"]) == 0


def test_the_handbook_is_up_to_date(checkout: SmallCheckout, capsys: Output) -> None:
    (checkout.root / "docs").mkdir()
    for _ in range(2):
        assert main(["commands"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "docs/commands.md: written",
        "docs/commands.md: up to date",
    ]


def test_packages_need_a_base_that_has_an_archive(checkout: SmallCheckout) -> None:
    spec = load_image(checkout.ws.images, IMAGE)
    assert not lock_packages(checkout.ws, spec, config=load(), progress=quiet)
    base = checkout.ws.bases / "small.toml"
    text = base.read_text()
    other = (ROOT / "base" / "ubuntu18.04-py37.toml").read_text()
    parts = [slice(one.index("[rootfs]"), one.index("[python]")) for one in (text, other)]
    base.write_text(text.replace(text[parts[0]], other[parts[1]]))
    with pytest.raises(LockError, match="no base of small is assembled from an archive"):
        lock_packages(
            checkout.ws, replace(spec, os_packages=("hello",)), config=load(), progress=quiet
        )
