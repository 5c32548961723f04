"""Verifying and signing the catalogue, against hashing each image's blobs once in the same run.

    python tests/bench/verify.py

Wants the images built in this checkout. Works on hard links of them, with a trust domain of its
own. Best of some rounds, interleaved.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from plinth.core.digest import CHUNK  # noqa: E402
from plinth.core.settings import Config  # noqa: E402
from plinth.evidence.sign import prepare  # noqa: E402
from plinth.formats.oci.documents import descriptor  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.inspect.contents.cache import ContentsCache  # noqa: E402
from plinth.recipe.ids import all_images  # noqa: E402
from support.forge import IDENTITY, Copy, Judge, forging, link_tree  # noqa: E402
from support.sessions import session_of  # noqa: E402

ROUNDS = 5


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def hash_blobs(copy: Copy) -> None:
    """What any verifier must do: each blob of the image, hashed once, one after the other."""
    manifest = copy.manifest()
    for entry in (manifest["config"], *manifest["layers"]):
        state = hashlib.sha256()
        with copy.store.path(descriptor(entry, "the manifest")).open("rb") as stream:
            while chunk := stream.read(CHUNK):
                state.update(chunk)
        assert state.hexdigest() == descriptor(entry, "the manifest").hex


def main() -> None:
    ids = all_images(Workspace(ROOT, ROOT / "build"))
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "build") as name,
        forging(Path(name) / "trust", IDENTITY) as forger,
    ):
        build = Path(name) / "build"
        for part in ("oci", "cache/actions", "cache/blobs", "cache/images"):
            link_tree(ROOT / "build" / part, build / part)
        ws = Workspace(ROOT, build)
        prepared = [prepare(session_of(ws), image, Config()) for image in ids]
        first = timed(lambda: forger.sign(prepared[0].statements[0][1]))
        signing = min(
            timed(lambda: [forger.sign(data) for one in prepared for _, data in one.statements])
            for _ in range(ROUNDS)
        )
        preparing = timed(lambda: [prepare(session_of(ws), image, Config()) for image in ids])
        copies = [Copy(ws.layout.root, image) for image in ids]
        for copy, one in zip(copies, prepared, strict=True):
            copy.attach({kind: forger.sign(data) for kind, data in one.statements})
        known = Judge(forger.believed, forger.domain.issuer, ContentsCache(Path(name) / "known"))
        print("| image | hash once | verify, layers known | ratio | verify, first time | ratio |")
        print("|---|---|---|---|---|---|")
        totals = [0.0, 0.0, 0.0]
        for copy in copies:
            assert known.problems(copy) == []
            rounds = [
                (timed(lambda: hash_blobs(copy)), timed(lambda: known.verdict(copy)))  # noqa: B023
                for _ in range(ROUNDS)
            ]
            plain, seen = (min(column) for column in zip(*rounds, strict=True))
            fresh = Judge(
                forger.believed,
                forger.domain.issuer,
                ContentsCache(Path(name) / f"fresh-{copy.name}"),
            )
            new = timed(lambda: fresh.verdict(copy))  # noqa: B023
            print(
                f"| {copy.name} | {plain:.3f} s | {seen:.3f} s | {seen / plain:.2f} | "
                f"{new:.2f} s | {new / plain:.1f} |",
                flush=True,
            )
            totals = [a + b for a, b in zip(totals, (plain, seen, new), strict=True)]
        plain, seen, new = totals
        print(
            f"| all | {plain:.3f} s | {seen:.3f} s | {seen / plain:.2f} | {new:.2f} s | "
            f"{new / plain:.1f} |"
        )
    count = len(ids) * len(prepared[0].statements)
    print(
        f"\nsigning {count} statements of {len(ids)} images: {signing:.3f} s "
        f"({1000 * signing / count:.1f} ms each; the first of all {1000 * first:.0f} ms); "
        f"preparing them, SBOMs known: {preparing:.3f} s"
    )


if __name__ == "__main__":
    main()
