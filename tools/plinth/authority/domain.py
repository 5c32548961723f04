"""A trust domain's folder: made once, opened by whoever signs, its keys rotated.

    domain.json     who it speaks for; every key's public part (see `state`)
    keys/           private keys in use, PKCS#8
    log-1/, ct-1/   the transparency log and the log of certificates (see `log`)
    lock            held while a server runs or keys change

Everything is readable by its owner only.
"""

from __future__ import annotations

import datetime
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plinth.authority import ca, roots
from plinth.authority.ct import CtLog
from plinth.authority.files import (
    check_private,
    locked,
    make_folder,
    replace,
    sync_folder,
    write_new,
)
from plinth.authority.keys import key_id, new_key, read_key, spki, write_key
from plinth.authority.log import Log
from plinth.authority.note import Notary
from plinth.authority.oidc import Issuer
from plinth.authority.recent import Recent
from plinth.authority.rekor import Rekor, Shard
from plinth.authority.state import ROLES, KeyRecord, Role, State
from plinth.authority.tsa import Tsa
from plinth.core.errors import TrustError
from plinth.core.home import user_folder


def now() -> datetime.datetime:
    """The time in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the domain lies: `$PLINTH_TRUST`, else `plinth/trust` in the user's data folder.

    Raises:
        TrustError: there is neither.
    """
    if named := environment.get("PLINTH_TRUST"):
        return Path(named)
    data = user_folder("XDG_DATA_HOME", ".local/share", environment)
    if data is None:
        raise TrustError(
            "there is no folder for a trust domain: this user has no home folder",
            remedy="set PLINTH_TRUST to a folder, or HOME",
        )
    return data / "plinth" / "trust"


