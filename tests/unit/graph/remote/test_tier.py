"""Builds with a remote cache: shared, wrong, failing, slow, full or gone, the image is the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from plinth.build.image import Built, build_image
from plinth.core import settings as config_module
from plinth.core.digest import Digest
from plinth.core.errors import PlinthError, StepError
from plinth.core.remote_settings import RemoteSettings
from plinth.core.settings import Config
from plinth.fetch.remote_layers import bring_image
from plinth.formats.oci.validate import validate
from plinth.graph.actions import Action
from plinth.graph.reapi import messages
from plinth.graph.remote import patience
from plinth.graph.run import run
from plinth.graph.session import session
from support import needs, reapi_servers, small_checkout
from support.faulty_reapi import FaultyServer
from support.small_checkout import IMAGE, SmallCheckout

WHEELS = 8
LAYERS = 3 + 1
"""System, Python, contract, and the wheels."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallCheckout:
    """A checkout nobody builds in."""
    return small_checkout.make(tmp_path_factory.mktemp("template") / "checkout")


@pytest.fixture(scope="module")
def expected(template: SmallCheckout, tmp_path_factory: pytest.TempPathFactory) -> Digest:
    """The image's digest, built without any server."""
    checkout = copied(template, tmp_path_factory.mktemp("alone"))
    alone = Machine(checkout, Config(files={"wheels": str(checkout.wheels)}))
    return alone.build().image.manifest.digest


@dataclass
class Machine:
    """A checkout with a store of its own, and what its builds said."""

    checkout: SmallCheckout
    config: Config

    def __post_init__(self) -> None:
        self.said: list[str] = []

    def build(self, **options: str) -> Built:
        return build_image(
            self.checkout.ws,
            IMAGE,
            config=self.config,
            jobs=2,
            progress=self.said.append,
            **options,
        )

    @property
    def notes(self) -> list[str]:
        return [line for line in self.said if line.startswith("note: ")]

    def held(self) -> set[Digest]:
        blobs = self.checkout.ws.layout.blobs
        return {Digest(path.name, path.stat().st_size) for path in blobs.iterdir()}


def copied(template: SmallCheckout, folder: Path, *, inputs: bool = True) -> SmallCheckout:
    """A checkout of the same locks; with its inputs, or without any."""
    checkout = SmallCheckout(folder / "checkout")
    shutil.copytree(template.root, checkout.root, symlinks=True)
    if inputs:
        shutil.copytree(template.wheels, checkout.wheels)
        shutil.copytree(template.archive, checkout.archive)
        checkout.seed(debs=True)
    checkout.write_settings()
    return checkout


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        server.capabilities.execution_capabilities.exec_enabled = False
        yield server


NewMachine = Callable[..., Machine]


