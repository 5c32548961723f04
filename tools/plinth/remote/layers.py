"""A layer that came from a server, compared with what its result says of it."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from isal import igzip

from plinth.digest import CHUNK
from plinth.errors import RemoteError
from plinth.result import ActionResult


def check_layer(path: Path, result: ActionResult, *, where: str) -> None:
    """Compare the tar in the layer blob at `path` with the facts that `result` has of it.

    Raises:
        RemoteError: it is another one, or none.
    """
    hashed, size = hashlib.sha256(), 0
    expected = int(str(result.info["uncompressed"]))
    try:
        with igzip.open(path, "rb") as stream:
            while size <= expected and (chunk := stream.read(CHUNK)):
                hashed.update(chunk)
                size += len(chunk)
        found = f"sha256:{hashed.hexdigest()}, {size} bytes"
    except (OSError, EOFError, zlib.error) as error:
        found = str(error)
    wanted = f"sha256:{result.info['diff_id']}, {expected} bytes"
    if found != wanted:
        raise RemoteError(
            "a layer of the remote server is not what its result says",
            where=where,
            expected=wanted,
            found=found,
            remedy="the server's results are damaged or not to be trusted",
        )
