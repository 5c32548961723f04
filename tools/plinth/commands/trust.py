"""Verbs of the embedded trust domain: make, serve, export, rotate and show it."""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from plinth.authority.passphrase import _named_passphrase, passphrase_from_environment
from plinth.core.errors import TrustError

if TYPE_CHECKING:  # cryptography and sigstore load only when a verb runs
    from plinth.authority.domain import Domain


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


def _folder(named: str) -> Path:
    from plinth.authority.domain import default_folder

    return Path(named) if named else default_folder()


def _open(named: str) -> Domain:
    from plinth.authority.domain import open_domain

    folder = _folder(named)
    return open_domain(folder, passphrase_from_environment(folder))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # No passwd entry, and no variable has a name.
        return f"uid-{os.getuid()}"


def init(*, folder: str, identity: str, encrypt: bool) -> None:
    """Make a trust domain."""
    from plinth.authority.domain import init_domain

    who = identity or f"{_user()}@{socket.gethostname()}"
    passphrase = _new_passphrase() if encrypt else None
    domain = init_domain(_folder(folder), who, passphrase)
    print(f"trust domain of {domain.identity} made in {domain.folder}")
    print(f"issuer: {domain.issuer}")
    print("keys: " + ("encrypted" if passphrase else "not encrypted; only you can read them"))
    print("next: plinth trust export, and give trusted_root.json to whoever verifies")


def serve(*, folder: str, port: int) -> None:
    """Serve the domain on this machine until SIGINT or SIGTERM."""
    from plinth.authority.files import replace
    from plinth.authority.server import serving

    domain = _open(folder)
    # Blocked before threads start, so that all of them leave these to sigwait.
    ends = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with serving(domain, port) as running:
            config = domain.folder / f"client_trust_config-{running.url.rpartition(':')[2]}.json"
            replace(config, running.trust_config.encode())
            try:
                option = f" --folder {folder}" if folder else ""
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


def token(*, folder: str) -> None:
    """Print an identity token."""
    # Some clients, cosign among them, refuse a token in a file that ends in a newline.
    print(_open(folder).token(), end="\n" if sys.stdout.isatty() else "")


def export(*, folder: str, out: str, port: int) -> None:
    """Write what verifiers need, and for a `port` what signers need, into the folder `out`."""
    from plinth.authority.domain import read_state
    from plinth.authority.export import exported

    state = read_state(_folder(folder))
    url = f"http://127.0.0.1:{port}" if port else ""
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, data in exported(state, url).items():
        path = Path(out, name)
        path.write_bytes(data)
        print(f"wrote {path}")
    if not url:
        print(
            "that is all that verifiers need; signers with other tools also need"
            " client_trust_config.json and signing_config.json: --port PORT writes them, for"
            " `plinth trust serve --port PORT`"
        )


def rotate(*, folder: str, roles: Sequence[str]) -> None:
    """Replace the keys of `roles` (default: all)."""
    from plinth.authority.domain import rotate as rotate_keys
    from plinth.authority.state import ROLES

    place = _folder(folder)
    chosen = [role for role in ROLES if role in roles] or list(ROLES)
    domain = rotate_keys(place, chosen, passphrase_from_environment(place))
    for role in chosen:
        print(f"{role}: key {domain.state.current(role).number} is in use, the one before is gone")
    print("next: plinth trust export; the new trusted_root.json verifies old signatures too")


def show(*, folder: str, as_json: bool) -> None:
    """Show identity, keys and logs, every hash recomputed."""
    from plinth.authority.domain import read_state
    from plinth.authority.export import described

    place = _folder(folder)
    found = described(place, read_state(place))
    if as_json:
        print(json.dumps(found.document, indent=2))
    else:
        print("\n".join(found.lines))


def prove(
    *,
    folder: str,
    first: int | None,
    second: int | None,
    index: int | None,
    log: Literal["log", "ct"],
    shard: int,
) -> None:
    """Print a proof of consistency or inclusion."""
    from plinth.authority.domain import read_state
    from plinth.authority.export import proof

    place = _folder(folder)
    state = read_state(place)
    found = proof(place, state, log, first=first, second=second, index=index, number=shard)
    print(json.dumps(found, indent=2, ensure_ascii=False))
