"""The verb verify: every check of images, usable without a checkout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.commands.reference import bring, locked_files, named, read_bundles
from plinth.core import settings as config
from plinth.core.errors import AmbiguityError, AttestationError, IntegrityError, PlinthError, plain
from plinth.core.report import quiet, working

if TYPE_CHECKING:
    from plinth.evidence.verify.verdict import Verdict


def verify(
    *,
    references: Sequence[str],
    policy: str,
    identity: Sequence[str],
    issuer: str,
    trusted_root: str,
    trust: str,
    bundle: Sequence[str],
    checkout: str,
    image: str,
    platform: str,
    rebuild: bool,
    inputs: str,
    fresh: bool,
    offline: bool,
    as_json: bool,
) -> int:
    """Verify the images `references` and show the verdicts; returns the exit code."""
    from plinth.evidence.verify.gate import open_gate
    from plinth.evidence.verify.policy import Policy, in_force
    from plinth.evidence.verify.request import Request
    from plinth.evidence.verify.verdict import REJECTED, UNREADABLE, VERIFIED, table
    from plinth.fetch.interpreter import own_interpreters
    from plinth.fetch.sources.source import open_source
    from plinth.inspect.contents.cache import contents_cache

    verdicts: list[Verdict] = []
    failures: list[tuple[str, Exception]] = []
    try:
        settings = config.load()
        options = Policy(tuple(identity), issuer, trusted_root, trust)
        gate = open_gate(in_force(settings, options, policy), offline=offline, later=True)
        if not as_json:
            print(f"trusting signatures by {gate.shown}", file=sys.stderr)
        only = tuple(one for one in bundle if one.startswith("sha256:"))
        bundles = tuple(read_bundles([one for one in bundle if one not in only]))
    except (PlinthError, OSError) as error:
        print(f"plinth: {error}", file=sys.stderr)
        return UNREADABLE
    for reference in references:
        try:
            if reference.endswith(".whl"):
                from plinth.evidence.verify.wheel import verify_wheel

                images = ("--image", image), ("--checkout", checkout), ("--inputs", inputs)
                odd = [name for name, value in (*images, ("--rebuild", rebuild)) if value]
                if odd:
                    raise PlinthError(
                        "of a wheel only signatures are checked",
                        where=reference,
                        found=", ".join(odd),
                        remedy="leave these out; plinth self makes the wheel again, to compare",
                    )
                wheel = Path(reference)
                if not wheel.is_file():
                    raise PlinthError("there is no such file", where=reference)
                beside = wheel.parent.glob(f"{escape(wheel.name)}.*.json")
                given = bundles or tuple(read_bundles(sorted(p for p in beside if p.is_file())))
                verdicts.append(verify_wheel(wheel, given, gate.verifier, gate.policy))
                if not as_json:
                    print(table(verdicts[-1]), flush=True)
                continue
            one = named(reference)
            if one.ws:
                bring(one.ws, [one.id])
            shown = nullcontext(quiet) if as_json else working(f"verifying {reference}")
            with shown as progress, open_source(one.reference, settings, platform) as source:
                request = Request(
                    expected=image or one.id or source.asked,
                    platform=platform,
                    bundles=bundles,
                    only=only,
                    checkout=Path(checkout) if checkout else one.ws.root if one.ws else None,
                    cache=None if fresh else contents_cache(),
                    interpreters=own_interpreters(settings),
                    rebuild=rebuild,
                    inputs=locked_files(inputs, one),
                    config=settings,
                    progress=progress,
                )
                verdicts.append(gate.verdict(source, request))
        except AttestationError as error:
            # Of no bundle, whose errors are in the verdict: a root cannot be used.
            print(f"plinth: {error}", file=sys.stderr)
            return UNREADABLE
        except (PlinthError, OSError) as error:
            failures.append((reference, error))
            continue
        if not as_json:
            print(table(verdicts[-1]), flush=True)
    for reference, failure in failures:
        text = str(failure)
        place = text if text.startswith(reference) else f"{reference}: {text}"
        print("\n".join(map(plain, f"plinth: {place}".split("\n"))), file=sys.stderr)
    if as_json:
        print(json.dumps([verdict.to_json() for verdict in verdicts], indent=1))
    if any(not verdict.passed for verdict in verdicts):
        return REJECTED
    # Bytes that are not what names them, or that two readers take for two images, were read, and
    # are wrong.
    if any(isinstance(failure, IntegrityError | AmbiguityError) for _, failure in failures):
        return REJECTED
    return UNREADABLE if failures else VERIFIED
