"""`plinth attach`: the command line of taking an image's bundles to a registry."""

from __future__ import annotations

import argparse


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `attach` to the commands."""
    parser = verbs.add_parser(
        "attach", help="attach an image's bundles to the same image in a registry"
    )
    parser.add_argument("image", metavar="ID", help="a signed image: its id, or oci:PATH:NAME")
    parser.add_argument("target", metavar="REF", help="HOST/REPOSITORY[:TAG|@DIGEST]")
    parser.add_argument(
        "--bundle",
        action="append",
        default=[],
        metavar="PATH",
        help="a bundle, or a folder of *.sigstore.json, instead of those attached to the image",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Attach what the arguments name, and say where it is now.

    Raises:
        PlinthError: as `plinth.publish.registry.attach.attach`.
    """
    from plinth.commands.named import named
    from plinth.commands.verify import read_bundles
    from plinth.core import settings as config
    from plinth.fetch.sources.source import open_source
    from plinth.publish.registry.attach import attach

    reference = named(arguments.image).reference
    settings = config.load()
    with open_source(reference, settings) as source:
        done = attach(source, arguments.target, read_bundles(arguments.bundle), settings)
    print(f"attached to {done.place}")
    for name, digest in done.bundles:
        print(f"  {name:<10}  {digest.oci}")
    if done.listed:
        print(f"listed under the tag {done.listed}: the registry has no referrers API")
    else:
        print("listed by the registry's referrers API")
