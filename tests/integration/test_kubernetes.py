"""docs/kubernetes.md's Deployment, with what each of its fields comes to in an engine."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest

from integration.conftest import ROOT
from support.containers import Server, application, ended, published, started
from support.kubernetes import Pod, config_map, deployment, empty_dir

pytestmark = [pytest.mark.engine, pytest.mark.network]

SCRIPT = """\
import os
import time


def init():
    global model
    folder = os.environ["AZUREML_MODEL_DIR"]
    while not os.path.exists(folder + "/model.txt"):
        time.sleep(0.1)
    with open(folder + "/model.txt") as stream:
        model = stream.read()


def run(data):
    time.sleep(float(data))
    return [model, os.getuid(), os.getgid()]
"""
OPENSHIFT: dict[str, Any] = {"user": "1000650000:0", "group_add": ["1000650000"]}
"""What restricted-v2 makes of a pod: a uid of the project's own, group 0, and its fsGroup."""


@pytest.fixture
def manifest() -> str:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (found,) = re.findall(r"```yaml\n(.*?)```\n", text, re.DOTALL)
    assert isinstance(found, str)
    return found


@pytest.fixture
def pod(manifest: str) -> Pod:
    return deployment(manifest)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"),
        ("drop: [ALL]", "remove: [ALL]"),
        ("runAsNonRoot: true", "runAsNonRoot: yes"),
        ("periodSeconds: 10", 'periodSeconds: "10"'),
        ('value: "2"', "value: 2"),
    ],
)
def test_a_field_that_kubernetes_would_not_take_is_refused(
    manifest: str, line: str, instead: str
) -> None:
    assert line in manifest
    with pytest.raises(AssertionError):
        deployment(manifest.replace(line, instead))


def test_the_deployment_is_restricted(pod: Pod) -> None:
    assert pod.non_root
    assert pod.options["cap_drop"] == ["ALL"]
    assert pod.options["security_opt"] == ["no-new-privileges"]
    assert pod.options["read_only"]
    assert pod.options["mem_limit"] == 256 << 20


@pytest.mark.parametrize(
    ("given", "who"), [({}, [1000, 1000]), (OPENSHIFT, [1000650000, 0])], ids=["", "OpenShift"]
)
def test_the_deployment_serves(
    engine: docker.DockerClient,
    minimal: str,
    tmp_path: Path,
    pod: Pod,
    given: dict[str, Any],
    who: list[int],
) -> None:
    pod.options |= given
    assert pod.admitted(engine.images.get(minimal).attrs["Config"]["User"])
    models = application(tmp_path / "models", {})
    volumes = pod.mounts(
        {
            "tmp": empty_dir(tmp_path / "empty"),
            "configMap/my-model": config_map(tmp_path / "map", {"score.py": SCRIPT}),
            "persistentVolumeClaim/my-model": models,
        }
    )
    with started(engine, minimal, volumes=volumes, **pod.options) as container:
        server = Server(container, published(container))

        def alive() -> None:
            container.reload()
            assert container.status == "running", server.log()

        startup, liveness, readiness = (
            pod.probes[f"{name}Probe"] for name in ("startup", "liveness", "readiness")
        )
        startup.until(server.url, alive)
        assert liveness.passes(server.url)
        assert not readiness.passes(server.url)
        application(models, {"model.txt": "found"})
        readiness.until(server.url, alive)
        assert server.answer(0) == ["found", *who]
        with ThreadPoolExecutor(3) as pool:
            # Both workers are busy for longer than a probe waits, which is a second.
            busy = [pool.submit(server.answer, 1.5) for _ in range(2)]
            time.sleep(0.5)
            assert liveness.passes(server.url) and readiness.passes(server.url)
            if not given:
                server.inside(*pod.before_stop)
                busy.append(pool.submit(server.answer, 1.5))
                time.sleep(0.5)
            begun = time.monotonic()
            container.stop(timeout=pod.grace)
            assert time.monotonic() - begun < 10
            assert [one.result() for one in busy] == [["found", *who]] * len(busy)
        assert ended(container)[0] == 0
