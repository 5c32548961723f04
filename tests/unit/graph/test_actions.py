"""Actions and their cache: keys change with every input; damaged or dangling entries are misses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plinth.core.digest import Digest, canonical_json
from plinth.core.result import ActionResult
from plinth.core.store import BlobStore
from plinth.graph.actions import Action, encode
from plinth.graph.cache import ActionCache
from plinth.graph.reapi import messages
from plinth.graph.run import known, lacking, run
from plinth.graph.tree import File, Tree, files_of, tree
from plinth.graph.workspace import Workspace
from support.sessions import session_of

A, B = Digest.of(b"a"), Digest.of(b"b")
LAYER = Action("layer", {"wheel": A}, {"python": "3.7"}, ("layer",))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def cache(tmp_path: Path) -> ActionCache:
    return ActionCache(tmp_path / "actions")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def fixed_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of steps that never changes."""
    fixed = tree({"plinth/steps.py": File(A)})
    monkeypatch.setattr("plinth.graph.actions.tool", lambda: fixed)


@pytest.mark.usefixtures("fixed_tool")
def test_the_key_is_the_same_everywhere() -> None:
    assert LAYER.digest == Digest(
        "0783f1b7cc820af49ecf1f69a400b26ab9afb8b4cdfad425aebc9a4cec636018", 141
    )


@pytest.mark.parametrize(
    "other",
    [
        Action("other", {"wheel": A}, {"python": "3.7"}, ("layer",)),
        Action("layer", {"wheel": A}, {"python": "3.7"}, ("layer",), 1),
        Action("layer", {"wheel": A}, {"python": "3.7"}, ("layer", "scan")),
        Action("layer", {"wheel": B}, {"python": "3.7"}, ("layer",)),
        Action("layer", {"sdist": A}, {"python": "3.7"}, ("layer",)),
        Action("layer", {"wheel": A}, {"python": "3.8"}, ("layer",)),
    ],
)
def test_every_part_is_in_the_key(other: Action) -> None:
    assert other.digest != LAYER.digest


def test_other_code_of_steps_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = LAYER.digest
    monkeypatch.setattr("plinth.graph.actions.tool", lambda: tree({"plinth/steps.py": File(B)}))
    assert Action("layer", {"wheel": A}, {"python": "3.7"}, ("layer",)).digest != before


@pytest.mark.usefixtures("fixed_tool")
def test_an_action_is_what_servers_understand() -> None:
    encoded = LAYER.encoded
    action = messages.Action.FromString(encoded.blobs[encoded.digest])
    command = messages.Command.FromString(
        encoded.blobs[messages.from_message(action.command_digest)]
    )
    assert list(command.arguments) == ["layer"]
    assert list(command.output_paths) == ["outputs/info.json", "outputs/layer"]
    assert messages.from_message(action.input_root_digest) == encoded.root.digest
    parameters = canonical_json(
        {"mnemonic": "layer", "version": 0, "parameters": {"python": "3.7"}}
    )
    assert dict(files_of(encoded.root)) == {
        "inputs/wheel": A,
        "parameters.json": Digest.of(parameters),
        "tool/plinth/steps.py": A,
    }
    assert encoded.blobs[Digest.of(parameters)] == parameters
    assert all(Digest.of(data) == digest for digest, data in encoded.blobs.items())


def test_where_an_action_runs_is_no_part_of_its_own_key() -> None:
    routed = encode(
        LAYER,
        ["run"],
        {"toolchain/run": File(B, True)},
        environment={"A": "1"},
        platform={"b": "c"},
    )
    action = messages.Action.FromString(routed.blobs[routed.digest])
    command = messages.Command.FromString(
        routed.blobs[messages.from_message(action.command_digest)]
    )
    assert list(command.arguments) == ["run"]
    assert [(one.name, one.value) for one in command.environment_variables] == [("A", "1")]
    for message in (command, action):
        assert [(one.name, one.value) for one in message.platform.properties] == [("b", "c")]
    assert ("toolchain/run", B) in set(files_of(routed.root))
    assert routed.digest != LAYER.digest


def test_trees_are_in_the_canonical_form() -> None:
    # Written down by hand from the protocol's field numbers.
    empty = tree({})
    assert empty.digest == Digest.of(b"")
    one = tree({"b": File(A, True), "a": File(B)})
    first = b"\x0a\x01a\x12\x44\x0a\x40" + B.hex.encode() + b"\x10\x01"
    second = b"\x0a\x01b\x12\x44\x0a\x40" + A.hex.encode() + b"\x10\x01\x20\x01"
    expected = b"".join(b"\x0a" + bytes([len(node)]) + node for node in (first, second))
    assert one.directories == {one.digest: expected}


