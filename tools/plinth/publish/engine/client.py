"""Connect to the engine, or explain why not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import docker
from docker.context import ContextAPI
from docker.context.config import get_current_context_name

from plinth.core.errors import EngineError
from plinth.core.http import system_reason

_REMEDY = "start one, or set DOCKER_HOST to one that runs; building needs none"


def connect() -> docker.DockerClient:
    """A client of the engine that answers: Docker's, or podman's service. It is found as the
    command `docker` finds it: `DOCKER_HOST`, else the Docker context in use, else the local socket.

    Raises:
        EngineError: none answers, or the context does not exist.
    """
    host = os.environ.get("DOCKER_HOST", "")
    where = f"DOCKER_HOST={host}" if host else "the Docker context in use"
    try:
        if not host:
            name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
            where = "the local socket" if name == "default" else f"the Docker context {name}"
            context = ContextAPI.get_context(name)
            # docker-py would take the local socket instead.
            if context is None:
                raise EngineError(
                    "the Docker context does not exist",
                    where=where,
                    remedy="use one that `docker context ls` lists, or set DOCKER_HOST",
                )
            host = context.Host or ""
        path = host.removeprefix("unix://")
        if path != host and not Path(path).is_socket():
            raise FileNotFoundError(errno.ENOENT, f"there is no socket {path}")
        client = docker.from_env(timeout=120)
        client.ping()
    except EngineError:
        raise
    except Exception as error:  # docker-py raises any kind for a damaged context or a bad address
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise EngineError(
            "no Docker Engine answers",
            where=where,
            found=system_reason(error) or first,
            remedy=_REMEDY,
        ) from None
    return client
