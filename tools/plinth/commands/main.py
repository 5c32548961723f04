"""The `plinth` command: the same functions as the doit tasks, for people without a task graph."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from plinth import __version__
from plinth.commands import airgap as airgap_cli
from plinth.commands import attach as attest_cli
from plinth.commands import diff as diff_cli
from plinth.commands import images as commands
from plinth.commands import look as look_cli
from plinth.commands import registry as publish_cli
from plinth.commands import site as site_cli
from plinth.commands import trust as trust_cli
from plinth.commands import verify as verify_cli
from plinth.core import utf8
from plinth.core.errors import PlinthError
from plinth.core.remote_settings import DOWNLOADS
from plinth.graph.workspace import Workspace
from plinth.recipe.ids import all_bases, all_images


def command_line() -> argparse.ArgumentParser:
    """The parser of all commands, which docs and shells learn them from, too."""
    parser = argparse.ArgumentParser(
        prog="plinth", description="A reproducible build graph for ML inference images."
    )
    parser.add_argument("--version", action="version", version=f"plinth {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    lock = verbs.add_parser("lock", help="compile hash-pinned lockfiles (no ID: all images)")
    lock.add_argument("ids", nargs="*", metavar="ID")
    lock.add_argument(
        "--upgrade-package", dest="upgrade", action="append", default=[], metavar="NAME"
    )
    base = verbs.add_parser("lock-base", help="lock the bases (no NAME: all)")
    base.add_argument("names", nargs="*", metavar="NAME")
    accelerator = verbs.add_parser("lock-accelerator", help="lock an accelerator set")
    accelerator.add_argument("names", nargs="+", metavar="NAME")
    build = verbs.add_parser("build", help="build images (no ID: all)")
    build.add_argument("ids", nargs="*", metavar="ID")
    build.add_argument("--base", default="", help="insist on this base")
    build.add_argument("--accelerator", default="", help="insist on this set, or cpu")
    build.add_argument("--jobs", type=int, default=0, help="steps at once (default: all CPUs)")
    build.add_argument(
        "--download",
        default="",
        choices=DOWNLOADS,
        help="what a remote cache sends: nothing that is not read, layers of what is built, or "
        "what steps in between made, too (default: the settings')",
    )
    explain = verbs.add_parser("explain", help="what changed, and which layers will be built")
    explain.add_argument("ids", nargs="+", metavar="ID")
    explain.add_argument("--base", default="", help="insist on this base")
    explain.add_argument("--accelerator", default="", help="insist on this set, or cpu")
    explain.add_argument("--json", action="store_true", help="for programs")
    extend = verbs.add_parser("extend", help="derive an image of your own, locked and built")
    extend.add_argument("id", metavar="ID", help="the image to add to")
    extend.add_argument("-r", "--requirements", default="", metavar="FILE")
    extend.add_argument("--apt", dest="packages", action="append", default=[], metavar="PACKAGE")
    extend.add_argument("--name", default="", help="the new image's id (default: ID-extended)")
    extend.add_argument("--base", default="", help="insist on this base")
    for verb, text in (
        ("load", "load built images into the Docker Engine"),
        ("test", "start built images as a user would, and score with them"),
    ):
        verbs.add_parser(verb, help=text).add_argument("ids", nargs="+", metavar="ID")
    catalog = verbs.add_parser("catalog", help="write docs/catalog.md from the images built")
    catalog.add_argument("--check", action="store_true", help="only compare; fail on a difference")
    validate = verbs.add_parser("validate", help="check the OCI layout")
    validate.add_argument("--json", action="store_true", help="for programs")
    sbom = verbs.add_parser("sbom", help="write the SBOM of built images to build/sbom")
    sbom.add_argument("ids", nargs="+", metavar="ID")
    sign = verbs.add_parser("sign", help="sign built images: signature, provenance, SBOM")
    sign.add_argument("ids", nargs="+", metavar="ID")
    sign.add_argument(
        "--trust", default="", help="public, embedded, or the file of a client trust config"
    )
    sign.add_argument(
        "--identity-token", default="", metavar="FILE", help="an OIDC token to sign with (-: stdin)"
    )
    airgap_cli.add_parser(verbs)
    attest_cli.add_parser(verbs)
    verify_cli.add_parser(verbs)
    diff_cli.add_parser(verbs)
    trust_cli.add_parser(verbs)
    publish_cli.add_parser(verbs)
    look_cli.add_parser(verbs)
    site_cli.add_parser(verbs)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    ws = Workspace.find()
    verb = arguments.verb
    if verb == "validate":
        commands.validate(ws, as_json=arguments.json)
    elif verb == "sign":
        commands.sign(ws, arguments.ids, trust=arguments.trust, token=arguments.identity_token)
    elif verb == "catalog":
        commands.catalog(ws, check=arguments.check)
    elif verb == "lock":
        commands.lock(ws, arguments.ids or all_images(ws), upgrade=arguments.upgrade)
    elif verb == "lock-base":
        commands.lock_base(ws, arguments.names or all_bases(ws))
    elif verb == "explain":
        commands.explain(
            ws,
            arguments.ids,
            base=arguments.base,
            accelerator=arguments.accelerator,
            as_json=arguments.json,
        )
    elif verb == "extend":
        commands.extend(
            ws,
            arguments.id,
            arguments.name or f"{arguments.id}-extended",
            requirements=arguments.requirements,
            packages=arguments.packages,
            base=arguments.base,
        )
    elif verb == "lock-accelerator":
        for name in arguments.names:
            commands.lock_accelerator(ws, name)
    else:
        for image in arguments.ids or all_images(ws):
            if verb == "build":
                commands.build(
                    ws,
                    image,
                    base=arguments.base,
                    accelerator=arguments.accelerator,
                    jobs=arguments.jobs,
                    download=arguments.download,
                )
            elif verb == "load":
                commands.load(ws, image)
            elif verb == "sbom":
                commands.sbom(ws, image)
            else:
                commands.test(ws, image)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for an error shown, 2 for wrong usage, 130 for ^C,
    or what the command itself documents."""
    if argv is None:
        utf8.start()
    arguments = command_line().parse_args(argv)
    try:
        if hasattr(arguments, "run"):
            return int(arguments.run(arguments) or 0)
        _run(arguments)
    except PlinthError as error:
        print(f"plinth: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output (head, less) has seen enough; as shells report SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # A full disk, a folder that cannot be written: the system's own words say it best.
        print(f"plinth: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("plinth: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    return 0
