"""What changed since the last build, and what a push would send."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.explain import Change, Explanation, Push, explain_image, pushes
from plinth.build.image import build_image
from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.errors import AttestationError, PlinthError
from plinth.core.report import human_size, quiet
from plinth.core.settings import load
from plinth.evidence.sign import prepare
from plinth.formats.layer.model import Layer
from plinth.formats.oci.model import LAYER_ZSTD
from plinth.formats.python.place import Base, Interpreter
from plinth.graph.workspace import Workspace
from plinth.publish.registry.known import Known
from plinth.recipe.record import Record
from support.helpers import make_wheel
from support.layer_files import locked_deb
from support.sessions import session_of
from support.small_checkout import BASE, IMAGE, make, wheel

ROOT = Path(__file__).resolve().parents[3]


def layer(ws: Workspace, name: str, size: int) -> Layer:
    return Layer(name, ws.layout.put(name.ljust(size).encode()), "0" * 64, size)


def test_a_push_sends_what_the_registry_is_not_known_to_have(tmp_path: Path) -> None:
    ws = Workspace(tmp_path, tmp_path / "build")
    system, contract = layer(ws, "tiny system", 5_000), layer(ws, "contract", 300)
    wheels = [layer(ws, "six 1.0", 2_000), layer(ws, "flask 2.0", 1_000)]
    base = Base("tiny", (system,), Interpreter("3.7", Digest.of(b"")))
    old = layer(ws, "six 0.9", 9_000)
    layers = {one.digest.hex: one.name for one in (system, contract, old)}
    record = Record({}, {"six": "0.9"}, layers, "tiny", "0" * 64)
    assert list(pushes(ws, wheels, base, record)) == []
    Known(ws.build / "publish", "127.0.0.1:5000").add("team/a", [system.digest])
    assert list(pushes(ws, wheels, base, record)) == [Push("127.0.0.1_5000", 3, 3_300)]
    Known(ws.build / "publish", "127.0.0.1:5000").add("team/b", [wheels[0].digest, contract.digest])
    assert list(pushes(ws, wheels, base, record)) == [Push("127.0.0.1_5000", 1, 1_000)]
    # Before the first build nothing is known of layers that are no package's.
    assert list(pushes(ws, wheels, base, None)) == [Push("127.0.0.1_5000", 1, 1_000)]
    (ws.build / "publish" / "127.0.0.1_5000.json").write_text("[")
    assert list(pushes(ws, wheels, base, record)) == []


def test_a_build_is_told_before_it_is_done_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    old, other, new = (
        wheel(wheels, name, version)
        for name, version in (("one", "1.0"), ("two", "1.0"), ("one", "2.0"))
    )
    checkout = make(tmp_path / "checkout", [old, other])
    checkout.seed(debs=True)
    monkeypatch.setenv("PLINTH_CONFIG", str(checkout.settings))
    config = load()

    def explained() -> Explanation:
        return explain_image(checkout.ws, IMAGE, config=config)

    first = explained()
    assert (first.inputs, first.base_to_build) == (None, True)
    assert first.text().splitlines()[1:] == [
        "never built here",
        "the base small is to be built, and with it all layers",
    ]
    for path in (old, other):
        checkout.ws.cache.put_file(path)
    build_image(checkout.ws, IMAGE, config=config, jobs=1, progress=quiet)
    second = explained()
    assert (second.inputs, second.packages, second.to_build) == ((), (), ())
    assert [layer.name for layer in second.held] == ["one 1.0 and 1 more"]
    assert "layers to make: none" in second.text()

    checkout.lock([new, other])
    monkeypatch.chdir(checkout.root)
    assert main(["explain", IMAGE, "--json"]) == 0
    (third,) = json.loads(capsys.readouterr().out)
    assert third["inputs"] == ["locks/small/pylock.toml", "locks/small/requirements.txt"]
    assert third["packages"] == [{"name": "one", "before": "1.0", "after": "2.0"}]
    assert third["held"] == []
    assert [layer["name"] for layer in third["to_make"]] == ["one 2.0 and 1 more"]
    assert third["to_build"] == [
        {
            "name": "one",
            "version": "2.0",
            "file": new.name,
            "size": new.stat().st_size,
            "fetch": True,
        }
    ]
    assert main(["explain", IMAGE]) == 0
    told = capsys.readouterr().out
    assert "  one 1.0 became 2.0\n" in told
    assert "layers of Python packages held: 0 of 1" in told
    assert "  one 2.0 and 1 more  (of " in told
    assert "packages to build: 1, from " in told
    assert "wheel, to be fetched)" in told


def test_wheels_that_share_a_file_have_nothing_to_make_after_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one of them leaves to the other is another action than the wheel alone."""
    (tmp_path / "wheels").mkdir()
    wheels = [
        make_wheel(
            tmp_path / "wheels",
            {"shared/__init__.py": f"NAME = {name!r}\n".encode(), f"{name}.py": b"x = 1\n"},
            name=name,
        )
        for name in ("one", "two")
    ]
    checkout = make(tmp_path / "checkout", wheels)
    checkout.seed(debs=True)
    for path in wheels:
        checkout.ws.cache.put_file(path)
    monkeypatch.setenv("PLINTH_CONFIG", str(checkout.settings))
    config = load()
    build_image(checkout.ws, IMAGE, config=config, jobs=1, progress=quiet)
    found = explain_image(checkout.ws, IMAGE, config=config)
    assert (found.to_make, found.to_build) == ((), ())
    assert [layer.name for layer in found.held] == ["one 1.0 and 1 more"]


