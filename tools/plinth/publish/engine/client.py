"""Connect to the Docker Engine, or explain why not."""

from __future__ import annotations

import os

import docker
import requests
from docker.errors import DockerException

from plinth.core.errors import EngineError


def connect() -> docker.DockerClient:
    """A client of the engine `DOCKER_HOST` names (default: the local socket) that answers.

    Raises:
        EngineError: none answers.
    """
    host = os.environ.get("DOCKER_HOST", "")
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except (DockerException, requests.RequestException, OSError, ValueError) as error:
        raise EngineError(
            "no Docker Engine answers",
            where=f"DOCKER_HOST={host}" if host else "the local socket",
            found=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
            remedy="start one, or set DOCKER_HOST to one that runs; building needs none",
        ) from None
    return client