@pytest.fixture
def machine(template: SmallCheckout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewMachine:
    """A function that makes another machine with the server at `address`."""
    count = iter(range(100))

    def make(address: str, *, inputs: bool = True, **settings: object) -> Machine:
        folder = tmp_path / f"m{next(count)}"
        folder.mkdir()
        checkout = copied(template, folder, inputs=inputs)
        monkeypatch.setenv("PLINTH_CONFIG", str(checkout.settings))
        remote = replace(RemoteSettings(cache=address, timeout=20), **settings)  # type: ignore[arg-type]
        return Machine(checkout, replace(config_module.load(), remote=remote))

    return make


def test_a_machine_without_inputs_builds_from_what_another_made(
    server: FaultyServer, machine: NewMachine, expected: Digest
) -> None:
    first = machine(server.address).build()
    assert first.image.manifest.digest == expected
    assert sum(layer.built for layer in first.image.layers) == LAYERS
    stored = len(server.results)
    other = machine(server.address, inputs=False)
    again = other.build()
    assert again.image.manifest.digest == expected
    assert not any(layer.built for layer in again.image.layers)
    assert validate(other.checkout.ws.layout.root) == []
    assert other.notes == []
    # Results are not sent back, and nothing but layers came, with the wheels' lists of files.
    assert len(server.results) == stored
    assert len([*other.checkout.ws.cache.blobs.iterdir()]) == WHEELS
    assert "0 steps run there" in other.said[-1]


def test_no_layer_comes_where_nobody_reads_it(
    server: FaultyServer, machine: NewMachine, expected: Digest
) -> None:
    machine(server.address).build()
    reads = server.count("Read")
    other = machine(server.address, inputs=False, download="minimal")
    built = other.build()
    assert built.image.manifest.digest == expected
    assert server.count("Read") == reads
    assert other.held() == {built.image.manifest.digest, built.image.config}
    # Once more: nothing is on disk, so all is asked again, and comes to the same.
    assert other.build().image == built.image
    bring_image(other.checkout.ws, IMAGE, other.config)
    assert validate(other.checkout.ws.layout.root) == []


def test_everything_comes_where_all_is_asked_for(server: FaultyServer, machine: NewMachine) -> None:
    machine(server.address).build()
    other = machine(server.address, inputs=False)
    other.build(download="all")
    # Parts of the layer of all wheels, their lists of files, the interpreter's archive, and the
    # three scans there are: wheels without objects have one.
    assert len([*other.checkout.ws.cache.blobs.iterdir()]) == 2 * WHEELS + 4


def test_an_unknown_choice_of_downloads_is_told(server: FaultyServer, machine: NewMachine) -> None:
    with pytest.raises(PlinthError, match="what is downloaded") as raised:
        machine(server.address).build(download="some")
    assert raised.value.expected == "minimal or toplevel or all"


def test_a_bump_is_made_from_what_the_server_has(
    server: FaultyServer, machine: NewMachine, tmp_path: Path
) -> None:
    """The interpreter that compiles the new wheel is there and nowhere else."""
    machine(server.address).build()
    other = machine(server.address, inputs=False, download="minimal")
    folder = other.checkout.wheels
    folder.mkdir(exist_ok=True)
    bumped = small_checkout.some_wheels(folder)[:-1]
    bumped.append(small_checkout.wheel(folder, "package5", "9.9"))
    other.checkout.lock(bumped)
    built = other.build()
    assert [layer.name for layer in built.image.layers if layer.built] == ["large 1.0 and 7 more"]
    # And the image it is checked in, by the scans of layers that are not here.
    assert other.notes == []


def test_an_upload_policy_of_none_only_reads(
    server: FaultyServer, machine: NewMachine, expected: Digest
) -> None:
    assert machine(server.address, upload="none").build().image.manifest.digest == expected
    assert server.results == {}
    assert server.blobs == {}


def unreachable(server: FaultyServer) -> None:
    server.faults.always = dict.fromkeys(
        ("GetCapabilities", "FindMissingBlobs", "GetActionResult"), "UNAVAILABLE"
    )


def full(server: FaultyServer) -> None:
    server.faults.always = {
        "BatchUpdateBlobs": "RESOURCE_EXHAUSTED",
        "Write": "RESOURCE_EXHAUSTED",
    }


def expired(server: FaultyServer) -> None:
    server.faults.token = "another"  # noqa: S105


def forbidden(server: FaultyServer) -> None:
    server.faults.always = {"UpdateActionResult": "PERMISSION_DENIED"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (unreachable, "cannot be reached"),
        (full, "is overloaded or full"),
        (expired, "wants other credentials"),
        (forbidden, ""),
    ],
)
def test_a_server_that_fails_is_told_once_and_costs_nothing_else(
    server: FaultyServer,
    machine: NewMachine,
    expected: Digest,
    fault: Callable[[FaultyServer], None],
    said: str,
) -> None:
    fault(server)
    one = machine(server.address)
    assert one.build().image.manifest.digest == expected
    assert len(one.notes) == (1 if said else 0)
    assert all(said in note for note in one.notes)
    assert validate(one.checkout.ws.layout.root) == []


