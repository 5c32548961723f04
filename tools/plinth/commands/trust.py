"""`plinth trust`: make, serve, export, rotate and look into the embedded trust domain."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.authority.passphrase import _named_passphrase, passphrase_from_environment
from plinth.core.errors import TrustError

if TYPE_CHECKING:  # cryptography and sigstore load only when a verb runs
    from plinth.authority.domain import Domain

_ROLES = ("ca", "log", "ct", "tsa", "oidc")


def _new_passphrase() -> str:
    if (named := _named_passphrase(os.environ)) is not None:
        return named
    if not sys.stdin.isatty():
        raise TrustError(
            "no passphrase to encrypt the keys with",
            remedy="set PLINTH_TRUST_PASSPHRASE_FILE, or run on a terminal",
        )
    first = getpass.getpass("New passphrase: ")
    if getpass.getpass("Again: ") != first:
        raise TrustError("the two passphrases differ", remedy="run the command again")
    return first


def _folder(arguments: argparse.Namespace) -> Path:
    from plinth.authority.domain import default_folder

    return Path(arguments.folder) if arguments.folder else default_folder()


def _open(arguments: argparse.Namespace) -> Domain:
    from plinth.authority.domain import open_domain

    folder = _folder(arguments)
    return open_domain(folder, passphrase_from_environment(folder))


def _init(arguments: argparse.Namespace) -> None:
    from plinth.authority.domain import init_domain

    identity = arguments.identity or f"{getpass.getuser()}@{socket.gethostname()}"
    passphrase = _new_passphrase() if arguments.encrypt else None
    domain = init_domain(_folder(arguments), identity, passphrase)
    print(f"trust domain of {domain.identity} made in {domain.folder}")
    print(f"issuer: {domain.issuer}")
    print("keys: " + ("encrypted" if passphrase else "not encrypted; only you can read them"))
    print("next: plinth trust export, and give trusted_root.json to whoever verifies")


def _serve(arguments: argparse.Namespace) -> None:
    from plinth.authority.files import replace
    from plinth.authority.server import serving

    domain = _open(arguments)
    # Blocked before threads start, so that all of them leave these to sigwait.
    ends = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with serving(domain, arguments.port) as running:
            port = running.url.rpartition(":")[2]
            config = domain.folder / f"client_trust_config-{port}.json"
            replace(config, running.trust_config.encode())
            try:
                option = f" --folder {arguments.folder}" if arguments.folder else ""
                print(f"serving the trust domain of {domain.identity}; ^C ends it")
                print(f"  certificates  {running.url}/api/v2/signingCert")
                print(f"  log           {running.url}/api/v1/log")
                print(f"  time stamps   {running.url}/api/v1/timestamp")
                print(f"  tokens        {running.url}/.well-known/openid-configuration")
                print(f"  trust config  {config}")
                print("sign a file, and verify it:")
                # In the environment, where other users cannot see it as they can in `ps`.
                print(
                    f'  SIGSTORE_IDENTITY_TOKEN="$(plinth trust token{option})"'
                    f" sigstore --trust-config {config} sign FILE"
                )
                print(
                    f"  sigstore --trust-config {config} verify identity"
                    f" --cert-identity {domain.identity} --cert-oidc-issuer {domain.issuer} FILE",
                    flush=True,
                )
                signal.sigwait(ends)
            finally:
                config.unlink(missing_ok=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    print("ended")


def _token(arguments: argparse.Namespace) -> None:
    # Some clients, cosign among them, refuse a token in a file that ends in a newline.
    print(_open(arguments).token(), end="\n" if sys.stdout.isatty() else "")


def _export(arguments: argparse.Namespace) -> None:
    from plinth.authority.domain import read_state
    from plinth.authority.export import exported

    state = read_state(_folder(arguments))
    url = f"http://127.0.0.1:{arguments.port}" if arguments.port else ""
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, data in exported(state, url).items():
        (out / name).write_bytes(data)
        print(f"wrote {out / name}")
    if not url:
        print(
            "no client_trust_config.json and no signing_config.json: name the --port that"
            " `plinth trust serve` will have"
        )


def _rotate(arguments: argparse.Namespace) -> None:
    from plinth.authority.domain import rotate
    from plinth.authority.state import ROLES

    folder = _folder(arguments)
    roles = [role for role in ROLES if role in arguments.roles] or list(ROLES)
    domain = rotate(folder, roles, passphrase_from_environment(folder))
    for role in roles:
        print(f"{role}: key {domain.state.current(role).number} is in use, the one before is gone")
    print("next: plinth trust export; the new trusted_root.json verifies old signatures too")


def _show(arguments: argparse.Namespace) -> None:
    from plinth.authority.domain import read_state
    from plinth.authority.export import described

    folder = _folder(arguments)
    found = described(folder, read_state(folder))
    if arguments.json:
        print(json.dumps(found.document, indent=2))
    else:
        print("\n".join(found.lines))


def _prove(arguments: argparse.Namespace) -> None:
    from plinth.authority.domain import read_state
    from plinth.authority.export import proof

    folder = _folder(arguments)
    state = read_state(folder)
    found = proof(
        folder,
        state,
        arguments.log,
        first=arguments.first,
        second=arguments.second,
        index=arguments.index,
        number=arguments.shard,
    )
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _role(text: str) -> str:
    if text not in _ROLES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_ROLES)}")
    return text


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `trust` and its subcommands; each sets `run`, to be called with the arguments."""
    trust = verbs.add_parser("trust", help="the embedded trust domain: keys, logs and a clock")
    leaves = trust.add_subparsers(dest="trust_verb", required=True, metavar="COMMAND")

    def leaf(name: str, text: str) -> argparse.ArgumentParser:
        parser = leaves.add_parser(name, help=text, description=text)
        parser.add_argument(
            "--folder", default="", help="where the domain lies (default: $PLINTH_TRUST, or yours)"
        )
        return parser

    init = leaf("init", "make a trust domain")
    init.add_argument("--identity", default="", help="an email address or URI (default: you@here)")
    init.add_argument("--encrypt", action="store_true", help="encrypt keys with a passphrase")
    init.set_defaults(run=_init)
    serve = leaf("serve", "serve it on this machine, for any sigstore client, until ^C")
    serve.add_argument("--port", type=int, default=0, help="default: a free one")
    serve.set_defaults(run=_serve)
    token = leaf("token", "print an identity token, good for five minutes")
    token.set_defaults(run=_token)
    export = leaf("export", "write what verifiers need: trusted root, certificates, public keys")
    export.add_argument("--out", default=".", metavar="DIR", help="where to (default: here)")
    export.add_argument("--port", type=int, default=0, help="also what signers need, for this port")
    export.set_defaults(run=_export)
    rotate = leaf("rotate", "replace keys; what was signed stays verifiable")
    rotate.add_argument(
        "roles", nargs="*", type=_role, metavar="KEY", help=f"{', '.join(_ROLES)} (default: all)"
    )
    rotate.set_defaults(run=_rotate)
    show = leaf("show", "identity, keys and logs, every hash recomputed")
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=_show)
    prove = leaf("prove", "a proof for auditors: consistency of two sizes, inclusion of an entry")
    prove.add_argument("--first", type=int, metavar="N", help="the earlier size")
    prove.add_argument("--second", type=int, metavar="M", help="the later size (default: now)")
    prove.add_argument("--index", type=int, metavar="I", help="an entry, to prove its inclusion")
    prove.add_argument("--log", choices=["log", "ct"], default="log", help="which log")
    prove.add_argument("--shard", type=int, default=0, help="which of its trees (default: in use)")
    prove.set_defaults(run=_prove)
