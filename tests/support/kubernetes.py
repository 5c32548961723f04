"""What a Deployment comes to in an engine, as the kubelet and a container runtime have it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from support.containers import application

# YAML as the images' own `conda` reads it: strings, lists and mappings.
_READ = """
import json, sys
sys.path.insert(0, sys.argv[1])
from plinth_conda import subset
print(json.dumps(subset.read(sys.stdin.read(), "the Deployment")))
"""
_READER = Path(__file__).resolve().parents[2] / "base/rootfs/opt/miniconda/lib"
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def read(text: str) -> dict[str, Any]:
    """A manifest, in which every scalar is a string; text and numbers must be where Kubernetes
    wants them."""
    # A variable's value is text, and refused as a number; all other numbers are refused as text.
    assert not re.search(r"(?m)^[\s-]*value: [\d.]+$|^[\s-]*value: (true|false)$", text)
    assert not re.search(r'(?m)^[\s-]*(?!value)\w+: "\d+"$', text)
    done = subprocess.run(
        [sys.executable, "-IB", "-c", _READ, str(_READER)],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


class Fields:
    """A mapping of a manifest, each of whose fields must be asked for."""

    def __init__(self, mapping: Mapping[str, Any], where: str) -> None:
        self._left = dict(mapping)
        self._where = where

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        assert kind or not self._left, f"{self._where}: not understood: {sorted(self._left)}"

    def text(self, name: str, default: str = "") -> str:
        value = self._left.pop(name, default)
        assert isinstance(value, str), f"{self._where}.{name}"
        return value

    def number(self, name: str, default: int) -> int:
        return int(self.text(name, str(default)))

    def flag(self, name: str) -> bool:
        value = self.text(name, "false")
        assert value in ("true", "false"), f"{self._where}.{name}: {value}"
        return value == "true"

    def items(self, name: str) -> list[Any]:
        value = self._left.pop(name, [])
        assert isinstance(value, list), f"{self._where}.{name}"
        return value

    def inner(self, name: str) -> Fields:
        value = self._left.pop(name, {})
        assert isinstance(value, dict), f"{self._where}.{name}"
        return Fields(value, f"{self._where}.{name}")

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def others_concern(self, *names: str) -> None:
        """Leave out what a scheduler or a controller reads, and no container runtime."""
        for name in names:
            self._left.pop(name, None)


@dataclass(frozen=True)
class Probe:
    """A probe by HTTP, with Kubernetes' defaults."""

    path: str
    port: int
    period: int
    failures: int

    def passes(self, url: str) -> bool:
        """Ask once, as a kubelet does."""
        headers = {"User-Agent": "kube-probe/1.34", "Accept": "*/*", "Connection": "close"}
        try:
            answer = requests.get(url + self.path, headers=headers, timeout=1)
        except requests.RequestException:
            return False
        return 200 <= answer.status_code < 400

    def until(self, url: str, alive: Callable[[], None]) -> None:
        """Ask every period until it passes; `alive` fails where the container has ended."""
        for _ in range(self.failures):
            if self.passes(url):
                return
            alive()
            time.sleep(self.period)
        raise AssertionError(f"{self.path} did not pass {self.failures} times")


@dataclass
class Pod:
    """A container as the engine is to create it, and what the kubelet does with it.

    options: of `containers.create`. sources: where each path that is mounted comes from: `tmp` (an
    emptyDir), `configMap/NAME`, `persistentVolumeClaim/NAME`.
    """

    image: str = ""
    non_root: bool = False
    grace: int = 30
    before_stop: list[str] = field(default_factory=list)
    probes: dict[str, Probe] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def admitted(self, user: str) -> bool:
        """Whether a kubelet runs an image with this user in its configuration."""
        uid = str(self.options.get("user", user)).partition(":")[0]
        return not self.non_root or (uid.isdigit() and int(uid) != 0)

    def mounts(self, folders: Mapping[str, Path]) -> dict[str, dict[str, str]]:
        """The engine's `volumes`, where `folders` are by source."""
        return {
            str(folders[source]): {"bind": path, "mode": "ro" if read_only else "rw"}
            for path, (source, read_only) in self.sources.items()
        }


