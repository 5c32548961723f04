"""What a server says of an action's outputs, checked before anybody acts on it."""

from __future__ import annotations

from collections.abc import Iterator

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, RemoteError
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import ActionResult


def checked_result(result: ActionResult, *, where: str) -> tuple[Digest, ...]:
    """The digests of every blob that `result` names and does not carry itself.

    Raises:
        RemoteError: a path leaves the action's folder or a file's comes twice, a digest is none, or
            inlined content is not what its digest names.
    """
    paths = [
        item.path
        for items in (
            result.output_files,
            result.output_directories,
            result.output_symlinks,
            result.output_file_symlinks,
            result.output_directory_symlinks,
        )
        for item in items
    ]
    for path in paths:
        if not is_inside(path):
            raise _refused("a path outside of the action's folder", repr(path[:200]), where)
    files = [file.path for file in result.output_files]
    if len(set(files)) != len(files):
        raise _refused("an output twice", ", ".join(sorted(files))[:200], where)
    try:
        return tuple(_digests(result))
    except IntegrityError as error:
        raise _refused(error.what, error.found[:200], where) from None


def is_inside(path: str) -> bool:
    """Whether a path is relative, plain and stays below where it starts."""
    parts = path.split("/")
    return "\0" not in path and not any(part in ("", ".", "..") for part in parts)


def _digests(result: ActionResult) -> Iterator[Digest]:
    for file in result.output_files:
        digest = messages.from_message(file.digest)
        if file.contents:
            _inlined(digest, file.contents)
        else:
            yield digest
    for folder in result.output_directories:
        if folder.HasField("tree_digest"):
            yield messages.from_message(folder.tree_digest)
        if folder.HasField("root_directory_digest"):
            yield messages.from_message(folder.root_directory_digest)
    for raw, named, given in (
        (result.stdout_raw, result.stdout_digest, result.HasField("stdout_digest")),
        (result.stderr_raw, result.stderr_digest, result.HasField("stderr_digest")),
    ):
        if given and named.hash:
            digest = messages.from_message(named)
            if raw:
                _inlined(digest, raw)
            else:
                yield digest


def _inlined(digest: Digest, content: bytes) -> None:
    found = Digest.of(content)
    if found != digest:
        raise IntegrityError(
            "inlined content that its digest does not name", found=f"{found.oci}, not {digest.oci}"
        )


def _refused(what: str, found: str, where: str) -> RemoteError:
    return RemoteError(f"the remote server's result names {what}", where=where, found=found)
