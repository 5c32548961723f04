"""Bringing packages of one's own into the store: from the checkout, or a commit of a repository."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from plinth.core import stopping
from plinth.core.digest import Digest, Json
from plinth.core.errors import FetchError, IntegrityError, Problem, SpecError, WheelError
from plinth.core.report import Progress
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.sdist_writer import sdist_name, write_sdist
from plinth.graph.workspace import Workspace
from plinth.recipe.asked.local import OwnFile, key_of, named, packed, read_recorded, recorded_as
from plinth.recipe.asked.model import Local
from plinth.recipe.image import ImageSpec

_SECONDS = 600
_ENTRY = re.compile(r"(\d{6}) (\w+) ([0-9a-f]+)\t(.*)", re.DOTALL)


def bring_own(ws: Workspace, spec: ImageSpec, names: Iterable[str], progress: Progress) -> None:
    """Put into the store those files of `spec`'s own packages `names` that are not there.

    Raises:
        FetchError: one is neither in the checkout nor to be fetched.
        IntegrityError: it is not what the lock names.
        WheelError: it is malformed or hostile.
    """
    wanted = set(names)
    for local in spec.inputs.local:
        own = next((one for one in spec.own.values() if one.key == key_of(local)), None)
        if own is None or own.name not in wanted or ws.cache.has(own.digest):
            continue
        if local.git:
            found = fetch_commit(ws, local, progress)
            if found[1] != own.digest:
                raise IntegrityError(
                    "the commit gives another source than is locked",
                    where=f"{own.name} {own.version}",
                    expected=own.digest.oci,
                    found=found[1].oci,
                    remedy=f"lock again: doit lock:{spec.id}",
                )
            continue
        _from_checkout(ws, spec, local, own)


def _from_checkout(ws: Workspace, spec: ImageSpec, local: Local, own: OwnFile) -> None:
    if own.path is None:
        raise FetchError(
            f"{own.filename} is neither in the store nor in the checkout",
            where=f"images/{spec.id}.toml: python.local",
            expected=local.path,
            remedy=f"put it back, or lock again without it: doit lock:{spec.id}",
        )
    if own.path.is_dir():
        ws.cache.put(packed(own.path, local)[1])
        return

    def check(path: Path) -> None:
        if own.filename.endswith(".whl"):
            admit(path, own.filename, own.name, own.version)

    ws.cache.put_file(own.path, own.digest, admit=check)


def fetch_commits(
    ws: Workspace, spec: ImageSpec, recorded: Mapping[str, Json], progress: Progress
) -> dict[str, Json]:
    """What a lock of `spec` records of the commits that it names, by key: as an earlier one has it
    `recorded`, if that source is in the store, else as it is fetched now.

    Raises:
        PlinthError: as `fetch_commit`.
    """
    found: dict[str, Json] = {}
    for local in spec.inputs.local:
        if not local.git:
            continue
        key = key_of(local)
        known = read_recorded(recorded.get(key))
        if known is None or not ws.cache.has(known[1]):
            known = fetch_commit(ws, local, progress)
        found[key] = recorded_as(*known)
    return found


def fetch_commit(ws: Workspace, local: Local, progress: Progress) -> tuple[str, Digest]:
    """The source of a commit, as an sdist in the store: its file name and digest.

    Raises:
        FetchError: git or the repository is not available, or has no such commit.
        WheelError: it holds links or submodules, or is too large.
        SpecError: it states no name and version.
    """
    progress(f"fetching commit {local.commit[:12]} of {local.name}")
    with tempfile.TemporaryDirectory(prefix="plinth-git-") as name:
        folder = Path(name)
        _git(folder, "init", "--quiet", "--bare", ".")
        fetch = ("fetch", "--quiet", "--no-tags")
        try:
            _git(folder, *fetch, "--depth=1", "--", local.git, local.commit)
        except FetchError:
            # Not every server gives a commit that no branch or tag names: take all of those.
            _git(folder, *fetch, "--", local.git, "+refs/*:refs/all/*")
        files = dict(_files(folder, local))
    try:
        project, version = named(local, lambda: files.get("pyproject.toml", (b"", False))[0])
    except ValueError as error:
        where = f"{local.name} at {local.commit[:12]}"
        raise SpecError(where, [Problem("", str(error))]) from None
    filename = sdist_name(project, version)
    return filename, ws.cache.put(write_sdist(files, filename))


def _files(folder: Path, local: Local) -> Iterator[tuple[str, tuple[bytes, bool]]]:
    listed = _git(folder, "ls-tree", "-r", "-z", "--full-tree", f"{local.commit}^{{commit}}")
    entries = []
    for line in filter(None, listed.decode("utf-8", "surrogateescape").split("\0")):
        match = _ENTRY.fullmatch(line)
        if match is None or match[1] not in ("100644", "100755"):
            path = match[4] if match else line
            raise WheelError(
                "a link or submodule, which no local source may have",
                where=f"{local.name} at {local.commit[:12]}: {path}",
            )
        entries.append((match[3], match[4], match[1] == "100755"))
    asked = "".join(f"{blob}\n" for blob, _, _ in entries).encode()
    data = _git(folder, "cat-file", "--batch", given=asked)
    at = 0
    for _, path, program in entries:
        end = data.index(b"\n", at)
        size = int(data[at:end].split()[2])
        yield path, (data[end + 1 : end + 1 + size], program)
        at = end + size + 2


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the session that `process` leads. Once that was waited for, its number may be another's,
    and its pipes have no writer left."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        process = subprocess.Popen(
            ["git", "-c", "protocol.ext.allow=never", *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Nobody is there to be asked for a password.
            env={**kept, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"},
            # Its own programs for networks outlive it, with its pipes, unless ended as well.
            start_new_session=True,
        )
        with process:
            try:
                with stopping.undone_by(partial(_end, process)):
                    output, said = process.communicate(given, _SECONDS)
            finally:
                _end(process)
        stopping.check()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(
            f"git cannot be run: {error}", where=" ".join(arguments[:1]), remedy="install git"
        ) from None
    if process.returncode:
        raise FetchError(
            f"git {arguments[0]} failed",
            found=said.decode("utf-8", "replace")[-1000:].strip(),
            remedy="check the repository's URL, the commit, and your access to it",
        )
    return output
