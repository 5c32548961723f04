"""Signing with a trust whose own root does not verify what it signs: good bundles stay."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from plinth.authority.server import serving
from plinth.build.image import build_image
from plinth.core.errors import AttestationError, IntegrityError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.sign import sign_images
from plinth.graph.workspace import Workspace
from support.forge import Copy, Forger, Json, Judge, link_tree
from support.small_checkout import SmallCheckout
from tampering.conftest import IMAGE

PAST = "2020-01-01T00:00:00Z"


@dataclass(frozen=True)
class Signing:
    """A signed image in a build folder to write to, and a private instance that runs."""

    ws: Workspace
    config: Json
    folder: Path
    token: Path

    @property
    def copy(self) -> Copy:
        return Copy(self.ws.layout.root, IMAGE)

    @property
    def root(self) -> Json:
        """The trusted root in the client trust config."""
        found: Json = self.config["trustedRoot"]
        return found

    def sign(self) -> None:
        path = self.folder / "client_trust_config.json"
        path.write_text(json.dumps(self.config))
        said = {"trust": str(path), "token": str(self.token)}
        sign_images(self.ws, [IMAGE], **said, config=Config(), progress=quiet)

    def files(self) -> dict[str, bytes]:
        """What a signature leaves, for people and in the index."""
        paths = [
            self.ws.layout.root / "index.json",
            *sorted((self.ws.build / "attestations" / IMAGE).iterdir()),
        ]
        return {path.name: path.read_bytes() for path in paths}


@contextlib.contextmanager
def signing_in(folder: Path, checkout: SmallCheckout, forger: Forger) -> Iterator[Signing]:
    """A copy of the checkout's build in `folder`, signed, and the instance while the block runs."""
    link_tree(checkout.ws.build, folder / "build")
    token = folder / "token"
    with serving(forger.domain) as running:
        token.write_text(running.token())
        config = json.loads(running.trust_config)
        ws = Workspace(checkout.root, folder / "build")
        made = Signing(ws, config, folder, token)
        made.sign()
        yield made


@pytest.fixture
def signing(checkout: SmallCheckout, forger: Forger, tmp_path: Path) -> Iterator[Signing]:
    with signing_in(tmp_path, checkout, forger) as made:
        yield made


def test_what_verifies_replaces_what_was_there(signing: Signing, judge: Judge) -> None:
    before = signing.files()
    signing.sign()
    assert signing.files() != before
    assert len(signing.copy.bundles()) == len(signing.copy.referrers()) == 3
    assert judge.problems(signing.copy) == []


def another_log_key(root: Json, stranger: Json) -> None:
    root["tlogs"] = stranger["tlogs"]


def another_key_of_the_same_log(root: Json, stranger: Json) -> None:
    root["tlogs"][0]["publicKey"] = stranger["tlogs"][0]["publicKey"]


def another_authority(root: Json, stranger: Json) -> None:
    root["certificateAuthorities"] = stranger["certificateAuthorities"]


def another_certificate_log(root: Json, stranger: Json) -> None:
    root["ctlogs"] = stranger["ctlogs"]


def another_timestamp_authority(root: Json, stranger: Json) -> None:
    root["timestampAuthorities"] = stranger["timestampAuthorities"]


def ended(key: str) -> Callable[[Json, Json], None]:
    def change(root: Json, stranger: Json) -> None:
        holder = root[key][0]
        holder.get("publicKey", holder)["validFor"] = {"start": PAST, "end": PAST}

    return change


def empty(key: str) -> Callable[[Json, Json], None]:
    return lambda root, stranger: root.update({key: []})


def damaged_authority(root: Json, stranger: Json) -> None:
    root["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] = "eA=="


VERIFIED, USED = "what was signed does not verify", "the trusted root cannot be used to verify"
CHANGES: list[tuple[str, Callable[[Json, Json], None], str]] = [
    ("another log key", another_log_key, VERIFIED),
    ("another key of the log", another_key_of_the_same_log, VERIFIED),
    ("another authority", another_authority, VERIFIED),
    # The library looks at the certificate log before it signs.
    ("another certificate log", another_certificate_log, "Fulcio.* cannot be used"),
    ("another timestamp authority", another_timestamp_authority, VERIFIED),
    ("an ended log", ended("tlogs"), VERIFIED),
    ("an ended authority", ended("certificateAuthorities"), VERIFIED),
    ("an ended certificate log", ended("ctlogs"), "cannot be used to sign"),
    ("an ended timestamp authority", ended("timestampAuthorities"), VERIFIED),
    ("no log", empty("tlogs"), USED),
    ("no authority", empty("certificateAuthorities"), USED),
    ("no certificate log", empty("ctlogs"), USED),
    ("no timestamp authority", empty("timestampAuthorities"), VERIFIED),
    ("a damaged authority", damaged_authority, USED),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_bundles_that_do_not_verify_replace_nothing(
    signing: Signing,
    stranger: Forger,
    judge: Judge,
    change: Callable[[Json, Json], None],
    message: str,
) -> None:
    before = signing.files()
    change(signing.root, json.loads(stranger.domain.trusted_root()))
    with pytest.raises(AttestationError, match=message) as raised:
        signing.sign()
    assert str(signing.folder) in raised.value.where
    assert signing.files() == before
    assert judge.problems(signing.copy) == []


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("change", [flip, lambda data: data[:-1]], ids=["flipped", "cut"])
@pytest.mark.parametrize("which", ["config", "first layer", "last layer"])
def test_an_image_with_a_damaged_blob_is_not_signed(
    signing: Signing, checkout: SmallCheckout, which: str, change: Callable[[bytes], bytes]
) -> None:
    manifest = signing.copy.manifest()
    layer = manifest["layers"][0 if which == "first layer" else -1]
    digest = manifest["config"]["digest"] if which == "config" else layer["digest"]
    before = signing.files()
    signing.copy.write(signing.copy.path(digest), change(signing.copy.blob(digest)))
    with pytest.raises(IntegrityError, match="missing or damaged") as raised:
        # Another process than the one that built it.
        replace(signing, ws=Workspace(signing.ws.root, signing.ws.build)).sign()
    assert digest in raised.value.where
    assert signing.files() == before
    # What the message says to do helps.
    again = replace(signing, ws=Workspace(signing.ws.root, signing.ws.build))
    config = replace(Config(), files={"wheels": str(checkout.wheels)})
    build_image(again.ws, IMAGE, config=config, jobs=1, progress=quiet)
    again.sign()
