"""A layer that came from a server, compared with what its result says of it."""

from __future__ import annotations

from pathlib import Path

from plinth.core.errors import IntegrityError, LayoutError, RemoteError
from plinth.core.result import ActionResult
from plinth.formats.gunzip import plain_digest
from plinth.formats.layer.with_toc import stored_toc


def _toc(path: Path) -> str:
    try:
        return f"a table of contents {stored_toc(path).oci}"
    except LayoutError as error:
        return error.what


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
    if found == wanted and "toc" in result.info:
        wanted = f"a table of contents sha256:{result.info['toc']}"
        found = _toc(path)
    if found != wanted:
        raise RemoteError(
            "a layer of the remote server is not what its result says",
            where=where,
            expected=wanted,
            found=found,
            remedy="the server's results are damaged or not to be trusted",
        )