@dataclass(frozen=True)
class Domain:
    """An opened trust domain: its folder, what it is, and the keys in use."""

    folder: Path
    state: State
    keys: Mapping[Role, ec.EllipticCurvePrivateKey] = field(repr=False)

    @property
    def identity(self) -> str:
        """The email address or URI that goes into its certificates."""
        return self.state.identity

    @property
    def issuer(self) -> str:
        """The issuer that goes into its certificates; no public issuer can have this name."""
        return self.state.issuer

    @property
    def root(self) -> x509.Certificate:
        """The certificate authority's root in use."""
        return self.state.current("ca").certificates[0]

    def trusted_root(self) -> str:
        """`trusted_root.json`, with keys rotated out and the time each was in use."""
        return roots.trusted_root(self.state)

    def token(self) -> str:
        """A raw OIDC token for the identity, good for five minutes."""
        return self.oidc().token(self.identity, now())

    def oidc(self) -> Issuer:
        """The token issuer."""
        return Issuer(self.issuer, self.keys["oidc"])

    def tsa(self) -> Tsa:
        """The time stamp authority."""
        return Tsa(self.keys["tsa"], self.state.current("tsa").certificates)

    def notary(self, role: Role) -> Notary:
        """Who signs checkpoints of a log (role log or ct)."""
        tree = self.state.current(role).tree_id
        return Notary(roots.host(self.state, role), tree, self.keys[role])

    def log_of(self, record: KeyRecord) -> Log:
        """The log that a key of role log or ct signed for."""
        return Log(self.folder / record.name)

    def ct(self) -> CtLog:
        """The log of certificates."""
        return CtLog(self.log_of(self.state.current("ct")), self.notary("ct"))

    def rekor(self) -> Rekor:
        """The transparency log, opened; every tree of it."""
        *closed, current = [
            Shard(one.tree_id, key_id(one.public), self.log_of(one)) for one in self.state.of("log")
        ]
        return Rekor(current, tuple(closed), self.notary("log"), self.root, Recent(current.log))

    def issue(self, public: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """A certificate for the identity and that key."""
        return ca.issue(
            self.keys["ca"],
            self.root,
            self.ct(),
            public=public,
            identity=self.identity,
            issuer=self.issuer,
            now=now(),
        )


def _make(folder: Path, state: State, role: Role, number: int, passphrase: str | None) -> KeyRecord:
    """A new key of a role in `folder`, with its certificates or its empty log."""
    key, since = new_key(), now().replace(microsecond=0)
    organization = f"plinth trust domain {state.id}"
    certificates: tuple[x509.Certificate, ...] = ()
    tree_id = 0
    if role == "ca":
        certificates = (ca.root_certificate(key, organization, "plinth root", since),)
    elif role == "tsa":
        certificates = ca.timestamping_chain(key, organization, since)
    elif role in ("log", "ct"):
        tree_id = secrets.randbits(62) | 1 << 62
    record = KeyRecord(role, number, since, None, key.public_key(), certificates, tree_id)
    write_key(folder / "keys" / f"{record.name}.pem", key, passphrase)
    if tree_id:
        Log.create(folder / record.name, Notary(roots.host(state, role), tree_id, key).seal)
    return record


def init_domain(folder: Path, identity: str, passphrase: str | None = None) -> Domain:
    """Make a trust domain in a new folder, whole or not at all.

    Args:
        identity: an email address or URI, put into every certificate.
        passphrase: encrypts the private keys.

    Raises:
        TrustError: there is something in the folder already, or the identity or the
            passphrase cannot be used.
    """
    ca.san(identity)
    if passphrase == "":
        raise TrustError("the passphrase is empty", remedy="give one, or leave out --encrypt")
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        part.chmod(0o700)
        make_folder(part / "keys")
        empty = State(secrets.token_hex(8), identity, passphrase is not None, ())
        records = tuple(_make(part, empty, role, 1, passphrase) for role in ROLES)
        state = State(empty.id, identity, empty.encrypted, records)
        write_new(part / "domain.json", state.to_json())
        for inside in (part / "keys", part):
            sync_folder(inside)
        try:
            part.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            raise TrustError(
                "there is something here already",
                where=str(folder),
                expected="no such folder, or an empty one",
                remedy="use it as it is, name another with --folder, or remove it yourself",
            ) from None
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return open_domain(folder, passphrase)


def read_state(folder: Path) -> State:
    """What the domain in `folder` is, without its keys.

    Raises:
        TrustError: there is none, others may read it, or it is damaged.
    """
    path = folder / "domain.json"
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise TrustError(
            "there is no trust domain here",
            where=str(folder),
            remedy="make one: plinth trust init",
        ) from None
    check_private(folder)
    check_private(path)
    return State.from_json(raw, path)


def open_domain(folder: Path, passphrase: str | None = None) -> Domain:
    """Open the trust domain in `folder`.

    Raises:
        TrustError: there is none, its files are damaged or open to others, or the passphrase
            is missing or wrong.
    """
    read_state(folder)
    # A rotation replaces the description and then removes keys; neither half is seen alone.
    with locked(folder / "lock", exclusive=False):
        return _open(folder, passphrase)


def _open(folder: Path, passphrase: str | None) -> Domain:
    state = read_state(folder)
    check_private(folder / "keys")
    keys: dict[Role, ec.EllipticCurvePrivateKey] = {}
    for role in ROLES:
        record = state.current(role)
        path = folder / "keys" / f"{record.name}.pem"
        keys[role] = read_key(path, passphrase)
        if spki(keys[role].public_key()) != spki(record.public):
            raise TrustError(
                "the private key is not the one that the domain's description names",
                where=str(path),
                remedy="restore the folder from a backup",
            )
    return Domain(folder, state, keys)


def rotate(folder: Path, roles: Sequence[Role], passphrase: str | None = None) -> Domain:
    """Give each of `roles` a new key; the old private key is removed.

    A log's new key starts a new tree; the old one keeps its last checkpoint and stays readable.
    What old keys signed is verified with the trusted root exported afterwards.

    Raises:
        TrustError: as `open_domain`; or a server is running on the folder.
    """
    read_state(folder)
    try:
        with locked(folder / "lock", exclusive=True, wait=False):
            domain = _open(folder, passphrase)
            _sweep(folder, domain.state)
            state = domain.state
            for role in roles:
                if role in ("log", "ct"):
                    old = domain.log_of(domain.state.current(role))
                    old.reseal(domain.notary(role).seal)
                number = state.current(role).number + 1
                state = state.rotated(_make(folder, state, role, number, passphrase))
            sync_folder(folder / "keys")
            replace(folder / "domain.json", state.to_json())
            sync_folder(folder)
            _sweep(folder, state)
            return _open(folder, passphrase)
    except BlockingIOError:
        raise TrustError(
            "the trust domain is in use",
            where=str(folder),
            expected="no signing and no `plinth trust serve` while keys change",
            remedy="end what runs, then rotate again",
        ) from None


def _sweep(folder: Path, state: State) -> None:
    """Remove private keys out of use, and what a rotation killed half-way had begun."""
    in_use = {f"{state.current(role).name}.pem" for role in ROLES}
    for path in (folder / "keys").iterdir():
        if path.name not in in_use:
            path.unlink()
    known = {record.name for record in state.records}
    for path in folder.iterdir():
        if path.name.startswith(("log-", "ct-")) and path.name not in known:
            shutil.rmtree(path)