def test_nobody_at_the_address(machine: NewMachine, expected: Digest) -> None:
    one = machine(f"grpc://127.0.0.1:{reapi_servers.free_port()}", timeout=2.0)
    assert one.build().image.manifest.digest == expected
    assert len(one.notes) == 1
    assert "building on without the remote server" in one.notes[0]


def test_a_slow_server_is_left(server: FaultyServer, machine: NewMachine, expected: Digest) -> None:
    server.faults.slow = 3
    one = machine(server.address, timeout=1.0)
    assert one.build().image.manifest.digest == expected
    assert len(one.notes) == 1
    assert "did not answer in time" in one.notes[0]


def test_wrong_bytes_for_a_digest_are_made_here_instead(
    server: FaultyServer, machine: NewMachine, expected: Digest
) -> None:
    built = machine(server.address).build()
    large = max(built.image.layers, key=lambda layer: layer.digest.size)
    server.faults.wrong.add(large.digest.hex)
    other = machine(server.address)
    again = other.build()
    assert again.image.manifest.digest == expected
    assert [layer.name for layer in again.image.layers if layer.built] == [large.name]
    assert len(other.notes) == 1
    assert "other bytes than the digest names" in other.notes[0]


def lie_about_the_diff_id(result: messages.ActionResult) -> None:
    for file in result.output_files:
        if file.path == "outputs/info.json":
            file.contents = file.contents.replace(b'"diff_id":"', b'"diff_id":"')[:-2] + b"0}"
            change(file, Digest.of(file.contents))


def change(file: messages.OutputFile, digest: Digest) -> None:
    file.digest.hash, file.digest.size_bytes = digest.hex, digest.size


def forget_the_layer(result: messages.ActionResult) -> None:
    del result.output_files[:]


def name_another_layer(result: messages.ActionResult) -> None:
    for file in result.output_files:
        if file.path == "outputs/layer":
            change(file, Digest.of(b"no layer"))


def say_nonsense(result: messages.ActionResult) -> None:
    for file in result.output_files:
        if file.path == "outputs/info.json":
            file.contents = b"[" * 100_000
            change(file, Digest.of(file.contents))


@pytest.mark.parametrize(
    "lie", [lie_about_the_diff_id, forget_the_layer, name_another_layer, say_nonsense]
)
def test_results_that_cannot_be_are_none(
    server: FaultyServer,
    machine: NewMachine,
    expected: Digest,
    lie: Callable[[messages.ActionResult], None],
) -> None:
    machine(server.address).build()
    server.put(b"no layer")
    for result in server.results.values():
        if any(file.path == "outputs/layer" for file in result.output_files):
            lie(result)
    other = machine(server.address)
    assert other.build().image.manifest.digest == expected
    assert len(other.notes) == 1
    assert validate(other.checkout.ws.layout.root) == []
    # What was made here took the place of the lie.
    third = machine(server.address, inputs=False)
    assert third.build().image.manifest.digest == expected
    assert third.notes == []


def test_a_closure_without_its_notes_is_checked_here(
    server: FaultyServer, machine: NewMachine, expected: Digest
) -> None:
    machine(server.address).build()
    # Of all steps it alone makes nothing but facts.
    (closure,) = (key for key, one in server.results.items() if len(one.output_files) == 1)
    (info,) = server.results[closure].output_files
    info.contents = b"{}"
    change(info, Digest.of(info.contents))
    assert machine(server.address).build().image.manifest.digest == expected
    # What was found here took its place.
    assert server.results[closure].output_files[0].contents == b'{"notes":[]}'


