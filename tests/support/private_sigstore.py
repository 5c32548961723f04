"""A private Sigstore of the real servers: Fulcio, TesseraCT, Rekor v2, a time stamp authority and
a token issuer, with a registry, on loopback in a network namespace of their own (the metrics of
Fulcio and of the time stamp authority listen on every interface, whatever their flags say).

By hand: `tests/field/build fulcio rekor-tiles tesseract timestamp-authority cosign`, then
`cd tests && python -m support.private_sigstore FOLDER` runs it until ^C, and prints how to use it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support import oidc_issuer, sigstore_keys
from support.processes import MORTAL, end

TESTS = Path(__file__).resolve().parents[1]
TOOLS = ("fulcio", "rekor-tiles", "tesseract", "timestamp-authority", "cosign")
PORTS = {"oidc": 27201, "ct": 27202, "fulcio": 27203, "rekor": 27206, "tsa": 27209}
PORTS["fulcio-alone"] = PORTS["fulcio"]
"""A Fulcio without a certificate log takes the other's place."""
REGISTRY = 27210
SERVICES = ("oidc", "ct", "fulcio", "rekor", "tsa", "registry")
REKOR_NAME = "rekor.private.example"
"""What the log calls itself in checkpoints: the host of its URL in the trusted root, not where it
listens."""

WORKFLOW = {
    "job_workflow_ref": "team/images/.github/workflows/release.yml@refs/heads/main",
    "job_workflow_sha": "2" * 40,
    "workflow_ref": "team/images/.github/workflows/release.yml@refs/heads/main",
    "workflow_sha": "2" * 40,
    "workflow": "release",
    "repository": "team/images",
    "repository_id": "7",
    "repository_owner": "team",
    "repository_owner_id": "8",
    "repository_visibility": "private",
    "ref": "refs/heads/main",
    "sha": "1" * 40,
    "event_name": "push",
    "runner_environment": "self-hosted",
    "run_id": "9",
    "run_attempt": "1",
}
"""What a workflow's token says, by GitHub's names, which Fulcio wants all."""


def url(service: str) -> str:
    """Where a service listens."""
    return f"http://127.0.0.1:{PORTS[service]}"


def built(*names: str) -> dict[str, Path] | None:
    """The folders of tools' programs (all that are needed), or None where one is not built."""
    names = names or TOOLS
    command = [str(TESTS / "field" / "build"), "--cached", *names]
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    folders = done.stdout.strip().split(":")
    return dict(zip(names, map(Path, folders), strict=True)) if done.returncode == 0 else None


