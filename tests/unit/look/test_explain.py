"""What a push would send, as far as this build folder knows what was pushed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from plinth.base.model import Base, Interpreter
from plinth.digest import Digest
from plinth.explain import push_lines
from plinth.oci.model import Layer
from plinth.publish.known import Known
from plinth.record import Record
from plinth.workspace import Workspace

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
    assert list(push_lines(ws, wheels, base, record, to_build=False)) == []
    Known(ws.build / "publish", "127.0.0.1:5000").add("team/a", [system.digest])
    assert list(push_lines(ws, wheels, base, record, to_build=False)) == [
        "a push to 127.0.0.1_5000 sends 3 layers, 3.3 kB"
    ]
    Known(ws.build / "publish", "127.0.0.1:5000").add("team/b", [wheels[0].digest, contract.digest])
    assert list(push_lines(ws, wheels, base, record, to_build=True)) == [
        "a push to 127.0.0.1_5000 sends 1 layers, 1.0 kB, and what is to be built"
    ]
    # Before the first build nothing is known of layers that are no package's.
    assert list(push_lines(ws, wheels, base, None, to_build=False)) == [
        "a push to 127.0.0.1_5000 sends 1 layers, 1.0 kB"
    ]
    (ws.build / "publish" / "127.0.0.1_5000.json").write_text("[")
    assert list(push_lines(ws, wheels, base, record, to_build=False)) == []


def test_starting_plinth_and_doit_loads_nothing_heavy() -> None:
    """Each would be felt at every start: help, completion, a doit with nothing to do."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import plinth.cli, dodo\n"
        "plinth.cli.command_line()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"rich", "shtab", "sigstore", "cryptography", "cyclonedx", "docker", "requests"}
    assert heavy.isdisjoint(done.stdout.split())
