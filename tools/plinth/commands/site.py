"""`plinth site`: the command line of the catalogue site."""

from __future__ import annotations

import argparse


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `site` to the commands."""
    parser = verbs.add_parser(
        "site",
        help="make the catalogue site: static pages of all images built",
        epilog="Images are verified on the way where --policy, --trust or the settings say by "
        "whose signatures; else pages say that nothing was verified.",
    )
    parser.add_argument("--out", default="", metavar="DIR", help="where (default: build/site)")
    parser.add_argument("--policy", default="", metavar="FILE", help="as for plinth verify")
    parser.add_argument("--trust", default="", metavar="TRUST", help="as for plinth verify")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the site; returns the exit code."""
    from plinth.commands import images as commands
    from plinth.graph.workspace import Workspace

    commands.site(
        Workspace.find(),
        out=arguments.out,
        policy=arguments.policy,
        trust=arguments.trust,
    )
    return 0
