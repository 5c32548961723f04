"""What is deleted, and above all what is not."""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from plinth.build.closure import scan
from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError, PlinthError
from plinth.core.lease import adding, removing
from plinth.core.result import ActionResult
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.documents import REF_NAME
from plinth.formats.oci.image import Image, Runtime, assemble
from plinth.formats.oci.layout import editing, references, tag
from plinth.formats.oci.model import INDEX, Descriptor
from plinth.formats.oci.referrers import attach_to_layout, refers
from plinth.formats.oci.validate import validate
from plinth.formats.python.stored import keep_tree, read_stored
from plinth.formats.python.tree import TreeFile
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.workspace import Workspace
from plinth.inspect.gc import HOUR, collect, summary
from support.sessions import session_of

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = Runtime("root", "/", {}, ["x"], [], "SIGTERM")

SDIST = """\
[[packages]]
name = "fire"
version = "0.1"

[packages.sdist]
name = "fire-0.1.tar.gz"
upload-time = 2020-01-01 00:00:00+00:00
path = "../../build/cache/blobs/sha256/{digest.hex}"
size = {digest.size}
hashes = {{ sha256 = "{digest.hex}" }}
"""


def never() -> None:
    raise AssertionError("nobody is to be waited for")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A checkout of one specification and its lock, with an empty build folder."""
    for path in ("images/minimal.toml", "locks/minimal/pylock.toml"):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    shutil.copytree(ROOT / "base", tmp_path / "base")
    return Workspace(tmp_path, tmp_path / "build")


def layer(ws: Workspace, content: str) -> Layer:
    """A layer made by an action, and scanned."""

    def work() -> ActionResult:
        with LayerWriter(ws.layout) as writer:
            writer.file("x", content.encode())
            return writer.commit(content).result()

    result, hit = run(
        session_of(ws), Action("wheel-layer", {}, {"x": content}, ("layer",)), work=work
    )
    made = Layer.of(content, result, hit=hit)
    scan(session_of(ws), made)
    return made


def image(ws: Workspace, name: str, *contents: str) -> Image:
    """An image of such layers, named."""
    made = assemble(
        ws.layout,
        [layer(ws, content) for content in contents],
        architecture="amd64",
        created="",
        runtime=RUNTIME,
        annotations={},
    )
    tag(ws.layout, name, made.manifest, image_name=f"{name}:latest", architecture="amd64")
    return made


def age(ws: Workspace, seconds: float = 2 * HOUR) -> None:
    """Let everything be that old."""
    then = time.time() - seconds
    for path in ws.build.rglob("*"):
        os.utime(path, (then, then))


def files(ws: Workspace) -> set[str]:
    """Blobs and results, without locks."""
    return {
        path.relative_to(ws.build).as_posix()
        for path in ws.build.rglob("*")
        if path.is_file() and "lock" not in path.relative_to(ws.build).as_posix()
    }


def test_what_the_index_reaches_stays_and_the_rest_goes(ws: Workspace) -> None:
    image(ws, "a", "one", "two")
    kept = files(ws)
    image(ws, "b", "two", "three")
    with editing(ws.layout) as entries:
        entries[:] = [entry for entry in entries if entry["annotations"][REF_NAME] == "a"]
    age(ws)
    found = collect(ws, delete=False, waiting=never)
    # Manifest, config and a layer; the results of making and of scanning it. What the scan found
    # is the same nothing as in the other layers.
    assert sorted(one.kind for one in found) == (
        ["action result"] * 2 + ["layout blob"] * 3 + ["lock file"] * 2
    )
    assert kept < files(ws)
    assert collect(ws, delete=True, waiting=never) == found
    assert files(ws) == kept
    assert validate(ws.layout.root) == []
    assert [layer(ws, content).built for content in ("one", "two", "three")] == [False, False, True]
    assert sum(size for _, _, size in summary(found)) == sum(one.size for one in found)


def test_what_is_younger_than_an_hour_stays(ws: Workspace) -> None:
    image(ws, "a", "one")
    layer(ws, "nobody's")
    age(ws, HOUR - 60)
    assert collect(ws, delete=True, waiting=never) == []
    age(ws, HOUR + 60)
    assert len(collect(ws, delete=True, waiting=never)) >= 2


def test_signatures_keep_their_image_and_nested_indexes_what_they_list(ws: Workspace) -> None:
    signed = image(ws, "signed", "one")
    attach_to_layout(ws.layout, signed.manifest, [("https://example.org/p", b"{}")])
    nested = image(ws, "nested", "two")
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [nested.manifest.to_json()],
    }
    digest = ws.layout.put(json.dumps(index).encode())
    with editing(ws.layout) as entries:
        # The names of both images are gone; a signature and an index are left.
        entries[:] = [entry for entry in entries if refers(entry, signed.manifest.digest)]
        entries.append(Descriptor(INDEX, digest, {REF_NAME: "i"}).to_json())
    age(ws)
    assert collect(ws, delete=True, waiting=never) == []
    for made in (signed, nested):
        assert ws.layout.has(made.manifest.digest)
        assert all(ws.layout.has(one.digest) for one in made.layers)


def test_what_a_lock_names_stays_in_the_cache(ws: Workspace) -> None:
    image(ws, "a", "one")
    wheel = ws.cache.put(b"a wheel that a lock names")
    other = ws.cache.put(b"a wheel of last year")
    lock = ws.locks / "minimal" / "requirements.txt"
    lock.write_text(f"demo==1.0 \\\n    --hash=sha256:{wheel.hex}\n")
    age(ws)
    (found,) = collect(ws, delete=True, waiting=never)
    assert (found.kind, found.path.name) == ("cache blob", other.hex)
    assert ws.cache.has(wheel)


def test_the_files_of_a_locked_interpreter_stay(ws: Workspace) -> None:
    image(ws, "a", "one")
    files = [TreeFile("bin/python", 0o755, b"python", ""), TreeFile("lib/os.py", 0o644, b"os", "")]
    tree, other = keep_tree(ws.cache, files), ws.cache.put(b"[[other")
    (ws.locks / "base").mkdir()
    (ws.locks / "base" / "tiny.toml").write_text(f'tree = "{tree.hex}"\n')
    age(ws)
    (found,) = collect(ws, delete=True, waiting=never)
    assert found.path.name == other.hex
    assert read_stored(ws.cache, tree) == files


def test_what_a_statement_about_an_image_names_stays_for_building_it_again(ws: Workspace) -> None:
    made = image(ws, "a", "one")
    wheel, other = ws.cache.put(b"an imported wheel"), ws.cache.put(b"another")
    statement = json.dumps({"resolvedDependencies": [{"digest": {"sha256": wheel.hex}}]})
    payload = base64.b64encode(statement.encode()).decode()
    bundle = json.dumps({"dsseEnvelope": {"payload": payload}}).encode()
    attach_to_layout(ws.layout, made.manifest, [("https://example.org/p", bundle)])
    age(ws)
    (found,) = collect(ws, delete=True, waiting=never)
    assert found.path.name == other.hex
    assert ws.cache.has(wheel)


def test_wheels_built_from_sdists_stay_while_a_lock_has_the_sdist(ws: Workspace) -> None:
    image(ws, "a", "one")
    results = {}
    for filename in ("fire-0.1-py3-none-any.whl", "rust-1.0-py3-none-any.whl"):
        blob = ws.cache.put(filename.encode())
        results[filename] = blob
        made = ActionResult({"wheel": blob}, {"filename": filename})
        ws.actions.store(Action("sdist-wheel", {"sdist": blob}), made)
    lock = ws.locks / "minimal" / "pylock.toml"
    sdist = SDIST.format(digest=Digest.of(b"sdist"))
    lock.write_text(lock.read_text().replace("[tool.plinth]", f"{sdist}\n[tool.plinth]", 1))
    age(ws)
    collect(ws, delete=True, waiting=never)
    assert ws.cache.has(results["fire-0.1-py3-none-any.whl"])
    assert not ws.cache.has(results["rust-1.0-py3-none-any.whl"])


def test_an_sbom_stays_while_its_image_does(ws: Workspace) -> None:
    made = image(ws, "a", "one")
    results = {}
    for name, digest in (("live", made.manifest.digest.hex), ("dead", "0" * 64), ("gone", "")):
        about = {"metadata": {"component": {"hashes": [{"alg": "SHA-256", "content": digest}]}}}
        blob = ws.cache.put(json.dumps(about).encode())
        results[name] = Action("sbom", {}, {"x": name})
        ws.actions.store(results[name], ActionResult({"sbom": blob}))
        if not digest:
            ws.cache.path(blob).unlink()
    age(ws)
    found = collect(ws, delete=True, waiting=never)
    assert sorted(one.kind for one in found) == ["action result"] * 2 + ["cache blob"]
    there = {name: ws.actions.lookup(action, ws.cache) for name, action in results.items()}
    assert there["live"] is not None
    assert there["dead"] is None


def test_of_results_that_cannot_be_told_apart_the_newest_stay(ws: Workspace) -> None:
    image(ws, "a", "one")
    age(ws)
    then = time.time() - 3 * HOUR
    for number in range(40):
        action = Action("elf-closure", {}, {"number": number})
        ws.actions.store(action, ActionResult({}, {"notes": []}))
        path = ws.actions.root / f"{action.digest.hex}.json"
        os.utime(path, (then + number, then + number))
    found = collect(ws, delete=True, waiting=never)
    assert len(found) == 24
    for number in range(40):
        action = Action("elf-closure", {}, {"number": number})
        assert (ws.actions.lookup(action, ws.cache) is None) == (number < 24)


def test_what_atomic_writes_left_goes_and_other_hidden_files_stay(ws: Workspace) -> None:
    image(ws, "a", "one")
    root = ws.build / "cache" / "roots" / "part-x"
    begun = [ws.build / "oci" / ".index.json.ab_3xyz9", ws.actions.root / ".0f.json.abcdefgh"]
    others = [root / "etc" / ".skel.conf.abcdefgh", ws.build / "site" / ".nojekyll"]
    for path in (*begun, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    age(ws)
    found = {one.path for one in collect(ws, delete=False, waiting=never)}
    assert set(begun) <= found
    assert not set(others) & found


@pytest.mark.parametrize("damage", ["gone", "other", "index", "lock"])
def test_nothing_is_deleted_where_it_is_not_known_what_is_needed(
    ws: Workspace, damage: str
) -> None:
    made = image(ws, "a", "one")
    layer(ws, "nobody's")
    manifest = ws.layout.path(made.manifest.digest)
    if damage == "gone":
        manifest.unlink()
    elif damage == "other":
        manifest.write_bytes(b"{}")
    elif damage == "index":
        (ws.layout.root / "index.json").write_text("{")
    else:
        (ws.locks / "minimal" / "pylock.toml").write_text("]")
    age(ws)
    before = files(ws)
    with pytest.raises((IntegrityError, LayoutError, PlinthError)):
        collect(ws, delete=True, waiting=never)
    assert files(ws) == before


def test_half_written_files_go_unless_somebody_writes_them(ws: Workspace) -> None:
    image(ws, "a", "one")
    (ws.layout.temporary / "part-dead").write_bytes(b"x")
    with ws.cache.writer(kept="0" * 64) as kept:
        kept.write(b"half of it")
    with ws.cache.writer() as writer:
        writer.write(b"x")
        # Young, it may be gone on with.
        assert list(collect(ws, delete=True, waiting=never)) == []
        age(ws)
        found = collect(ws, delete=True, waiting=never)
        assert [one.path.name for one in found] == ["part-dead", f"kept-{'0' * 64}"]
        assert ws.cache.has(writer.commit())


def test_whoever_builds_is_waited_for(ws: Workspace) -> None:
    image(ws, "a", "one")
    layer(ws, "two")
    age(ws)
    inside, waiting, built = threading.Event(), threading.Event(), threading.Event()

    def build() -> None:
        with adding(ws.build):
            inside.set()
            # A hit: the layer is old and nobody's; only the lease keeps it until it is named.
            assert not layer(ws, "two").built
            assert waiting.wait(20)
            image(ws, "b", "two")
            built.set()

    thread = threading.Thread(target=build)
    with adding(ws.build):
        thread.start()
        assert inside.wait(20)
        other = threading.Thread(target=lambda: collect(ws, delete=True, waiting=waiting.set))
        other.start()
        assert waiting.wait(20)
    thread.join(20)
    other.join(20)
    assert built.is_set()
    assert validate(ws.layout.root) == []
    assert set(references(ws.layout)) == {"a", "b"}


def test_builds_do_not_wait_for_each_other_and_deleting_is_for_one_alone(ws: Workspace) -> None:
    with adding(ws.build), adding(ws.build):
        pass
    told: list[str] = []

    def enter() -> None:
        with removing(ws.build, lambda: told.append("waiting")):
            told.append("in")

    thread = threading.Thread(target=enter)
    with removing(ws.build, never):
        thread.start()
        while not told:
            time.sleep(0.01)
        assert told == ["waiting"]
    thread.join(20)
    assert told == ["waiting", "in"]


def test_the_command_is_a_dry_run_unless_told(
    ws: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ws.root)
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    assert main(["gc"]) == 1
    assert "there is no OCI image layout here" in capsys.readouterr().err
    image(ws, "a", "one")
    assert main(["gc"]) == 0
    assert capsys.readouterr().out.startswith("nothing to delete")
    ws.cache.put(b"x" * 2_500)
    age(ws)
    assert main(["gc"]) == 0
    out = capsys.readouterr().out
    assert out == (
        "NOT REFERRED TO  FILES    SIZE\n"
        "cache blob           1  2.5 kB\n"
        "2.5 kB could be deleted: plinth gc --delete\n"
    )
    assert main(["gc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == 2_500
    assert main(["gc", "--delete"]) == 0
    assert capsys.readouterr().out.endswith("deleted 2.5 kB\n")
    assert main(["gc", "--delete"]) == 0
    assert capsys.readouterr().out.startswith("nothing to delete")
