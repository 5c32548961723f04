"""What a verifier insists on: who signed, by which root, and what the provenance must say."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli

from plinth.authority import HOSTS
from plinth.core.errors import Problem, ProblemsError
from plinth.core.settings import EMBEDDED, PUBLIC, Config

WANTED = ("builder", "source", "commit", "ref", "runner", "trigger")
"""What a policy may want of the build, each by a value of its own."""

MAX_POLICY = 1 << 20
"""The largest policy file (bytes)."""

_TEXTS = ("trusted-root", "trust", "issuer", *WANTED)
_EMPTY = "it is empty, which nothing can be held against; leave the key out to insist on nothing"
_OTHERS = ("identity", "require-clean", "certified", "rebuilders", "rebuilder-identities")


@dataclass(frozen=True)
class Signers:
    """Who may have signed: any of `identities`, vouched for by `issuer` (empty: by anybody the
    root believes)."""

    identities: tuple[str, ...]
    issuer: str = ""


@dataclass(frozen=True)
class NamedRebuilder:
    """Somebody whose word for a rebuild counts: `identity`, vouched for by `issuer`, by the root
    in the file `trusted_root` (empty: by the root that the image's signer is verified by)."""

    identity: str
    issuer: str
    trusted_root: str = ""


@dataclass(frozen=True)
class Policy:
    """What is insisted on; an empty field insists on nothing, but an identity must come from
    somewhere.

    identities: who may have signed, each exactly as certificates have it (an e-mail address or a
        URI); one of them is enough. issuer: who vouched for them.
    trusted_root: path of a trusted_root.json; trust: as in `plinth.evidence.trusted_root`.
    builder: the builder's id. source: the repository's URI. commit: its object name. These are
        taken from the certificate where it has them, else from the provenance. ref, runner and
        trigger are in certificates alone. See `plinth.evidence.verify.certificate`.
    certified: those of them that the certificate must have.
    require_clean: refuse provenance that names no commit, or was made from a changed tree.
    rebuilders: how many of those in `rebuilder_identities` must have built it again.
    """

    identities: tuple[str, ...] = ()
    issuer: str = ""
    trusted_root: str = ""
    trust: str = ""
    builder: str = ""
    source: str = ""
    require_clean: bool = False
    commit: str = ""
    ref: str = ""
    runner: str = ""
    trigger: str = ""
    certified: tuple[str, ...] = ()
    rebuilders: int = 0
    rebuilder_identities: tuple[NamedRebuilder, ...] = ()

    def over(self, below: Policy) -> Policy:
        """This policy where it says something, else `below`. A root chosen in any form here puts
        out what `below` says of roots."""
        said: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.trusted_root or self.trust:
            below = replace(below, trusted_root="", trust="")
        if self.identities:
            below = replace(below, identities=())
        return replace(below, **{name: value for name, value in said.items() if value})


def in_force(config: Config, options: Policy, path: str = "") -> Policy:
    """The policy of a command: its `options`, then those of the file `path` (else of the settings'
    own policy file), then the settings' trust.

    Raises:
        ProblemsError: as `load_policy`.
    """
    path = path or config.policy
    if path:
        options = options.over(load_policy(Path(path)))
    return options.over(Policy(trust=config.trust))


def load_policy(path: Path) -> Policy:
    """The policy in the TOML file `path`; a relative trusted-root is beside that file, and so is
    a trust that is a file.

    Raises:
        ProblemsError: it cannot be read, or has unknown or mistyped keys.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_POLICY + 1)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
        raise ProblemsError(str(path), [Problem("", problem)]) from None
    return parse_policy(data, path)


def parse_policy(data: bytes, path: Path) -> Policy:
    """The policy in `data`, which is, or would be, that of the file `path`; see `load_policy`.

    Raises:
        ProblemsError: it is none, or has unknown or mistyped keys.
    """
    if len(data) > MAX_POLICY:
        raise ProblemsError(str(path), [Problem("", f"larger than {MAX_POLICY} bytes")])
    try:
        document = tomli.loads(data.decode("utf-8"))
    # Its reader's own error, and what long numbers and arrays deep in each other raise in it.
    except (ValueError, RecursionError) as error:
        raise ProblemsError(str(path), [Problem("", str(error))]) from None
    problems: list[Problem] = []
    stated = "identity" in document
    identity = document.pop("identity", [])
    identities = [identity] if isinstance(identity, str) else identity
    if not isinstance(identities, list) or not all(isinstance(one, str) for one in identities):
        problems.append(Problem("identity", "expected a text, or an array of texts"))
        identities = []
    elif stated and not all(identities or [""]):
        problems.append(Problem("identity", _EMPTY))
    clean = document.pop("require-clean", False)
    if not isinstance(clean, bool):
        problems.append(Problem("require-clean", f"expected true or false, found {clean!r}"))
    for key in ("certified", "rebuilder-identities"):
        if document.get(key) == []:
            problems.append(Problem(key, _EMPTY))
    if "trusted-root" in document and "trust" in document:
        problems.append(Problem("trust", "there is a trusted-root as well; which of them counts?"))
    certified = document.pop("certified", [])
    if not isinstance(certified, list) or not all(one in WANTED for one in certified):
        expected = f"expected an array of {', '.join(WANTED)}"
        problems.append(Problem("certified", f"{expected}, found {certified!r}"))
        certified = []
    named = list(_rebuilders(document.pop("rebuilder-identities", []), path, problems))
    stated = "rebuilders" in document
    wanted = document.pop("rebuilders", 0)
    most = len({one.identity for one in named})
    if named and not stated:
        problems.append(Problem("rebuilders", "missing: how many of rebuilder-identities?"))
    elif stated and (type(wanted) is not int or not 1 <= wanted <= most):
        message = f"expected a number from 1 up to that of rebuilder-identities, {most}"
        problems.append(Problem("rebuilders", f"{message}; found {wanted!r}"))
    for key, value in document.items():
        if key not in _TEXTS:
            known = ", ".join((*_OTHERS, *_TEXTS))
            problems.append(Problem(key, f"not a key of a policy; known are {known}"))
        elif not isinstance(value, str):
            problems.append(Problem(key, f"expected a text, found {value!r}"))
        elif not value:
            problems.append(Problem(key, _EMPTY))
    if problems:
        raise ProblemsError(str(path), problems)
    root, trust = document.get("trusted-root", ""), document.get("trust", "")
    return Policy(
        identities=tuple(identities),
        issuer=document.get("issuer", ""),
        trusted_root=str(path.parent / root) if root else "",
        trust=trust if trust in ("", PUBLIC, EMBEDDED) else str(path.parent / trust),
        require_clean=clean,
        certified=tuple(certified),
        rebuilders=wanted,
        rebuilder_identities=tuple(named),
        **{key: document.get(key, "") for key in WANTED},
    )


def _rebuilders(value: object, path: Path, problems: list[Problem]) -> Iterator[NamedRebuilder]:
    """The rebuilders in the array `value`, each person once: of an identity, however it is written,
    and of an embedded trust domain, whose holder signs as whom they like."""
    known: set[str] = set()
    domains: set[str] = set()
    if not isinstance(value, list):
        problems.append(Problem("rebuilder-identities", "expected an array of tables"))
        return
    for number, one in enumerate(value):
        at = f"rebuilder-identities[{number}]"
        table: dict[str, Any] = one if isinstance(one, dict) else {}
        identity, issuer = table.get("identity"), table.get("issuer")
        root = table.get("trusted-root", "")
        if (
            not all(isinstance(text, str) and text for text in (identity, issuer))
            or not isinstance(root, str)
            or table.keys() - {"identity", "issuer", "trusted-root"}
        ):
            message = f"expected identity, issuer and at most trusted-root, as texts; found {one!r}"
            problems.append(Problem(at, message))
        elif _spelled(str(identity)) in known:
            problems.append(Problem(at, f"{identity} is there already; it counts once"))
        elif issuer in domains:
            message = "that embedded trust domain is there already, and its holder counts once"
            problems.append(Problem(at, f"{issuer}: {message}"))
        else:
            known.add(_spelled(str(identity)))
            if str(issuer).endswith(f".{HOSTS}"):
                domains.add(str(issuer))
            yield NamedRebuilder(
                str(identity), str(issuer), str(path.parent / root) if root else ""
            )


def _spelled(identity: str) -> str:
    """What two identities have in common that people would take for one: case, width, spaces and
    what cannot be seen do not count."""
    text = unicodedata.normalize("NFKC", identity).casefold()
    return "".join(one for one in text if one.isprintable() and not one.isspace())
