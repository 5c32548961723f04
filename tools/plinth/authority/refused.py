"""The error by which a service turns a request down."""

from __future__ import annotations


class RefusedError(Exception):
    """A request that is not granted: the HTTP status and a sentence saying why."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)
