"""containerd of today as a process of a test, without an engine, its own client `ctr`, and SOCI's
snapshotter."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import judges
from support.processes import listening

_REMOTE = """
[proxy_plugins.remote]
type = "snapshot"
address = {}
[proxy_plugins.remote.exports]
enable_remote_snapshot_annotations = "true"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/amd64"
snapshotter = "remote"
"""


@dataclass(frozen=True)
class Containerd:
    """A running containerd, by its socket."""

    socket: Path

    def ctr(self, *arguments: str | Path) -> str:
        """What `ctr` prints; it must succeed."""
        asked = ["--address", str(self.socket), *arguments]
        return judges.run("containerd", *asked, name="ctr").decode()

    def images(self) -> dict[str, str]:
        """The digest of each image by its name."""
        rows = [line.split() for line in self.ctr("images", "list").splitlines()[1:]]
        return {row[0]: row[2] for row in rows}


@contextlib.contextmanager
def containerd(folder: Path, snapshotter: Path | None = None) -> Iterator[Containerd]:
    """containerd with its data in `folder`, which mounts layers by the snapshotter that listens at
    the socket `snapshotter`."""
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="plinth-containerd-") as state:
        running = Containerd(Path(state) / "containerd.sock")
        # TOML takes JSON's strings.
        settings = folder / "config.toml"
        settings.write_text(
            'version = 3\ndisabled_plugins = ["io.containerd.cri.v1.images",'
            ' "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]\n'
            f"root = {json.dumps(str(folder / 'root'))}\nstate = {json.dumps(f'{state}/state')}\n"
            f"[grpc]\naddress = {json.dumps(str(running.socket))}\n"
            + (_REMOTE.format(json.dumps(str(snapshotter))) if snapshotter else "")
        )
        command = [judges.program("containerd"), "--config", str(settings)]
        with listening(command, running.socket, folder / "log"):
            yield running


@contextlib.contextmanager
def snapshotter(folder: Path, registry: str) -> Iterator[Path]:
    """SOCI's snapshotter with its data in `folder`, by the socket that it listens at."""
    settings = folder / "soci.toml"
    settings.write_text(
        "[pull_modes.soci_v1]\nenable = true\n[background_fetch]\ndisable = true\n"
        '[content_store]\ntype = "soci"\n'
        f'[[resolver.host."{registry}".mirrors]]\nhost = "http://{registry}"\ninsecure = true\n'
    )
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="plinth-soci-") as state:
        socket = Path(state) / "socket"
        command = [judges.program("soci", "soci-snapshotter-grpc"), "--config", str(settings)]
        command += ["--address", str(socket), "--root", str(folder / "soci")]
        with listening(command, socket, folder / "soci.log"):
            yield socket