@dataclass
class Sigstore:
    """The instance in `folder`: keys in `keys`, what the servers print in `<service>.log`."""

    folder: Path
    tools: Mapping[str, Path]
    enter: Sequence[str]
    """The command that runs what follows it in the namespace."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def issuer(self) -> str:
        return url("oidc")

    def token(self, identity: str = "builder@example.org", **claims: object) -> str:
        """An identity token, see `oidc_issuer.token`."""
        return oidc_issuer.token(self.issuer, self.keys / "oidc.key.pem", identity, **claims)

    def workflow_token(self) -> str:
        """The token of a CI system's workflow, with the claims of WORKFLOW."""
        issuer, key = self.issuer + oidc_issuer.CI, self.keys / "oidc.key.pem"
        return oidc_issuer.token(issuer, key, "team", email=None, email_verified=None, **WORKFLOW)

    def start(self, *services: str) -> None:
        """Start services (all), each when the one before it listens."""
        for name in services or SERVICES:
            with (self.folder / f"{name}.log").open("ab") as log:
                self.running[name] = subprocess.Popen(
                    [*self.enter, *MORTAL, *self._command(name)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=TESTS,
                )
            self._wait(name)

    def _wait(self, name: str) -> None:
        port = PORTS.get(name, REGISTRY)
        listens = (
            f"for _ in $(seq 200); do (exec 3<>/dev/tcp/127.0.0.1/{port}) && exit; sleep .1; done"
        )
        command = [*self.enter, "bash", "-c", f"{{ {listens}; }} 2>/dev/null; exit 1"]
        if subprocess.run(command, check=False).returncode:
            text = (self.folder / f"{name}.log").read_text()
            raise AssertionError(f"{name} does not listen: {text[-2000:]}")

    def stop(self, *services: str) -> None:
        """End services (all that run)."""
        for name in services or [*self.running]:
            end(self.running.pop(name))

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """A block in which a service is down."""
        self.stop(name)
        try:
            yield
        finally:
            self.start(name)

    @contextlib.contextmanager
    def silent(self, name: str) -> Iterator[None]:
        """A block in which a service accepts connections and never answers."""
        self.running[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.running[name].send_signal(signal.SIGCONT)

    def _command(self, name: str) -> list[str]:
        keys, state = self.keys, self.folder / name
        port = PORTS.get(name, REGISTRY)
        at = f"127.0.0.1:{port}"
        if name == "oidc":
            return [sys.executable, "-m", "support.oidc_issuer", str(port), f"{keys}/oidc.key.pem"]
        if name == "ct":
            state.mkdir(exist_ok=True)
            return [
                f"{self.tools['tesseract']}/posix",
                f"--private_key={keys}/ct.key.pem",
                "--origin=ct.private.example/2026",
                "--path_prefix=2026",
                f"--storage_dir={state}",
                f"--roots_pem_file={keys}/fulcio-root.pem",
                f"--http_endpoint={at}",
            ]
        if name.startswith("fulcio"):
            ct = "" if name == "fulcio-alone" else f"{url('ct')}/2026"
            kinds = {self.issuer: "email", self.issuer + oidc_issuer.CI: "github-workflow"}
            (self.folder / "fulcio.yaml").write_text(
                "oidc-issuers:\n"
                + "".join(
                    f"  {issuer}:\n    issuer-url: {issuer}\n    client-id: sigstore\n"
                    f"    type: {kind}\n    contact: nobody@example.org\n"
                    "    description: an issuer on loopback\n"
                    for issuer, kind in kinds.items()
                )
            )
            return [
                f"{self.tools['fulcio']}/fulcio",
                *("serve", "--ca=fileca", "--fileca-watch=false"),
                f"--fileca-cert={keys}/fulcio.pem",
                f"--fileca-key={keys}/fulcio.key.pem",
                f"--fileca-key-passwd={(keys / 'fulcio.password').read_text()}",
                f"--config-path={self.folder}/fulcio.yaml",
                f"--ct-log-url={ct}",
                f"--ct-log-public-key-path={keys}/ct.pub.pem",
                *("--host=127.0.0.1", f"--port={port}"),
                *("--grpc-host=127.0.0.1", f"--grpc-port={port + 1}", f"--metrics-port={port + 2}"),
                "--legacy-unix-domain-socket=@fulcio",
            ]
        if name == "rekor":
            state.mkdir(exist_ok=True)
            return [
                f"{self.tools['rekor-tiles']}/posix",
                *("serve", f"--hostname={REKOR_NAME}"),
                *("--http-address=127.0.0.1", f"--http-port={port}"),
                *("--grpc-address=127.0.0.1", f"--grpc-port={port + 1}"),
                f"--http-metrics-port={port + 2}",
                f"--storage-dir={state}",
                f"--signer-filepath={keys}/rekor.key.pem",
                "--checkpoint-interval=1s",
            ]
        if name == "tsa":
            return [
                f"{self.tools['timestamp-authority']}/timestamp-server",
                *("serve", "--host=127.0.0.1", f"--port={port}", "--timestamp-signer=file"),
                f"--file-signer-key-path={keys}/tsa.key.pem",
                f"--certificate-chain-path={keys}/tsa.pem",
                "--disable-ntp-monitoring",
            ]
        (self.folder / "registry.yaml").write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {state}}}}}\n"
            f'http: {{addr: "{at}"}}\n'
        )
        return ["docker-registry", "serve", f"{self.folder}/registry.yaml"]


@contextlib.contextmanager
def private_sigstore(folder: Path, tools: Mapping[str, Path]) -> Iterator[Sigstore]:
    """The instance, running while the block does."""
    sigstore_keys.make(folder / "keys")
    # A user who is not root is one in a namespace of their own.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    enter = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    up = "ip link set lo up && echo && exec sleep infinity"
    with subprocess.Popen(
        ["unshare", "--net", *user, *MORTAL, "sh", "-c", up], stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline(), "there is no network namespace to be had"
            into = ["nsenter", f"--target={holder.pid}", "--net", *enter]
            made = Sigstore(folder, tools, into)
            try:
                made.start()
                yield made
            finally:
                made.stop()
        finally:
            holder.kill()


def main() -> None:
    """Run an instance in the folder named until ^C."""
    tools = built()
    if tools is None:
        sys.exit(f"build the servers first: tests/field/build {' '.join(TOOLS)}")
    folder = Path(sys.argv[1]).absolute()
    with private_sigstore(folder, tools) as made:
        (folder / "token").write_text(made.token())
        print(f"running in the namespace of: {' '.join(made.enter)} COMMAND")
        for name in SERVICES:
            print(f"  {name:9} http://127.0.0.1:{PORTS.get(name, REGISTRY)}")
        print(f"keys and certificates: {made.keys}; a token, good for ten minutes: {folder}/token")
        print('write its trust config with docs/trust.md, "A private instance"')
        signal.pause()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
