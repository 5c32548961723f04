"""A layer that came from a server, compared with what its result says of it."""

from __future__ import annotations

from pathlib import Path

from plinth.core.errors import IntegrityError, RemoteError
from plinth.core.result import ActionResult
from plinth.formats.layer.blob import plain_digest


def check_layer(path: Path, result: ActionResult, *, where: str) -> None:
    """Compare the tar in the layer blob at `path` with the facts that `result` has of it.

    Raises:
        RemoteError: it is another one, or none.
    """
    expected = int(str(result.info["uncompressed"]))
    try:
        digest = plain_digest(path, expected)
        found = f"{digest.oci}, {digest.size} bytes"
    except IntegrityError as error:
        found = error.what
    wanted = f"sha256:{result.info['diff_id']}, {expected} bytes"
    if found != wanted:
        raise RemoteError(
            "a layer of the remote server is not what its result says",
            where=where,
            expected=wanted,
            found=found,
            remedy="the server's results are damaged or not to be trusted",
        )
