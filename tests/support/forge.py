"""Forging signed images: copies of a layout to tamper with, and a signer that signs anything."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sigstore.dsse import Statement
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import Signer, SigningContext
from sigstore_models.trustroot.v1 import TrustedRoot

from plinth.authority.domain import Domain, init_domain
from plinth.authority.server import serving
from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import PlinthError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.choice import Believed
from plinth.evidence.statement import PROVENANCE, SBOM, statement
from plinth.evidence.trusted_root import Root
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.image import verify_image
from plinth.evidence.verify.policy import Policy, Signers
from plinth.evidence.verify.rebuilders import Rebuilder
from plinth.evidence.verify.request import RawBundle, Request
from plinth.evidence.verify.verdict import Verdict
from plinth.fetch.interpreter import Interpreters
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.model import CONFIG, LAYER_GZIP, MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout, refers
from plinth.inspect.contents.cache import ContentsCache

IDENTITY = "builder@example.org"
Json = dict[str, Any]


def link_tree(source: Path, target: Path) -> None:
    """A copy of a folder whose files are hard links: they are replaced, never written to."""
    for folder, _, names in os.walk(source):
        inner = target / Path(folder).relative_to(source)
        inner.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.link(Path(folder) / name, inner / name)


@dataclass
class Copy:
    """A layout to tamper with, of which the image `name` is looked at."""

    root: Path
    name: str

    @property
    def store(self) -> BlobStore:
        return BlobStore(self.root)

    def index(self) -> Json:
        found: Json = json.loads((self.root / "index.json").read_bytes())
        return found

    def write(self, path: str, data: bytes) -> None:
        """Put `data` at `path`, which may be a hard link to what others use."""
        file = self.root / path
        file.unlink(missing_ok=True)
        file.write_bytes(data)

    def write_index(self, index: Json) -> None:
        self.write("index.json", json.dumps(index).encode())

    def entry(self, name: str = "") -> Json:
        """The entry of index.json called `name` (empty: the image's)."""
        key = "org.opencontainers.image.ref.name"
        return next(
            entry
            for entry in self.index()["manifests"]
            if entry["annotations"].get(key) == (name or self.name)
        )

    def edit_entry(self, name: str = "", **changes: object) -> None:
        """Change fields of an entry of index.json."""
        entry, index = self.entry(name), self.index()
        position = index["manifests"].index(entry)
        index["manifests"][position] = {**entry, **changes}
        self.write_index(index)

    @property
    def digest(self) -> Digest:
        """The image's manifest."""
        entry = self.entry()
        return Digest(entry["digest"].removeprefix("sha256:"), entry["size"])

    def manifest(self) -> Json:
        found: Json = json.loads(self.store.get(self.digest))
        return found

    def config(self) -> Json:
        found: Json = json.loads(self.blob(self.manifest()["config"]["digest"]))
        return found

    def blob(self, digest: str) -> bytes:
        return (self.root / self.path(digest)).read_bytes()

    def path(self, digest: str) -> str:
        return "blobs/sha256/" + digest.removeprefix("sha256:")

    def attached(self) -> list[Json]:
        """The entries of index.json that are of what is attached to the image."""
        return [entry for entry in self.index()["manifests"] if refers(entry, self.digest)]

    def referrers(self) -> list[Json]:
        """The manifests attached to the image."""
        return [json.loads(self.blob(entry["digest"])) for entry in self.attached()]

    def bundles(self) -> dict[str, bytes]:
        """The image's bundles by predicate type."""
        return {
            one["annotations"]["dev.sigstore.bundle.predicateType"]: self.blob(
                one["layers"][0]["digest"]
            )
            for one in self.referrers()
        }

    def detach(self) -> None:
        """Take all that is attached to the image away."""
        index = self.index()
        index["manifests"] = [e for e in index["manifests"] if not refers(e, self.digest)]
        self.write_index(index)

    def attach(self, bundles: Mapping[str, bytes]) -> None:
        """Let these bundles, properly attached, be all that the image has."""
        self.detach()
        attach_to_layout(self.store, Descriptor(MANIFEST, self.digest), list(bundles.items()))

    def put(self, media_type: str, data: bytes) -> Json:
        """Store a blob; its descriptor."""
        return dict(Descriptor(media_type, self.store.put(data)).to_json())

    def become(self, manifest: Json, config: Json | None = None) -> None:
        """Let the image be this one, with everything that names it in order, and the bundles it
        had attached to it."""
        bundles = self.bundles()
        if config is not None:
            manifest = {**manifest, "config": self.put(CONFIG, canonical_json(config))}
        descriptor = self.put(MANIFEST, canonical_json(manifest))
        self.edit_entry(digest=descriptor["digest"], size=descriptor["size"])
        self.attach(bundles)

    def layer(self, title: str) -> int:
        """The number of the layer whose title begins so."""
        titles = [
            entry["annotations"]["org.opencontainers.image.title"]
            for entry in self.manifest()["layers"]
        ]
        return next(n for n, one in enumerate(titles) if one.lower().startswith(title))

    def become_layer(self, number: int, data: bytes, diff_id: str) -> None:
        """Let one layer be `data`, with manifest, config and index in order."""
        manifest, config = self.manifest(), self.config()
        old = manifest["layers"][number]
        made = self.put(LAYER_GZIP, data)
        manifest["layers"][number] = {**made, "annotations": old["annotations"]}
        config["rootfs"]["diff_ids"][number] = f"sha256:{diff_id}"
        self.become(manifest, config)


@dataclass
class Forger:
    """Somebody with a trust domain of their own, who signs whatever is wanted."""

    domain: Domain
    _sign: Callable[[bytes], bytes] = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """A bundle of the statement in `data`."""
        return self._sign(data)

    def state(self, copy: Copy, kind: str, predicate: Json) -> bytes:
        """A bundle that says `predicate` of the image."""
        title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
        return self.sign(statement(title, copy.digest, kind, predicate))

    def restate(self, copy: Copy, kind: str, change: Callable[[Json], None]) -> None:
        """Sign one of the image's statements again, with another predicate."""
        bundles = copy.bundles()
        predicate = payload(bundles[kind])["predicate"]
        change(predicate)
        copy.attach({**bundles, kind: self.state(copy, kind, predicate)})

    @property
    def believed(self) -> Believed:
        return Believed("the test's root", TrustedRoot.from_json(self.domain.trusted_root()))


class _Any(Statement):
    """What to sign, whatever it is: the library signs statements of in-toto v1 alone."""

    def __init__(self, contents: bytes) -> None:
        self._contents = contents


@contextlib.contextmanager
def forging(folder: Path, identity: str = IDENTITY) -> Iterator[Forger]:
    """A forger whose services run while the block does."""
    with signing(init_domain(folder, identity)) as forger:
        yield forger


@contextlib.contextmanager
def signing(domain: Domain, certified: Mapping[int, bytes] = {}) -> Iterator[Forger]:
    """Somebody who signs with `domain`, whose certificates have extensions of Fulcio's arc by their
    numbers, as those of a CI system's identity."""
    original = x509.CertificateBuilder.sign

    def extended(
        builder: x509.CertificateBuilder, *arguments: Any, **keywords: Any
    ) -> x509.Certificate:
        for number, value in certified.items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return original(builder, *arguments, **keywords)

    with serving(domain) as running, contextlib.ExitStack() as stack:
        context = SigningContext.from_trust_config(
            ClientTrustConfig.from_json(running.trust_config)
        )
        signers: list[tuple[float, Signer]] = []

        def sign(data: bytes) -> bytes:
            # A certificate lives ten minutes.
            if not signers or time.monotonic() - signers[-1][0] > 300:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(x509.CertificateBuilder, "sign", extended)
                    signer = stack.enter_context(context.signer(IdentityToken(running.token())))
                signers.append((time.monotonic(), signer))
            return signers[-1][1].sign_dsse(_Any(data)).to_json().encode()

        yield Forger(domain, sign)


@dataclass(frozen=True)
class Judge:
    """A verifier's wishes."""

    believed: Believed
    issuer: str
    cache: ContentsCache
    identities: Sequence[str] = (IDENTITY,)
    policy: Policy = field(default_factory=Policy)
    checkout: Path | None = None
    rebuild: bool = False
    inputs: BlobStore | None = None
    config: Config = field(default_factory=Config)
    bundles: tuple[RawBundle, ...] = ()
    rebuilders: tuple[Rebuilder, ...] = ()
    interpreters: Interpreters | None = None

    def verdict(self, copy: Copy, reference: str = "") -> Verdict:
        """What verification makes of the image, or of what the `reference` names."""
        reference = reference or f"oci:{copy.root}:{copy.name}"
        verifier = BundleVerifier(self.believed, Signers(tuple(self.identities), self.issuer))
        with open_source(reference, Config()) as source:
            request = Request(
                expected=copy.name,
                bundles=self.bundles,
                cache=self.cache,
                checkout=self.checkout,
                interpreters=self.interpreters,
                rebuild=self.rebuild,
                inputs=self.inputs,
                config=self.config,
            )
            return verify_image(source, verifier, self.policy, request, self.rebuilders)

    @property
    def trusted_root(self) -> Root:
        """The root believed, as a gate takes it."""
        return Root(self.believed.shown, self.believed.model.to_json().encode())

    def problems(self, copy: Copy, reference: str = "") -> list[str]:
        """What is wrong, `check: problem` each; empty where nothing is."""
        try:
            verdict = self.verdict(copy, reference)
        except PlinthError as error:
            return [f"error: {error}"]
        found = [f"{check.name}: {p}" for check in verdict.checks for p in check.problems]
        assert bool(found) is not verdict.passed
        return found

    def problems_with(self, copy: Copy, policy: Policy) -> list[str]:
        """What is wrong by another policy."""
        return replace(self, policy=policy).problems(copy)

    def believing(self, **changes: object) -> Judge:
        """A verifier with another root: fields of this one's, changed."""
        document = json.loads(self.believed.model.to_json())
        document.update(changes)
        return replace(
            self, believed=Believed("another root", TrustedRoot.from_json(json.dumps(document)))
        )

    def root(self) -> Json:
        """The root believed, as JSON."""
        found: Json = json.loads(self.believed.model.to_json())
        return found


def resigned(
    copy: Copy, forger: Forger, manifest: bytes, replaced: Mapping[str, str] | None = None
) -> None:
    """Let the image be this manifest, with all three statements about it; digests (hexadecimal) in
    them are `replaced` by others."""
    predicates = {kind: payload(one)["predicate"] for kind, one in copy.bundles().items()}
    text = json.dumps(predicates[SBOM]).replace(f'"{copy.digest.size}"', f'"{len(manifest)}"')
    for old, new in {copy.digest.hex: Digest.of(manifest).hex, **(replaced or {})}.items():
        text = text.replace(old, new)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, Digest.of(manifest).oci).urn
    predicates[SBOM] = {**json.loads(text), "serialNumber": serial}
    (carried,) = predicates[PROVENANCE]["runDetails"]["byproducts"]
    carried["content"] = base64.b64encode(manifest).decode()
    carried["digest"] = {"sha256": Digest.of(manifest).hex}
    made = copy.put(MANIFEST, manifest)
    copy.edit_entry(digest=made["digest"], size=made["size"])
    copy.attach({kind: forger.state(copy, kind, one) for kind, one in predicates.items()})


