"""`doit site`: the site, written as one folder that replaces the one before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from plinth.core import settings as config
from plinth.core.errors import PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.evidence.verify.gate import open_gate
from plinth.evidence.verify.policy import Policy, in_force
from plinth.evidence.verify.request import Request
from plinth.fetch.sources.source import open_source
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.cache import ContentsCache, workspace_cache
from plinth.publish.site.gather import Verify, gather
from plinth.publish.site.model import Checked
from plinth.publish.site.render import MANIFEST, render


def make_site(
    ws: Workspace, out: Path, *, policy: str = "", trust: str = "", progress: Progress
) -> int:
    """Make the site of all images built in the folder `out`; returns how many files it has.

    Raises:
        PlinthError: as `plinth.publish.site.gather.gather` and `verify_by`; or `out` is a folder
            of something else.
    """
    _check(out)
    cache = workspace_cache(ws)
    verify = verify_by(ws, config.load(), cache, policy=policy, trust=trust)
    files = render(gather(ws, verify=verify, cache=cache, progress=progress))
    write_site(files, out)
    return len(files)


def verify_by(
    ws: Workspace, config: Config, cache: ContentsCache, *, policy: str = "", trust: str = ""
) -> Verify | None:
    """What verifies an image of the layout by `policy` (a file) and `trust`, else by those of the
    settings; None where no root is chosen.

    Raises:
        ProblemsError: as `plinth.evidence.verify.policy.load_policy`.
        AttestationError: as `plinth.evidence.verify.gate.open_gate`.
    """
    chosen = in_force(config, Policy(trust=trust), policy)
    if not chosen.trust and not chosen.trusted_root:
        return None
    gate = open_gate(chosen)

    def verify(image_id: str) -> Checked:
        with open_source(f"oci:{ws.layout.root}:{image_id}", config) as source:
            request = Request(expected=image_id, checkout=ws.root, cache=cache, config=config)
            verdict = gate.verdict(source, request)
        failed = tuple(check.name for check in verdict.checks if not check.passed)
        if not verdict.passed and not failed:
            failed = ("manifest",)
        return Checked(len(verdict.checks), failed, gate.signers.identities, gate.signers.issuer)

    return verify


def _check(out: Path) -> None:
    empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not empty and not (out / MANIFEST).is_file():
        raise PlinthError(
            "this is no site, and would be replaced by one",
            where=str(out),
            expected=f"an empty folder, or one with {MANIFEST}",
            remedy="choose another: --out DIR",
        )


def write_site(files: Mapping[str, bytes], out: Path) -> None:
    """Write `files` as the folder `out`, never half of them; a site that was there is replaced.

    Raises:
        PlinthError: `out` is a folder of something else.
    """
    _check(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        new, old = Path(folder) / "new", Path(folder) / "old"
        for path, data in files.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(data)
        if out.exists():
            out.replace(old)
        new.replace(out)
        shutil.rmtree(old, ignore_errors=True)