def test_a_form_is_explained_by_its_own_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    one = wheel(tmp_path / "wheels", "one", "1.0")
    checkout = make(tmp_path / "checkout", [one])
    checkout.seed(debs=True)
    checkout.ws.cache.put_file(one)
    monkeypatch.setenv("PLINTH_CONFIG", str(checkout.settings))
    config = load()
    build_image(checkout.ws, IMAGE, config=config, jobs=1, progress=quiet)
    name = f"{IMAGE}+zstd"
    before = explain_image(checkout.ws, name, config=config)
    assert (before.image, before.inputs) == (name, None)
    build_image(checkout.ws, name, config=config, jobs=1, progress=quiet)
    after = explain_image(checkout.ws, name, config=config)
    assert (after.inputs, after.to_make) == ((), ())
    assert {layer.media_type for layer in after.held} == {LAYER_ZSTD}
    assert explain_image(checkout.ws, f"{IMAGE}+gzip", config=config).image == IMAGE
    with pytest.raises(PlinthError, match="no image has such a form"):
        explain_image(checkout.ws, f"{IMAGE}+xz", config=config)


def test_starting_plinth_and_doit_loads_nothing_heavy() -> None:
    """Each would be felt at every start: help, completion, a doit with nothing to do."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import plinth.commands.main, dodo\n"
        "plinth.commands.main.command_line()\n"
        "list(dodo.task_verbs())\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"rich", "shtab", "sigstore", "cryptography", "cyclonedx", "docker", "requests"}
    assert heavy.isdisjoint(done.stdout.split())


def test_every_kind_of_change_has_its_words() -> None:
    assert [str(Change("a", before, after)) for before, after in (("", "1"), ("1", ""))] == [
        "a 1 added",
        "a 1 removed",
    ]
    debs = (locked_deb("libgl1", "1"), locked_deb("libx11-6", "1"))
    found = Explanation("i", "b", (), (), (), os=(3, debs), accelerator=(2, ()))
    size = human_size(sum(deb.digest.size for deb in debs))
    assert f"OS packages to build: 2 of 3, {size}" in found.text()
    assert "accelerator packages to build: 0 of 2, 0 B" in found.text()
    assert found.to_json()["os_to_build"] == ["libgl1", "libx11-6"]
    pushed = replace(found, pushes=(Push("r", 2, 3_000),))
    assert pushed.text().endswith("a push to r sends 2 layers, 3.0 kB")


PARENT_FILES = (
    f"images/{IMAGE}.toml",
    f"locks/{IMAGE}/pylock.toml",
    f"base/{BASE}.toml",
    "base/rootfs/var/runit/server/run",
)


@pytest.mark.parametrize("path", PARENT_FILES)
def test_files_of_the_extended_image_are_inputs_of_explain_and_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "wheels").mkdir()
    one = wheel(tmp_path / "wheels", "one", "1.0")
    checkout = make(tmp_path / "checkout", [one])
    ws = checkout.ws
    (ws.images / "mine.toml").write_text(f'extends = "{IMAGE}"\nsummary = "a test"\n')
    checkout.lock([one], "mine")
    checkout.seed(debs=True)
    ws.cache.put_file(one)
    monkeypatch.setenv("PLINTH_CONFIG", str(checkout.settings))
    build_image(ws, "mine", config=load(), jobs=1, progress=quiet)
    assert explain_image(ws, "mine", config=load()).inputs == ()
    assert prepare(session_of(ws), "mine", load()).id == "mine"

    changed = ws.root / path
    changed.write_text(f"# looked at\n{changed.read_text()}")
    assert explain_image(ws, "mine", config=load()).inputs == (path,)
    with pytest.raises(AttestationError, match="built from other files") as raised:
        prepare(session_of(ws), "mine", load())
    assert raised.value.found == f"changed since: {path}"
