"""The layer with what every image promises the people who run it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from plinth.build.contract_files import ALL_FILES, CONTRACT_TITLE, LINKS, files, folders, source
from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.steps.contract import PULLED


def contract_layer(
    ws: Session, packages: Collection[str], python: str, pulled: Digest | None = None
) -> Layer:
    """The layer with files of base/rootfs and the folders the contract names, for a base of these
    OS packages and this Python ("3.7"). `pulled` is the layer of a base that plinth did not
    assemble, and whose accounts lack the image's user.

    Raises:
        PlinthError: base/rootfs lacks a file, or holds one the contract does not know.
    """
    folder = ws.bases / "rootfs"
    contents = {path: _content(folder, source(path)) for path, _, _ in files(packages, python)}
    known = {folder / path for path in ALL_FILES}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in known:
            raise PlinthError(
                "a file no image would hold",
                where=f"base/rootfs/{path.relative_to(folder).as_posix()}",
                remedy="name it, with mode and owner, in plinth.build.contract_files, or remove it",
            )
    action = Action(
        "contract-layer",
        {path: Digest.of(data) for path, data in contents.items()}
        | ({PULLED: pulled} if pulled is not None else {}),
        {
            "compressor": gzip.COMPRESSOR,
            "folders": [[path, mode, *owner] for path, mode, owner in folders(packages, python)],
            "files": [[path, mode, *owner] for path, mode, owner in files(packages, python)],
            "links": [[path, target, *owner] for path, target, owner in LINKS],
        },
        ("layer", "scan"),
    )

    def keep() -> None:
        for data in contents.values():
            ws.cache.put(data)

    result, hit = run(ws, action, prepare=keep)
    return Layer.of(CONTRACT_TITLE, result, hit=hit)


def _content(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except FileNotFoundError:
        raise PlinthError(
            "a file of the contract is missing", where=f"base/rootfs/{path}"
        ) from None