def test_a_server_killed_in_the_middle_of_uploads(
    template: SmallCheckout, machine: NewMachine, tmp_path: Path, expected: Digest
) -> None:
    with reapi_servers.casd(tmp_path / "casd") as server:
        one = machine(server.address, timeout=2.0)
        timer = threading.Timer(0.4, server.kill)
        timer.start()
        assert one.build().image.manifest.digest == expected
        timer.join()
    assert len(one.notes) <= 1
    with reapi_servers.casd(tmp_path / "casd") as server:
        # What it holds is whole, or is not there.
        other = machine(server.address)
        assert other.build().image.manifest.digest == expected
        assert other.notes == []
        third = machine(server.address, inputs=False)
        assert third.build().image.manifest.digest == expected
        assert not any(layer.built for layer in third.build().image.layers)


def test_a_server_killed_in_the_middle_of_a_step(
    machine: NewMachine, tmp_path: Path, expected: Digest
) -> None:
    store = tmp_path / "casd" / "store"
    with reapi_servers.casd(tmp_path / "casd", executes=True) as server:
        one = machine(server.address, executor=server.address, timeout=2.0)
        seen = threading.Event()

        def kill() -> None:
            # Where the roots of running actions are.
            while server.process.poll() is None:
                if any(store.glob("cas/staging/*")):
                    seen.set()
                    server.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        assert one.build().image.manifest.digest == expected
        server.process.kill()
        thread.join()
    assert seen.is_set()
    assert [note for note in one.notes if "building on without" in note] == one.notes
    assert len(one.notes) == 1


def test_a_worker_that_cannot_run_an_interpreter_is_told_once(
    machine: NewMachine, tmp_path: Path, expected: Digest
) -> None:
    """The interpreter of these checkouts is a shell script, and there is no shell."""
    with reapi_servers.casd(tmp_path / "casd", executes=True) as server:
        one = machine(server.address, executor=server.address)
        assert one.build().image.manifest.digest == expected
    assert len(one.notes) == 1
    assert "cannot run steps" in one.notes[0]
    assert "the target interpreter" in one.notes[0]
    # The system's layer was made there before.
    assert ", 1 steps run there" in one.said[-1]


def test_a_step_that_refuses_its_input_says_so_from_there(
    machine: NewMachine, tmp_path: Path
) -> None:
    with reapi_servers.casd(tmp_path / "casd", executes=True) as server:
        one = machine(server.address, executor=server.address)
        broken = one.checkout.archive / "broken.deb"
        broken.write_bytes(b"!<arch>\nnot a package")
        ws = one.checkout.ws
        digest = ws.cache.put_file(broken)
        action = Action(
            "deb-layer",
            {"broken": digest},
            {"filenames": {"broken": "broken.deb"}},
            ("layer", "scan"),
        )
        with (
            session(ws, one.config, jobs=1, progress=one.said.append) as opened,
            pytest.raises(StepError, match=r"broken\.deb") as raised,
        ):
            run(opened, action)
    assert "Traceback" not in str(raised.value)
    assert ws.actions.lookup(action, ws.stores) is None


def test_a_server_whose_disk_is_full(machine: NewMachine, tmp_path: Path, expected: Digest) -> None:
    folder = tmp_path / "casd"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        needs.skip("the right to mount a file system")
    try:
        with reapi_servers.casd(folder) as server:
            one = machine(server.address, timeout=5.0)
            assert one.build().image.manifest.digest == expected
            assert len(one.notes) == 1, one.said
            other = machine(server.address)
            assert other.build().image.manifest.digest == expected
            assert validate(other.checkout.ws.layout.root) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_an_interrupted_build_leaves_the_server_and_nothing_half_written(
    server: FaultyServer, machine: NewMachine, expected: Digest
) -> None:
    server.capabilities.execution_capabilities.exec_enabled = True
    server.faults.steps = ["hang"] * 100
    one = machine(server.address, executor=server.address)

    def watch() -> None:
        while not server.count("Execute"):
            time.sleep(0.01)
        # To the process, as a terminal does it.
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        one.build()
    assert one.notes == []
    assert not [*one.checkout.ws.build.rglob("part-*")]
    server.faults.steps = []
    server.capabilities.execution_capabilities.exec_enabled = False
    assert one.build().image.manifest.digest == expected
