"""`doit test`: an image started as a user would start it, asked for health and for a score."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException
from docker.models.containers import Container

from plinth.build.contract_files import APP_ROOT
from plinth.core.errors import EngineError, Problem, SpecError
from plinth.core.report import Progress
from plinth.formats.oci.layout import ImageReference
from plinth.graph.workspace import Workspace
from plinth.publish.engine.client import connect
from plinth.publish.engine.load import find_loaded, id_of
from plinth.recipe.built import find_reference
from plinth.recipe.image import ImageSpec

_DATA = Path(__file__).parent / "data"
_PORT = "5001/tcp"
_START = 90
_STOP = 10
_LOG_LINES = 60


def test_image(
    ws: Workspace,
    spec: ImageSpec,
    name: str = "",
    *,
    client: docker.DockerClient | None = None,
    progress: Progress,
) -> None:
    """Start the loaded image `spec` with a score.py of its framework and use it over HTTP. What is
    started is the image that was built, by its digest, whatever has its name in the engine. `name`
    is what the layout calls it (empty: its id), see `plinth.recipe.forms`.

    Read-only root, no capabilities, no new privileges, the port published on loopback.
    The container is removed whatever happens.

    Raises:
        LayoutError: the image is not built.
        EngineError: no engine answers, the image is not loaded, or it does not do what its contract
            says; the end of the container's log is part of the message.
        SpecError: there is no such case.
    """
    reference = find_reference(ws, name or spec.id)
    cases = json.loads((_DATA / "cases.json").read_text(encoding="utf-8"))
    if spec.case not in cases:
        known = Problem("smoke.case", f"there is no case {spec.case!r}; known: {', '.join(cases)}")
        raise SpecError(f"images/{spec.id}.toml", [known])
    case = cases[spec.case]
    engine = client or connect()
    image = _loaded(engine, ws, reference)
    with tempfile.TemporaryDirectory(prefix="plinth-app-") as app:
        Path(app).chmod(0o755)
        script = Path(app) / "score.py"
        script.write_bytes((_DATA / f"{spec.case}.py").read_bytes())
        script.chmod(0o644)
        with _container(engine, image, app) as container:
            _checked(container, spec, case, progress)


def _loaded(engine: docker.DockerClient, ws: Workspace, image: ImageReference) -> str:
    """The digest by which the engine has the image."""
    try:
        found = find_loaded(engine, ws.layout, image)
        other = None if found else id_of(engine, image.image_name)
    except (DockerException, requests.RequestException) as error:
        raise EngineError(
            "the engine did not answer", where=image.name, found=str(error)[:500]
        ) from None
    if found is None:
        raise EngineError(
            "the image is not loaded into the engine",
            where=image.name,
            expected=f"{image.manifest.oci}, as built",
            found=f"another image has its name, {image.image_name}: {other}" if other else "",
            remedy=f"load it: doit load:{image.name}",
        )
    return found


@contextlib.contextmanager
def _container(engine: docker.DockerClient, image: str, app: str) -> Iterator[Container]:
    try:
        # Not `run`, which pulls an image that is gone.
        container = engine.containers.create(
            image,
            read_only=True,
            tmpfs={"/tmp": ""},  # noqa: S108 - the container's own, in memory
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            # A host port of None lets the engine choose; the stubs know only numbers.
            ports={_PORT: ("127.0.0.1", None)},  # type: ignore[dict-item]
            volumes={app: {"bind": APP_ROOT, "mode": "ro"}},
        )
    except (DockerException, requests.RequestException) as error:
        raise EngineError(
            "the container cannot be created", where=image, found=str(error)[:500]
        ) from None
    try:
        try:
            container.start()
        except (DockerException, requests.RequestException) as error:
            raise EngineError(
                "the container does not start", where=image, found=str(error)[:500]
            ) from None
        yield container
    finally:
        container.remove(force=True, v=True)


def _checked(
    container: Container, spec: ImageSpec, case: dict[str, Any], progress: Progress
) -> None:
    try:
        url = _url(container)
        _healthy(container, url)
        progress(f"{spec.id}: GET / is healthy")
        user = _inside(container, ["id", "-u"]).strip()
        if user == "0":
            raise EngineError("the container runs as root", expected="dockeruser", found="uid 0")
        progress(f"{spec.id}: runs as uid {user}")
        if spec.imports:
            _inside(container, ["python", "-c", f"import {', '.join(spec.imports)}"])
            progress(f"{spec.id}: imports {', '.join(spec.imports)}")
        answer = requests.post(f"{url}/score", json=case["send"], timeout=60)
        if answer.status_code != 200 or answer.json() != case["expect"]:
            raise EngineError(
                "POST /score answered something else",
                expected=f"200 {case['expect']}",
                found=f"{answer.status_code} {answer.text[:500]}",
            )
        progress(f"{spec.id}: POST /score answered {json.dumps(answer.json())}")
        started = time.monotonic()
        container.stop(timeout=_STOP + 5)
        took = time.monotonic() - started
        if took > _STOP:
            raise EngineError(
                "SIGTERM does not end the container",
                expected=f"an end within {_STOP} s",
                found=f"{took:.1f} s",
            )
        progress(f"{spec.id}: ended on SIGTERM")
    except EngineError as error:
        raise EngineError(
            error.what,
            where=spec.id,
            expected=error.expected,
            found=f"{error.found}\ncontainer log:\n{_log(container)}",
            remedy=error.remedy,
        ) from None
    except (DockerException, requests.RequestException, ValueError) as error:
        raise EngineError(
            "the container did not answer",
            where=spec.id,
            found=f"{error}\ncontainer log:\n{_log(container)}",
        ) from None


def _url(container: Container) -> str:
    container.reload()
    published = container.ports.get(_PORT)
    if not published:
        raise EngineError("the container ended at once", expected=f"{_PORT} published")
    return f"http://127.0.0.1:{published[0]['HostPort']}"


def _healthy(container: Container, url: str) -> None:
    deadline = time.monotonic() + _START
    found = "no answer"
    while time.monotonic() < deadline:
        container.reload()
        if container.status not in ("created", "running"):
            code = container.attrs["State"]["ExitCode"]
            raise EngineError("the container ended", found=f"exit code {code}")
        try:
            answer = requests.get(url, timeout=5)
            found = f"{answer.status_code} {answer.text[:100]}"
            if answer.status_code == 200 and "Healthy" in answer.text:
                return
        except requests.RequestException as error:
            found = type(error).__name__
        time.sleep(0.2)
    raise EngineError(
        "GET / is not healthy", expected=f"200 Healthy within {_START} s", found=found
    )


def _inside(container: Container, command: list[str]) -> str:
    code, output = container.exec_run(command)
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else ""
    if code != 0:
        raise EngineError(f"{' '.join(command)} failed inside", found=text[-2000:])
    return text


def _log(container: Container) -> str:
    try:
        return str(container.logs(tail=_LOG_LINES).decode("utf-8", "replace"))
    except (DockerException, requests.RequestException) as error:
        return f"(not to be had: {error})"
