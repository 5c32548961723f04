"""`plinth push`, `plinth tags`, `plinth pull`: the command lines of publishing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `push`, `tags` and `pull` to the commands."""
    push = verbs.add_parser(
        "push",
        help="push built images and their signatures to a registry, and tag them",
        epilog="exit codes: 0 pushed, and latest names it; 1 something is not so: what is said "
        "names it. Run it again at any time: nothing that is there is sent again.",
    )
    push.add_argument("ids", nargs="+", metavar="ID")
    push.add_argument(
        "--to", default="", metavar="HOST[/PREFIX]", help="where to (default: `publish`)"
    )
    push.add_argument(
        "--mount-from",
        action="append",
        default=[],
        metavar="REPOSITORY",
        help="a repository of the registry that may have blobs already (may be repeated)",
    )
    push.add_argument("--jobs", type=int, default=4, help="blobs at once (default: 4)")
    _believing(push)
    push.set_defaults(run=run_push)

    tags = verbs.add_parser("tags", help="the tags of an image in a registry, and what they hold")
    tags.add_argument("image", metavar="HOST/REPOSITORY")
    tags.add_argument("--json", action="store_true", help="for programs")
    tags.set_defaults(run=run_tags)

    pull = verbs.add_parser(
        "pull", help="pull an image and its signatures into an OCI layout, verified"
    )
    pull.add_argument("reference", metavar="REF", help="HOST/REPOSITORY[:TAG|@DIGEST]")
    pull.add_argument("--layout", required=True, metavar="DIR", help="an OCI layout, or a new one")
    pull.add_argument("--name", default="", help="its name there (default: the image's id)")
    pull.add_argument("--no-verify", action="store_true", help="check digests, and no signature")
    pull.add_argument("--jobs", type=int, default=4, help="layers at once (default: 4)")
    _believing(pull)
    pull.set_defaults(run=run_pull)


def _believing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", default="", metavar="FILE", help="what to insist on (TOML)")
    parser.add_argument(
        "--trust", default="", metavar="TRUST", help="public, embedded, or a client trust config"
    )


def run_push(arguments: argparse.Namespace) -> int:
    """Push what the arguments name."""
    from plinth.commands import images as commands
    from plinth.graph.workspace import Workspace

    commands.push(
        Workspace.find(),
        arguments.ids,
        to=arguments.to,
        policy=arguments.policy,
        trust=arguments.trust,
        mounts=arguments.mount_from,
        jobs=arguments.jobs,
    )
    return 0


def run_tags(arguments: argparse.Namespace) -> int:
    """List tags."""
    from plinth.core import settings as config
    from plinth.publish.registry.listing import list_tags, table
    from plinth.publish.registry.pull import in_registry

    place = in_registry(arguments.image)
    found = list_tags(place, config.load())
    if arguments.json:
        print(json.dumps([tag.to_json() for tag in found], indent=1))
    else:
        print(table(place, found))
    return 0


def run_pull(arguments: argparse.Namespace) -> int:
    """Pull an image."""
    from plinth.core import settings as config
    from plinth.core.lease import adding_from_outside
    from plinth.core.report import to_stderr
    from plinth.evidence.verify.gate import Gate, open_gate
    from plinth.evidence.verify.policy import Policy, in_force
    from plinth.publish.registry.pull import pull_image

    settings = config.load()

    def gate() -> Gate:
        return open_gate(in_force(settings, Policy(trust=arguments.trust), arguments.policy))

    layout = Path(arguments.layout)
    # A checkout's layout lies in its build folder.
    with adding_from_outside(layout.absolute().parent):
        pulled = pull_image(
            arguments.reference,
            layout,
            config=settings,
            gate=None if arguments.no_verify else gate,
            name=arguments.name,
            jobs=arguments.jobs,
            progress=to_stderr,
        )
    state = "not verified" if arguments.no_verify else "verified"
    print(
        f"oci:{arguments.layout}:{pulled.name}: {pulled.digest.oci}, {pulled.bundles} bundles, "
        f"{state}"
    )
    return 0
