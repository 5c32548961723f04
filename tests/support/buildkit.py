"""BuildKit of today as a process of its own, without an engine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import judges
from support.processes import listening


@dataclass(frozen=True)
class BuildKit:
    """A running buildkitd, by its address."""

    address: str

    def build(self, folder: Path, *options: str) -> None:
        """Build the Dockerfile in `folder`, with that folder as context. Without an option for
        output the result stays in BuildKit's cache."""
        asked = ["--addr", self.address, "build", "--progress=plain", "--frontend=dockerfile.v0"]
        asked += [f"--local=context={folder}", f"--local=dockerfile={folder}"]
        judges.run("buildkit", *asked, *options, name="buildctl")


def from_layout(name: str, layout: Path, digest: str) -> list[str]:
    """Options by which `FROM name` is an image of a layout, by its digest `sha256:…`."""
    context = f"--opt=context:{name}=oci-layout://{name}@{digest}"
    return [context, f"--oci-layout={name}={layout}"]


@contextlib.contextmanager
def buildkit(folder: Path) -> Iterator[BuildKit]:
    """buildkitd with its data in `folder`; wants root."""
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="plinth-buildkit-") as state:
        socket, settings = Path(state) / "socket", folder / "buildkitd.toml"
        settings.write_text("")
        command = [judges.program("buildkit", "buildkitd"), f"--config={settings}"]
        command += [f"--addr=unix://{socket}", f"--root={folder / 'root'}"]
        command += ["--containerd-worker=false", f"--oci-worker-binary={judges.program('runc')}"]
        with listening(command, socket, folder / "log"):
            yield BuildKit(f"unix://{socket}")