def deployment(text: str) -> Pod:
    """The pod that a Deployment is about. Fails on what it does not know."""
    pod = Pod(options={"security_opt": [], "environment": {}})
    with Fields(read(text), "Deployment") as top:
        assert (top.text("apiVersion"), top.text("kind")) == ("apps/v1", "Deployment")
        top.others_concern("metadata")
        with top.inner("spec") as spec:
            spec.others_concern("replicas", "selector")
            with spec.inner("template") as template, template.inner("spec") as inner:
                template.others_concern("metadata")
                _pod(pod, inner)
    return pod


def _pod(pod: Pod, spec: Fields) -> None:
    spec.others_concern("automountServiceAccountToken")
    pod.grace = spec.number("terminationGracePeriodSeconds", 30)
    with spec.inner("securityContext") as context:
        pod.non_root = context.flag("runAsNonRoot")
        with context.inner("seccompProfile") as profile:
            # An engine's default, where it is not told otherwise.
            assert profile.text("type", "RuntimeDefault") == "RuntimeDefault"
    volumes = {}
    for mapping in spec.items("volumes"):
        with Fields(mapping, "volumes") as volume:
            name = volume.text("name")
            if "emptyDir" in volume:
                with volume.inner("emptyDir") as empty:
                    empty.others_concern("sizeLimit")
                volumes[name] = name
            elif "configMap" in volume:
                with volume.inner("configMap") as given:
                    volumes[name] = f"configMap/{given.text('name')}"
            else:
                with volume.inner("persistentVolumeClaim") as claim:
                    volumes[name] = f"persistentVolumeClaim/{claim.text('claimName')}"
    (only,) = spec.items("containers")
    with Fields(only, "containers[0]") as container:
        _container(pod, container, volumes)


def _container(pod: Pod, container: Fields, volumes: Mapping[str, str]) -> None:
    container.others_concern("name")
    pod.image = container.text("image")
    ports = {}
    for mapping in container.items("ports"):
        with Fields(mapping, "ports") as port:
            ports[port.text("name")] = port.number("containerPort", 0)
    # The engine chooses a port of the host for each, and loopback takes the place of the pod's IP.
    pod.options["ports"] = {f"{number}/tcp": ("127.0.0.1", None) for number in ports.values()}
    for mapping in container.items("env"):
        with Fields(mapping, "env") as variable:
            pod.options["environment"][variable.text("name")] = variable.text("value")
    with container.inner("resources") as resources:
        resources.others_concern("requests")
        with resources.inner("limits") as limits:
            number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", limits.text("memory")).groups()  # type: ignore[union-attr]
            memory = int(number) * _UNITS[unit]
            # Nodes have no swap.
            pod.options |= {"mem_limit": memory, "memswap_limit": memory}
    with container.inner("securityContext") as context:
        if not context.flag("allowPrivilegeEscalation"):
            pod.options["security_opt"] += ["no-new-privileges"]
        pod.options["read_only"] = context.flag("readOnlyRootFilesystem")
        with context.inner("capabilities") as capabilities:
            pod.options["cap_drop"] = capabilities.items("drop")
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        with container.inner(name) as probe, probe.inner("httpGet") as get:
            pod.probes[name] = Probe(
                path=get.text("path"),
                port=ports[get.text("port")],
                period=probe.number("periodSeconds", 10),
                failures=probe.number("failureThreshold", 3),
            )
    with (
        container.inner("lifecycle") as lifecycle,
        lifecycle.inner("preStop") as stop,
        stop.inner("exec") as execute,
    ):
        pod.before_stop = execute.items("command")
    for mapping in container.items("volumeMounts"):
        with Fields(mapping, "volumeMounts") as mount:
            source = volumes[mount.text("name")]
            pod.sources[mount.text("mountPath")] = (source, mount.flag("readOnly"))


def config_map(folder: Path, files: dict[str, str]) -> Path:
    """A folder as the kubelet makes one of a ConfigMap: links to files of a moment."""
    application(folder / "..2026_11_30", files)
    (folder / "..data").symlink_to("..2026_11_30")
    for name in files:
        (folder / name).symlink_to(f"..data/{name}")
    folder.chmod(0o755)
    return folder


def empty_dir(folder: Path) -> Path:
    """A folder as the kubelet makes one of an emptyDir: anybody may write."""
    folder.mkdir()
    folder.chmod(0o777)
    return folder
