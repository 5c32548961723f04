"""`plinth verify`: the command line of verification, usable without a checkout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core.errors import AmbiguityError, IntegrityError, PlinthError

if TYPE_CHECKING:
    from plinth.evidence.verify.statements import RawBundle
    from plinth.evidence.verify.verdict import Verdict

_EPILOG = """\
exit codes: 0 every check passed; 1 a check failed; 2 wrong usage; 3 something could not be read
(no such image, no trusted root, no network), so nothing was decided.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `verify` to the commands."""
    parser = verbs.add_parser(
        "verify",
        help="check signatures, provenance, SBOM and every byte of an image",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "references",
        nargs="+",
        metavar="REF",
        help="oci:PATH:NAME, docker-archive:FILE, HOST/REPOSITORY[:TAG|@DIGEST], or in a checkout "
        "an image id",
    )
    parser.add_argument("--policy", default="", metavar="FILE", help="what to insist on (TOML)")
    parser.add_argument(
        "--identity",
        action="append",
        default=[],
        metavar="WHO",
        help="who must have signed, as certificates have it (may be repeated: any of them)",
    )
    parser.add_argument("--issuer", default="", metavar="URL", help="the issuer of the identity")
    parser.add_argument("--trusted-root", default="", metavar="FILE", help="a trusted_root.json")
    parser.add_argument(
        "--trust", default="", metavar="TRUST", help="public, embedded, or a client trust config"
    )
    parser.add_argument(
        "--bundle",
        action="append",
        default=[],
        metavar="PATH",
        help="a bundle, or a folder of *.sigstore.json, beside those attached to the image",
    )
    parser.add_argument(
        "--checkout", default="", metavar="DIR", help="your own specifications and locks"
    )
    parser.add_argument("--image", default="", metavar="ID", help="the image it must be")
    parser.add_argument("--rebuild", action="store_true", help="build it again and compare")
    parser.add_argument(
        "--inputs", default="", metavar="DIR", help="a store with inputs for --rebuild"
    )
    parser.add_argument("--fresh", action="store_true", help="ignore cached layer contents")
    parser.add_argument("--offline", action="store_true", help="ask nobody for the public root")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify what the arguments name; returns the exit code."""
    from plinth.core.errors import plain
    from plinth.evidence.verify.verdict import REJECTED, UNREADABLE, VERIFIED, table

    verdicts: list[Verdict] = []
    failures: list[tuple[str, Exception]] = []
    try:
        verifier = _Verifier(arguments)
    except (PlinthError, OSError) as error:
        print(f"plinth: {error}", file=sys.stderr)
        return UNREADABLE
    for reference in arguments.references:
        try:
            verdicts.append(verifier.verify(reference))
        except (PlinthError, OSError) as error:
            failures.append((reference, error))
            continue
        if not arguments.json:
            print(table(verdicts[-1]), flush=True)
    for reference, failure in failures:
        text = str(failure)
        named = text if text.startswith(reference) else f"{reference}: {text}"
        print("\n".join(map(plain, f"plinth: {named}".split("\n"))), file=sys.stderr)
    if arguments.json:
        print(json.dumps([verdict.to_json() for verdict in verdicts], indent=1))
    if any(not verdict.passed for verdict in verdicts):
        return REJECTED
    # Bytes that are not what names them, or that two readers take for two images, were looked at,
    # and are wrong.
    if any(isinstance(failure, IntegrityError | AmbiguityError) for _, failure in failures):
        return REJECTED
    return UNREADABLE if failures else VERIFIED


class _Verifier:
    """The arguments, read once for all references."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from plinth.core import settings as config
        from plinth.evidence.verify.gate import open_gate
        from plinth.evidence.verify.policy import Policy, in_force

        self._arguments = arguments
        self._config = config.load()
        options = Policy(
            identities=tuple(arguments.identity),
            issuer=arguments.issuer,
            trusted_root=arguments.trusted_root,
            trust=arguments.trust,
        )
        policy = in_force(self._config, options, arguments.policy)
        self._gate = open_gate(policy, offline=arguments.offline)
        if not arguments.json:
            print(f"trusting signatures by {self._gate.shown}", file=sys.stderr)
        self._bundles = tuple(read_bundles(arguments.bundle))

    def verify(self, reference: str) -> Verdict:
        from plinth.commands.named import named
        from plinth.core.report import quiet, to_stderr
        from plinth.core.store import BlobStore
        from plinth.evidence.verify.image import Request
        from plinth.fetch.sources.source import open_source
        from plinth.inspect.contents.read import contents_cache

        arguments = self._arguments
        image = named(reference)
        checkout = Path(arguments.checkout) if arguments.checkout else image.checkout
        inputs = Path(arguments.inputs) if arguments.inputs else image.inputs
        with open_source(image.reference, self._config) as source:
            request = Request(
                expected=arguments.image or image.id or source.asked,
                bundles=self._bundles,
                checkout=checkout,
                cache=None if arguments.fresh else contents_cache(),
                rebuild=arguments.rebuild,
                inputs=BlobStore(inputs) if inputs else None,
                config=self._config,
                progress=quiet if arguments.json else to_stderr,
            )
            return self._gate.verdict(source, request)


def read_bundles(paths: list[str]) -> list[RawBundle]:
    """The bundles in files and folders that somebody named.

    Raises:
        PlinthError: a folder has none, or one is too large.
    """
    from plinth.evidence.verify.statements import RawBundle
    from plinth.formats.oci.referrers import MAX_BUNDLE

    found = []
    for text in paths:
        path = Path(text)
        files = sorted(path.glob("*.sigstore.json")) if path.is_dir() else [path]
        if not files:
            raise PlinthError("no bundle in it", where=text, expected="files *.sigstore.json")
        for file in files:
            if file.stat().st_size > MAX_BUNDLE:
                raise PlinthError("too large for a bundle", where=str(file))
            found.append(RawBundle(str(file), file.read_bytes()))
    return found