def test_a_tree_in_a_tree_is_the_same_as_its_files() -> None:
    inner = tree({"x/y": File(A), "z": File(B)})
    assert tree({"in": inner, "c": File(A)}) == tree(
        {"in/z": File(B), "in/x/y": File(A), "c": File(A)}
    )


@pytest.mark.parametrize(
    "paths", [[""], ["/a"], ["a/"], ["a//b"], ["../a"], ["a/./b"], ["a", "a/b"], ["a/b", "a"]]
)
def test_paths_that_are_none_are_refused(paths: list[str]) -> None:
    with pytest.raises(ValueError, match=r"path below a root|is not a directory|twice"):
        tree({path: File(A) for path in paths})


def test_nothing_is_put_into_a_tree_that_is_there() -> None:
    inner: Tree = tree({"x": File(A)})
    with pytest.raises(ValueError, match="is not a directory"):
        tree({"in": inner, "in/y": File(B)})


def test_work_runs_once(ws: Workspace) -> None:
    runs = []

    def work() -> ActionResult:
        runs.append(1)
        return ActionResult({"layer": ws.layout.put(b"layer")}, {"files": 3})

    assert not known(ws, LAYER)
    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(run, session_of(ws), LAYER, work=work) for _ in range(8)]
    found = [result.result() for result in results]
    assert len(runs) == 1
    assert sum(not hit for _, hit in found) == 1
    assert all(r == ActionResult({"layer": Digest.of(b"layer")}, {"files": 3}) for r, _ in found)
    assert known(ws, LAYER)


def test_inputs_are_brought_only_for_work(ws: Workspace) -> None:
    brought = []

    def prepare() -> None:
        brought.append(ws.cache.put(b"a"))

    def work() -> ActionResult:
        assert ws.cache.has(A)
        return ActionResult({"layer": ws.layout.put(b"layer")})

    assert lacking(ws, [A]) == {A}
    assert run(session_of(ws), LAYER, prepare=prepare, work=work)[1] is False
    assert lacking(ws, [A]) == set()
    assert run(session_of(ws), LAYER, prepare=prepare, work=work)[1] is True
    assert brought == [A]


def test_what_fails_is_not_kept(ws: Workspace) -> None:
    def work() -> ActionResult:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(session_of(ws), LAYER, work=work)
    assert not known(ws, LAYER)


def test_a_lost_output_is_a_miss(cache: ActionCache, blobs: BlobStore) -> None:
    digest = blobs.put(b"layer")
    cache.store(LAYER, ActionResult({"layer": digest}))
    assert cache.lookup(LAYER, blobs) is not None
    blobs.path(digest).unlink()
    assert cache.lookup(LAYER, blobs) is None


def test_a_lost_scan_is_one_only_without_a_layer(cache: ActionCache, blobs: BlobStore) -> None:
    digest = blobs.put(b"layer")
    cache.store(LAYER, ActionResult({"layer": digest, "scan": A}))
    assert cache.lookup(LAYER, blobs) is not None
    alone = Action("elf-scan", {"layer": digest}, outputs=("scan",))
    cache.store(alone, ActionResult({"scan": A}))
    assert cache.lookup(alone, blobs) is None


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"{}", b'{"outputs":{"l":["x",1]},"info":{}}', b"null"]
)
def test_a_damaged_entry_is_a_miss(cache: ActionCache, blobs: BlobStore, damage: bytes) -> None:
    action = Action("layer", {})
    cache.store(action, ActionResult({}))
    (entry,) = cache.root.glob("*.json")
    entry.write_bytes(damage)
    assert cache.lookup(action, blobs) is None


def test_facts_of_results_are_listed_but_of_damaged_entries(cache: ActionCache) -> None:
    assert [*cache.infos()] == []
    for number in range(5):
        action = Action("layer", {"wheel": A}, {"number": number}, ("layer",))
        # Whether their blobs are there or not.
        cache.store(action, ActionResult({"layer": B}, {"number": number}))
    damage = [b"", b"[]", b"{}", cache._path(action).read_bytes().replace(b"number", b"numbed")]
    for path, data in zip(sorted(cache.root.glob("*.json")), damage, strict=False):
        path.write_bytes(data)
    ((kind, info),) = cache.infos()
    assert kind == "layer"
    assert [*info] == ["number"]
