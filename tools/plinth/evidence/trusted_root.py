"""Which root is believed: chosen by name, read as bytes, parsed by who verifies."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plinth.core.errors import AttestationError
from plinth.core.settings import EMBEDDED, PUBLIC
from plinth.formats.oci.strict import loads

# Libraries warn on standard error where nobody listens; what matters of it is an error here.
for _name in ("sigstore", "tuf", "securesystemslib"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

MAX_ROOT = 1 << 20
"""The largest trusted root or client trust config (bytes)."""

CHOICES = (
    "--trust TRUST (with doit: trust=TRUST), or `trust` in the settings, where TRUST is one of\n"
    "public: Sigstore's own\n"
    "embedded: a trust domain on this machine; plinth trust init makes one\n"
    "FILE: the client trust config of a private instance"
)
_POLICY = (
    "`trusted-root` in a policy: --policy FILE, or `policy` in the settings; for plinth verify "
    "also --trusted-root FILE; or "
)


@dataclass(frozen=True)
class Root:
    """A root as it was found: `shown` names it for people, `data` is its JSON, `path` the file it
    is in, if any; `client` is whether that is a client trust config. `identity` and `issuer` are
    as in `plinth.evidence.choice.Believed`."""

    shown: str
    data: bytes
    path: str = ""
    client: bool = False
    identity: str = ""
    issuer: str = ""


def chosen(choice: str, *, trusted_root: str = "", offline: bool = False) -> Root:
    """What `choice` says to believe; `trusted_root`, a file, comes before it. `offline` takes the
    public root as it was last seen, without asking.

    Raises:
        AttestationError: nothing is chosen, or what is chosen is no JSON in which every reader
            finds the same, or not there.
    """
    if trusted_root:
        return read_root(Path(trusted_root))
    if choice == EMBEDDED:
        from plinth.authority.domain import default_folder, read_state
        from plinth.authority.roots import trusted_root as root_of

        # Believing takes no private key, so none is opened.
        state = read_state(default_folder())
        shown = f"the embedded trust domain {default_folder()}"
        data = root_of(state).encode()
        return Root(shown, data, identity=state.identity, issuer=state.issuer)
    if choice == PUBLIC:
        from sigstore.errors import Error as SigstoreError
        from sigstore.models import ClientTrustConfig

        try:
            # The library has no other way to what its TUF client holds.
            model = ClientTrustConfig.production(offline=offline)._inner.trusted_root
        except SigstoreError as error:
            raise AttestationError(
                "the public Sigstore's trusted root is not available",
                found=told(error),
                remedy="give it as a file: --trusted-root",
            ) from None
        return Root("the public Sigstore", model.to_json().encode())
    return read_client(choice, "verify")


def read_root(path: Path) -> Root:
    """The root in the file `path`.

    Raises:
        AttestationError: as `chosen`.
    """
    with usable(str(path), client=False):
        return Root(f"the trusted root {path}", _read(path), str(path))


def read_client(choice: str, verb: str) -> Root:
    """The client trust config that is chosen by its file, for `verb` (sign or verify).

    Raises:
        AttestationError: as `chosen`.
    """
    if not choice:
        raise AttestationError(
            "no trusted root was given" if verb == "verify" else "no trust was given to sign with",
            remedy=(_POLICY if verb == "verify" else "") + CHOICES,
        )
    path = Path(choice)
    if not path.is_file():
        raise AttestationError("no such trust", where=choice, remedy=CHOICES)
    with usable(str(path), client=True):
        return Root(f"the instance of {path}", _read(path), str(path), client=True)


@contextlib.contextmanager
def usable(where: str, *, client: bool) -> Iterator[None]:
    """Reading and parsing what is to be a trusted root, or a `client` trust config.

    Raises:
        AttestationError: it is none.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise AttestationError(
            f"not a {'client trust config' if client else 'trusted root'} that can be used",
            where=where,
            expected="JSON of media type application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
            if client
            else "a trusted_root.json, as `plinth trust export` or Sigstore's TUF repository have "
            "it",
            found=told(error),
        ) from None


def _read(path: Path) -> bytes:
    """The JSON in a file, in which every reader finds the same: the library takes the last of two
    keys."""
    with path.open("rb") as stream:
        data = stream.read(MAX_ROOT + 1)
    if len(data) > MAX_ROOT:
        raise ValueError(f"larger than {MAX_ROOT} bytes")
    loads(data)
    return data


def told(error: BaseException) -> str:
    """What a library's error says, without the advice it has for its own users."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