def relayered(
    copy: Copy, forger: Forger, number: int, data: bytes, diff_id: str, media_type: str = ""
) -> None:
    """Let one layer be `data` (of its own type, or another), and sign everything again: true in all
    but what the layer holds."""
    manifest, config = copy.manifest(), copy.config()
    old, old_diff_id = manifest["layers"][number], config["rootfs"]["diff_ids"][number]
    made = copy.put(media_type or old["mediaType"], data)
    manifest["layers"][number] = {**old, **made}
    config["rootfs"]["diff_ids"][number] = f"sha256:{diff_id}"
    manifest["config"] = copy.put(CONFIG, canonical_json(config))
    replaced = {
        old["digest"].removeprefix("sha256:"): Digest.of(data).hex,
        old_diff_id.removeprefix("sha256:"): diff_id,
    }
    resigned(copy, forger, canonical_json(manifest), replaced)


def rejected(judge: Judge, copy: Copy, *messages: str) -> None:
    """The image is rejected, and every one of `messages` is in what is said about it."""
    said = "\n".join(judge.problems(copy))
    assert said
    for message in messages:
        assert message in said, said


def payload(bundle: bytes) -> Json:
    """The statement in a bundle."""
    found: Json = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    return found


def flipped(text: str, at: int = 20) -> str:
    """Base64 in which one byte is another."""
    data = bytearray(base64.b64decode(text))
    data[at % len(data)] ^= 1
    return base64.b64encode(bytes(data)).decode()


def docker_archive(copy: Copy, path: Path, tars: Mapping[int, bytes] = {}) -> str:
    """What `docker save` made of the image before engines kept manifests, with other `tars` for the
    layers of these numbers."""
    manifest = copy.manifest()
    name = manifest["config"]["digest"].removeprefix("sha256:") + ".json"
    files = {name: copy.blob(manifest["config"]["digest"])}
    for number, layer in enumerate(manifest["layers"]):
        files[f"{number}.tar"] = tars.get(number) or gzip.decompress(copy.blob(layer["digest"]))
    about = [{"Config": name, "RepoTags": ["small:1"], "Layers": [*files][1:]}]
    with tarfile.open(path, "w") as tar:
        for called, data in {**files, "manifest.json": json.dumps(about).encode()}.items():
            member = tarfile.TarInfo(called)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return f"docker-archive:{path}"
