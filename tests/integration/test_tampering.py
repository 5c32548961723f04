"""Tampering with signed images, case by case: each is rejected, and what is wrong is named.

Three kinds of attackers: one who changes bytes in a layout or a registry, one who has a trust
domain or other bundles of their own, and a builder who signs what is not true.
"""

from __future__ import annotations

import base64
import copy as copying
import gzip
import io
import json
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forge import IDENTITY, Copy, Forger, Json, Judge, flipped, forging, link_tree, payload
from integration.conftest import Checkout
from plinth.attest.sign import prepare
from plinth.attest.statement import COSIGN, PROVENANCE, SBOM, statement
from plinth.config import Config
from plinth.contents.read import ContentsCache
from plinth.digest import Digest, canonical_json
from plinth.verify.policy import Policy
from plinth.workspace import Workspace

IMAGE, OTHER = "minimal", "sklearn-0.24.1"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.fixture(scope="session")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    with forging(tmp_path_factory.mktemp("trust") / "domain") as one:
        yield one


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    """Somebody else's trust domain, for the same identity."""
    with forging(tmp_path_factory.mktemp("stranger") / "domain") as one:
        yield one


@pytest.fixture(scope="session")
def signed(built: Checkout, forger: Forger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with two signed images."""
    build = tmp_path_factory.mktemp("signed") / "build"
    for name in ("oci", "cache/actions", "cache/blobs", "cache/images"):
        link_tree(built.ws.build / name, build / name)
    ws = Workspace(built.root, build)
    # The other first, so that the log has a tree when the image comes into it.
    for image in (OTHER, IMAGE):
        prepared = prepare(ws, image, Config())
        copy = Copy(ws.layout.root, image)
        copy.attach({kind: forger.sign(data) for kind, data in prepared.statements})
    return ws.layout.root


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Copy:
    link_tree(signed, tmp_path / "oci")
    return Copy(tmp_path / "oci", IMAGE)


@pytest.fixture(scope="session")
def judge(forger: Forger, built: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    cache = ContentsCache(tmp_path_factory.mktemp("contents"))
    return Judge(forger.believed, forger.domain.issuer, cache, checkout=built.root)


def rejected(judge: Judge, copy: Copy, *messages: str) -> None:
    """The image is rejected, and every one of `messages` is in what is said about it."""
    said = "\n".join(judge.problems(copy))
    assert said
    for message in messages:
        assert message in said


def test_what_nobody_touched_is_verified(judge: Judge, copy: Copy) -> None:
    assert judge.problems(copy) == []
    assert judge.problems(Copy(copy.root, OTHER)) == []


# Bytes of the layout: blobs, documents, names.


def _largest(copy: Copy) -> Json:
    found: Json = max(copy.manifest()["layers"], key=lambda layer: layer["size"])
    return found


def _flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def layer_flipped(copy: Copy) -> None:
    layer = _largest(copy)
    data = copy.blob(layer["digest"])
    copy.write(copy.path(layer["digest"]), _flip(data, len(data) // 2))


def layer_truncated(copy: Copy) -> None:
    layer = _largest(copy)
    copy.write(copy.path(layer["digest"]), copy.blob(layer["digest"])[:-1])


def layer_appended(copy: Copy) -> None:
    layer = _largest(copy)
    copy.write(copy.path(layer["digest"]), copy.blob(layer["digest"]) + gzip.compress(b"x"))


def layer_of_another_image(copy: Copy) -> None:
    layer = _largest(copy)
    other = _largest(Copy(copy.root, OTHER))
    copy.write(copy.path(layer["digest"]), copy.blob(other["digest"]))


def layer_empty(copy: Copy) -> None:
    copy.write(copy.path(_largest(copy)["digest"]), b"")


def layer_missing(copy: Copy) -> None:
    (copy.root / copy.path(_largest(copy)["digest"])).unlink()


def config_flipped(copy: Copy) -> None:
    digest = copy.manifest()["config"]["digest"]
    copy.write(copy.path(digest), copy.blob(digest).replace(b"5001/tcp", b"5002/tcp"))


def config_truncated(copy: Copy) -> None:
    digest = copy.manifest()["config"]["digest"]
    copy.write(copy.path(digest), copy.blob(digest)[:-10])


def config_missing(copy: Copy) -> None:
    (copy.root / copy.path(copy.manifest()["config"]["digest"])).unlink()


def manifest_changed(copy: Copy) -> None:
    digest = copy.digest.oci
    copy.write(copy.path(digest), copy.blob(digest).replace(b"dev.plinth.base", b"dev.plinth.bass"))


def manifest_truncated(copy: Copy) -> None:
    copy.write(copy.path(copy.digest.oci), copy.blob(copy.digest.oci)[:-1])


def manifest_missing(copy: Copy) -> None:
    (copy.root / copy.path(copy.digest.oci)).unlink()


def manifest_is_a_bomb(copy: Copy) -> None:
    data = b"[" * 200_000
    descriptor = copy.put("application/vnd.oci.image.manifest.v1+json", data)
    bundles = copy.bundles()
    copy.edit_entry(digest=descriptor["digest"], size=descriptor["size"])
    copy.attach(bundles)


def index_swapped(copy: Copy) -> None:
    other = copy.entry(OTHER)
    copy.edit_entry(digest=other["digest"], size=other["size"])


def index_truncated(copy: Copy) -> None:
    copy.write("index.json", (copy.root / "index.json").read_bytes()[:-30])


def index_names_nothing(copy: Copy) -> None:
    copy.edit_entry(digest="sha256:" + "0" * 64)


def index_other_size(copy: Copy) -> None:
    copy.edit_entry(size=copy.digest.size + 1)


def index_without_the_image(copy: Copy) -> None:
    copy.edit_entry(annotations={"org.opencontainers.image.ref.name": "x"})


def marker_missing(copy: Copy) -> None:
    (copy.root / "oci-layout").unlink()


def annotation_changed(copy: Copy) -> None:
    manifest = copy.manifest()
    manifest["annotations"]["org.opencontainers.image.description"] = "x"
    copy.become(manifest)


def title_changed(copy: Copy) -> None:
    manifest = copy.manifest()
    manifest["annotations"]["org.opencontainers.image.title"] = "azureml/other"
    copy.become(manifest)


def layers_swapped(copy: Copy) -> None:
    manifest = copy.manifest()
    manifest["layers"][3], manifest["layers"][4] = manifest["layers"][4], manifest["layers"][3]
    copy.become(manifest)


def layer_added(copy: Copy) -> None:
    manifest, config = copy.manifest(), copy.config()
    other = Copy(copy.root, OTHER)
    manifest["layers"].append(_largest(other))
    number = other.manifest()["layers"].index(_largest(other))
    config["rootfs"]["diff_ids"].append(other.config()["rootfs"]["diff_ids"][number])
    copy.become(manifest, config)


def layer_removed(copy: Copy) -> None:
    manifest, config = copy.manifest(), copy.config()
    manifest["layers"].pop()
    config["rootfs"]["diff_ids"].pop()
    copy.become(manifest, config)


def layer_media_type(copy: Copy) -> None:
    manifest = copy.manifest()
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    copy.become(manifest)


def user_is_root(copy: Copy) -> None:
    config = copy.config()
    config["config"]["User"] = "0:0"
    copy.become(copy.manifest(), config)


def diff_id_changed(copy: Copy) -> None:
    config = copy.config()
    config["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64
    copy.become(copy.manifest(), config)


def config_without_diff_ids(copy: Copy) -> None:
    config = copy.config()
    del config["rootfs"]
    copy.become(copy.manifest(), config)


def listing_missing(copy: Copy) -> None:
    copy.detach()


def listing_blob_missing(copy: Copy) -> None:
    (copy.root / copy.path(copy.entry(copy.referrers_name())["digest"])).unlink()


def listing_flipped(copy: Copy) -> None:
    digest = copy.entry(copy.referrers_name())["digest"]
    copy.write(copy.path(digest), copy.blob(digest).replace(b"schemaVersion", b"schemaVersiom"))


def _listing(copy: Copy, change: Callable[[list[Json]], None]) -> None:
    """Change the list of what is attached, with everything that names it in order."""
    name = copy.referrers_name()
    document = json.loads(copy.blob(copy.entry(name)["digest"]))
    change(document["manifests"])
    made = copy.put(document["mediaType"], canonical_json(document))
    copy.edit_entry(name, digest=made["digest"], size=made["size"])


def listed_as_another_type(copy: Copy) -> None:
    def change(entries: list[Json]) -> None:
        for entry in entries:
            entry["annotations"]["dev.sigstore.bundle.predicateType"] = COSIGN

    _listing(copy, change)


def _artifact(copy: Copy, kind: str, change: Callable[[Json], None]) -> None:
    """Change the manifest that attaches a bundle, with everything that names it in order."""
    key = "dev.sigstore.bundle.predicateType"

    def relist(entries: list[Json]) -> None:
        for entry in entries:
            manifest = json.loads(copy.blob(entry["digest"]))
            if manifest["annotations"][key] == kind:
                change(manifest)
                made = copy.put(manifest["mediaType"], canonical_json(manifest))
                entry.update(digest=made["digest"], size=made["size"])
                entry["annotations"] = manifest["annotations"]

    _listing(copy, relist)


def filed_as_another_type(copy: Copy) -> None:
    def change(manifest: Json) -> None:
        manifest["annotations"]["dev.sigstore.bundle.predicateType"] = SBOM

    _artifact(copy, PROVENANCE, change)


def attached_to_another_image(copy: Copy) -> None:
    def change(manifest: Json) -> None:
        other = Copy(copy.root, OTHER).digest
        manifest["subject"].update(digest=other.oci, size=other.size)

    _artifact(copy, COSIGN, change)


def artifact_flipped(copy: Copy) -> None:
    _listing(copy, lambda entries: None)
    listed = json.loads(copy.blob(copy.entry(copy.referrers_name())["digest"]))["manifests"]
    digest = listed[0]["digest"]
    copy.write(copy.path(digest), copy.blob(digest).replace(b"subject", b"subjekt"))


def bundle_blob_flipped(copy: Copy) -> None:
    digest = copy.referrers()[0]["layers"][0]["digest"]
    copy.write(copy.path(digest), _flip(copy.blob(digest), 100))


def bundle_blob_truncated(copy: Copy) -> None:
    digest = copy.referrers()[0]["layers"][0]["digest"]
    copy.write(copy.path(digest), copy.blob(digest)[:-5])


def bundle_blob_missing(copy: Copy) -> None:
    (copy.root / copy.path(copy.referrers()[0]["layers"][0]["digest"])).unlink()


def replayed(copy: Copy) -> None:
    """The bundles of another image, properly attached."""
    copy.attach(Copy(copy.root, OTHER).bundles())


def without(kind: str) -> Callable[[Copy], None]:
    def change(copy: Copy) -> None:
        copy.attach({k: data for k, data in copy.bundles().items() if k != kind})

    return change


LAYOUT: list[tuple[Callable[[Copy], None], str]] = [
    (layer_flipped, "blobs: layer "),
    (layer_truncated, "blobs: layer "),
    (layer_appended, "blobs: layer "),
    (layer_of_another_image, "blobs: layer "),
    (layer_empty, "blobs: layer "),
    (layer_missing, "blobs: layer "),
    (config_flipped, "blobs: config: it is"),
    (config_truncated, "the config is not JSON"),
    (config_missing, "manifest: "),
    (manifest_changed, "it is not what the index names"),
    (manifest_truncated, "it is not what the index names"),
    (manifest_missing, "manifest: "),
    (manifest_is_a_bomb, "not JSON"),
    (index_swapped, "name: asked for 'minimal', this is 'sklearn-0.24.1'"),
    (index_truncated, "index.json"),
    (index_names_nothing, "manifest: "),
    (index_other_size, "it is not what the index names"),
    (index_without_the_image, "no image is called 'minimal'"),
    (marker_missing, "no OCI image layout here"),
    (annotation_changed, "signature: "),
    (title_changed, "signature: "),
    (layers_swapped, "blobs: layer 3"),
    (layer_added, "signature: "),
    (layer_removed, "signature: "),
    (layer_media_type, "layers[0] is not a descriptor of"),
    (user_is_root, "user: it runs as root"),
    (diff_id_changed, "blobs: layer 0"),
    (config_without_diff_ids, "no rootfs.diff_ids"),
    (listing_missing, "signature: no bundle"),
    (listing_blob_missing, "signature: "),
    (listing_flipped, "signature: "),
    (listed_as_another_type, "is listed as"),
    (filed_as_another_type, f"filed as {SBOM}, it states {PROVENANCE}"),
    (attached_to_another_image, "signature: "),
    (artifact_flipped, "its manifest is not what is listed"),
    (bundle_blob_flipped, "its layer is sha256:"),
    (bundle_blob_truncated, "its layer is sha256:"),
    (bundle_blob_missing, ": "),
    (replayed, "it is about sha256:"),
    (without(COSIGN), "signature: no bundle"),
    (without(PROVENANCE), "signed provenance: no bundle"),
    (without(SBOM), "signed sbom: no bundle"),
]


@pytest.mark.parametrize(
    ("change", "message"), LAYOUT, ids=[f"{n}-{c.__name__}" for n, (c, _) in enumerate(LAYOUT)]
)
def test_a_changed_layout(
    judge: Judge, copy: Copy, change: Callable[[Copy], None], message: str
) -> None:
    change(copy)
    rejected(judge, copy, message)


# Fields of a bundle, in a layout that is otherwise in order.

ENTRY = ("verificationMaterial", "tlogEntries", 0)
PROOF = (*ENTRY, "inclusionProof")
TIMES = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps")


def at(*path: str | int, to: Any) -> Callable[[Json, Json, Json], None]:
    """Set a field: to a value, or to what a function makes of the old value, the bundle of the
    same image's provenance and a stranger's bundle."""

    def change(bundle: Json, other: Json, foreign: Json) -> None:
        inner: Any = bundle
        for key in path[:-1]:
            inner = inner[key]
        old = inner[path[-1]]
        inner[path[-1]] = to(old, other, foreign) if callable(to) else to

    return change


def gone(*path: str | int) -> Callable[[Json, Json, Json], None]:
    def change(bundle: Json, other: Json, foreign: Json) -> None:
        inner: Any = bundle
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return change


def of_other(*path: str | int) -> Callable[[Json, Json, Json], None]:
    """Take a field of another bundle of the same signer."""

    def change(bundle: Json, other: Json, foreign: Json) -> None:
        at(*path, to=_inner(other, path))(bundle, other, foreign)

    return change


def of_stranger(*path: str | int) -> Callable[[Json, Json, Json], None]:
    """Take a field of a stranger's bundle."""

    def change(bundle: Json, other: Json, foreign: Json) -> None:
        at(*path, to=_inner(foreign, path))(bundle, other, foreign)

    return change


def _inner(document: Json, path: tuple[str | int, ...]) -> Any:
    for key in path:
        document = document[key]  # type: ignore[index]
    return document


def flip(old: str, *_: object) -> str:
    return flipped(old)


def _predicate(old: str, *_: object) -> str:
    document = json.loads(base64.b64decode(old))
    document["predicate"] = {"x": 1}
    return base64.b64encode(json.dumps(document).encode()).decode()


def _checkpoint(change: Callable[[list[str]], None]) -> Callable[..., str]:
    def edit(old: str, *_: object) -> str:
        lines = old.split("\n")
        change(lines)
        return "\n".join(lines)

    return edit


def _flip_note(lines: list[str]) -> None:
    mark, name, signature = lines[-2].split(" ")
    lines[-2] = f"{mark} {name} {flipped(signature)}"


def _grow(lines: list[str]) -> None:
    lines[1] = str(int(lines[1]) + 1)


def _again(old: list[Any], *_: object) -> list[Any]:
    return [*old, *old]


def _with_strangers(old: list[Any], other: Json, foreign: Json) -> list[Any]:
    return [*old, *_inner(foreign, TIMES)]


FIELDS: list[tuple[str, Callable[[Json, Json, Json], None], str]] = [
    ("predicate", at("dsseEnvelope", "payload", to=_predicate), "signature"),
    ("payload of another", of_other("dsseEnvelope", "payload"), "signature"),
    ("payload type", at("dsseEnvelope", "payloadType", to="text/plain"), "signature"),
    ("signature", at("dsseEnvelope", "signatures", 0, "sig", to=flip), "invalid signature"),
    ("signature of another", of_other("dsseEnvelope", "signatures"), "invalid signature"),
    ("no signature", at("dsseEnvelope", "signatures", to=[]), "exactly one signature"),
    ("two signatures", at("dsseEnvelope", "signatures", to=_again), "exactly one signature"),
    ("no envelope", gone("dsseEnvelope"), "signature: "),
    ("certificate flipped", at("verificationMaterial", "certificate", "rawBytes", to=flip), "sig"),
    ("certificate of a stranger", of_stranger("verificationMaterial", "certificate"), "cert"),
    ("no certificate", gone("verificationMaterial", "certificate"), "certificate"),
    ("media type", at("mediaType", to="application/json"), "mediaType"),
    (
        "older media type",
        at("mediaType", to="application/vnd.dev.sigstore.bundle+json;version=0.3"),
        "another kind of bundle",
    ),
    ("no log entry", at("verificationMaterial", "tlogEntries", to=[]), "one log entry"),
    ("two log entries", at("verificationMaterial", "tlogEntries", to=_again), "one log entry"),
    ("log entry of another", of_other("verificationMaterial", "tlogEntries"), "log entry"),
    ("log entry of a stranger", of_stranger("verificationMaterial", "tlogEntries"), "log"),
    ("log index", at(*ENTRY, "logIndex", to="7777"), "promise"),
    ("time", at(*ENTRY, "integratedTime", to=lambda old, *_: str(int(old) + 1)), "promise"),
    ("long ago", at(*ENTRY, "integratedTime", to="86400"), "was not in office when it signed"),
    ("log id", at(*ENTRY, "logId", "keyId", to=flip), "a log that the root does not know"),
    ("kind of entry", at(*ENTRY, "kindVersion", "kind", to="intoto"), "dsse"),
    ("version of entry", at(*ENTRY, "kindVersion", "version", to="0.0.2"), "0.0.1"),
    ("no promise", gone(*ENTRY, "inclusionPromise"), "the log's promise is missing"),
    (
        "promise",
        at(*ENTRY, "inclusionPromise", "signedEntryTimestamp", to=flip),
        "promise",
    ),
    ("promise of another", of_other(*ENTRY, "inclusionPromise"), "promise"),
    ("no proof", gone(*ENTRY, "inclusionProof"), "inclusionProof"),
    ("proof of another", of_other(*PROOF), "inclusion proof"),
    ("proof's hash", at(*PROOF, "hashes", 0, to=flip), "inclusion proof"),
    ("proof without hashes", at(*PROOF, "hashes", to=[]), "inclusion proof"),
    ("proof's index", at(*PROOF, "logIndex", to=lambda old, *_: str(int(old) ^ 1)), "proof"),
    ("proof's root", at(*PROOF, "rootHash", to=flip), "root hash"),
    ("no checkpoint", gone(*PROOF, "checkpoint"), "checkpoint"),
    (
        "checkpoint's signature",
        at(*PROOF, "checkpoint", "envelope", to=_checkpoint(_flip_note)),
        "checkpoint",
    ),
    ("checkpoint's size", at(*PROOF, "checkpoint", "envelope", to=_checkpoint(_grow)), "checkp"),
    ("checkpoint of another", of_other(*PROOF, "checkpoint"), "of different trees"),
    ("checkpoint of a stranger", of_stranger(*PROOF, "checkpoint"), "checkpoint"),
    ("body", at(*ENTRY, "canonicalizedBody", to=flip), "log entry"),
    ("body of another", of_other(*ENTRY, "canonicalizedBody"), "log entry"),
    ("no timestamp", at(*TIMES, to=[]), "there is no timestamp"),
    ("no timestamps", gone("verificationMaterial", "timestampVerificationData"), "no timestamp"),
    ("timestamp flipped", at(*TIMES, 0, "signedTimestamp", to=lambda o, *_: flipped(o, -20)), "ti"),
    ("timestamp of another", of_other(*TIMES), "timestamp 1 is of no authority"),
    ("timestamp of a stranger", of_stranger(*TIMES), "timestamp 1 is of no authority"),
    ("one good timestamp, one not", at(*TIMES, to=_with_strangers), "timestamp 2 is of no author"),
    ("timestamp twice", at(*TIMES, to=_again), "duplicate timestamp"),
]


@pytest.fixture(scope="session")
def foreign(stranger: Forger, signed: Path) -> Json:
    """The same statement, signed by a stranger."""
    image = Copy(signed, IMAGE)
    found: Json = json.loads(stranger.state(image, COSIGN, {}))
    return found


@pytest.mark.parametrize(("change", "message"), [f[1:] for f in FIELDS], ids=[f[0] for f in FIELDS])
def test_a_changed_bundle(
    judge: Judge,
    copy: Copy,
    foreign: Json,
    change: Callable[[Json, Json, Json], None],
    message: str,
) -> None:
    bundles = copy.bundles()
    bundle = json.loads(bundles[COSIGN])
    change(bundle, json.loads(bundles[PROVENANCE]), copying.deepcopy(foreign))
    copy.attach({**bundles, COSIGN: json.dumps(bundle).encode()})
    rejected(judge, copy, "signature: ", message)
    # The other two statements are as good as before: only the one is refused.
    said = judge.problems(copy)
    assert all(problem.startswith("signature: ") for problem in said), said


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"mediaType":' + b'"x"' + b"}"],
    ids=["empty", "nothing", "null", "binary", "bomb", "another"],
)
def test_what_is_no_bundle(judge: Judge, copy: Copy, data: bytes) -> None:
    copy.attach({**copy.bundles(), COSIGN: data})
    rejected(judge, copy, "signature: ", "not a Sigstore bundle that can be read")


def test_a_truncated_bundle(judge: Judge, copy: Copy) -> None:
    bundles = copy.bundles()
    copy.attach({**bundles, COSIGN: bundles[COSIGN][:-20]})
    rejected(judge, copy, "signature: ", "not a Sigstore bundle that can be read")


def test_the_size_of_a_proof_and_of_its_checkpoint(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    """A tree that is called larger, in a proof that fits both sizes: only the checkpoint tells."""
    bundle = json.loads(forger.state(copy, COSIGN, {}))
    proof = _inner(bundle, PROOF)
    size = int(proof["treeSize"])
    # While the path from the leaf has the same shape, the library's proof holds for any size.
    for other in (size + 1, size - 1, size + 2):
        changed = copying.deepcopy(bundle)
        _inner(changed, PROOF)["treeSize"] = str(other)
        copy.attach({**copy.bundles(), COSIGN: json.dumps(changed).encode()})
        rejected(judge, copy, "signature: ")


# Whom and what the verifier believes.


@pytest.mark.parametrize("identity", ["other@example.org", IDENTITY[:-1], "example.org", ""])
def test_another_identity(judge: Judge, copy: Copy, identity: str) -> None:
    wanted = replace(judge, identities=(identity,))
    rejected(wanted, copy, "signature: ", f"signed by {IDENTITY}")


@pytest.mark.parametrize("issuer", ["https://issuer.example.org", "https://"])
def test_another_issuer(judge: Judge, copy: Copy, issuer: str) -> None:
    rejected(replace(judge, issuer=issuer), copy, "signature: ", f"vouched for by {issuer}")


def test_a_foreign_root(judge: Judge, copy: Copy, stranger: Forger) -> None:
    wanted = replace(judge, believed=stranger.believed, issuer=stranger.domain.issuer)
    rejected(wanted, copy, "signature: ", "signed provenance: ", "signed sbom: ")


def test_a_stranger_with_the_same_name(judge: Judge, copy: Copy, stranger: Forger) -> None:
    """Whoever makes a trust domain of their own may call themselves what they like."""
    bundles = {
        kind: stranger.state(copy, kind, payload(data)["predicate"])
        for kind, data in copy.bundles().items()
    }
    copy.attach(bundles)
    rejected(judge, copy, "signature: ", "signed provenance: ", "signed sbom: ")


LONG_AGO = {"start": "2001-01-01T00:00:00Z", "end": "2002-01-01T00:00:00Z"}
OFFICES = {
    "certificateAuthorities": ("validFor", "the certificate authority was not in office"),
    "timestampAuthorities": ("validFor", "times"),
    "tlogs": ("publicKey", "the log's key was not in office"),
}


@pytest.mark.parametrize("role", sorted(OFFICES))
def test_who_was_not_in_office(judge: Judge, copy: Copy, role: str) -> None:
    key, message = OFFICES[role]
    entries = judge.root()[role]
    for entry in entries:
        if key == "publicKey":
            entry[key]["validFor"] = LONG_AGO
        else:
            entry[key] = LONG_AGO
    rejected(judge.believing(**{role: entries}), copy, "signature: ", message)


@pytest.mark.parametrize("role", ["certificateAuthorities", "ctlogs", "timestampAuthorities"])
def test_a_root_that_lacks_something(judge: Judge, copy: Copy, stranger: Forger, role: str) -> None:
    """Emptied, or filled by a stranger."""
    root = json.loads(stranger.believed.model.to_json())
    rejected(judge.believing(**{role: root[role]}), copy, "signature: ")
    if role == "timestampAuthorities":
        rejected(judge.believing(**{role: []}), copy, "signature: ")


def test_a_log_of_a_stranger(judge: Judge, copy: Copy, stranger: Forger) -> None:
    root = json.loads(stranger.believed.model.to_json())
    rejected(judge.believing(tlogs=root["tlogs"]), copy, "signature: ", "log")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(builder="https://builder.example.org"), "not by https://builder.example.org"),
        (Policy(source="git+https://example.org/x.git"), "not from git+https://example.org/x.git"),
    ],
)
def test_a_policy_that_is_not_met(judge: Judge, copy: Copy, policy: Policy, message: str) -> None:
    rejected(replace(judge, policy=policy), copy, "origin: ", message)


def test_a_tree_that_was_not_clean(judge: Judge, copy: Copy, forger: Forger) -> None:
    def change(predicate: Json) -> None:
        for entry in predicate["buildDefinition"]["resolvedDependencies"]:
            if entry.get("name") == "source":
                entry["annotations"]["clean"] = False

    restate(copy, forger, PROVENANCE, change)
    assert judge.problems(copy) == []
    wanted = replace(judge, policy=Policy(require_clean=True))
    rejected(wanted, copy, "origin: built from a tree that no commit describes")


def test_other_locks_than_the_verifiers(judge: Judge, copy: Copy, tmp_path: Path) -> None:
    mine = tmp_path / "checkout"
    assert judge.checkout is not None
    for name in ("images", "locks", "base"):
        link_tree(judge.checkout / name, mine / name)
    lock = mine / "locks" / IMAGE / "pylock.toml"
    text = lock.read_text(encoding="utf-8")
    lock.unlink()
    lock.write_text(text.replace("0.8.4.2", "0.8.4.1"), encoding="utf-8")
    rejected(replace(judge, checkout=mine), copy, f"checkout: locks/{IMAGE}/pylock.toml: another")
    lock.unlink()
    rejected(replace(judge, checkout=mine), copy, f"checkout: locks/{IMAGE}/pylock.toml: not in")


# A builder who signs what is not true.


def restate(copy: Copy, forger: Forger, kind: str, change: Callable[[Json], None]) -> None:
    """Sign one of the image's statements again, with another predicate."""
    bundles = copy.bundles()
    predicate = payload(bundles[kind])["predicate"]
    change(predicate)
    copy.attach({**bundles, kind: forger.state(copy, kind, predicate)})


def _dependencies(predicate: Json) -> list[Json]:
    found: list[Json] = predicate["buildDefinition"]["resolvedDependencies"]
    return found


def _wheel(predicate: Json) -> Json:
    return next(d for d in _dependencies(predicate) if d["name"].endswith(".whl"))


def _file(predicate: Json, path: str) -> Json:
    return next(d for d in _dependencies(predicate) if d["name"] == path)


def _rewrite(path: str, change: Callable[[bytes], bytes]) -> Callable[[Json], None]:
    """Change a file the provenance carries, with its digest in order."""

    def edit(predicate: Json) -> None:
        entry = _file(predicate, path)
        data = change(base64.b64decode(entry["content"]))
        entry["content"] = base64.b64encode(data).decode()
        entry["digest"]["sha256"] = Digest.of(data).hex

    return edit


def _parameter(key: str, value: str) -> Callable[[Json], None]:
    def edit(predicate: Json) -> None:
        predicate["buildDefinition"]["externalParameters"][key] = value

    return edit


def _add(entry: Json) -> Callable[[Json], None]:
    return lambda predicate: _dependencies(predicate).append(entry)


EXTRA = {
    "uri": "pkg:pypi/extra@1",
    "name": "extra-1-py3-none-any.whl",
    "digest": {"sha256": "0" * 64},
    "annotations": {"size": 1},
}


def _carried(path: str) -> Json:
    return {"name": path, "digest": {"sha256": Digest.of(b"x").hex}, "content": "eA=="}


def _other_manifest(predicate: Json) -> None:
    entry = predicate["runDetails"]["byproducts"][0]
    entry["content"] = base64.b64encode(b"{}").decode()
    entry["digest"]["sha256"] = Digest.of(b"{}").hex


LOCK, SPEC = f"locks/{IMAGE}/pylock.toml", f"images/{IMAGE}.toml"
PROVENANCES: list[tuple[str, Callable[[Json], None], str]] = [
    ("an input less", lambda p: _dependencies(p).remove(_wheel(p)), "the provenance does not"),
    ("an input more", _add(EXTRA), "the provenance has pkg:pypi/extra@1"),
    ("an input twice", lambda p: _dependencies(p).append(_wheel(p)), "names an input twice"),
    ("another digest", lambda p: _wheel(p)["digest"].update(sha256="0" * 64), "the lock has sha"),
    ("another size", lambda p: _wheel(p)["annotations"].update(size=1), "the lock has sha256"),
    ("a changed lock", _rewrite(LOCK, lambda d: d.replace(b"whl", b"whk", 1)), "cannot be used"),
    ("a cut lock", _rewrite(LOCK, lambda d: d[:-100]), "cannot be used"),
    ("a changed spec", _rewrite(SPEC, lambda d: d.replace(b"cpu", b"gpu", 1)), "the locks give"),
    ("no lock", lambda p: _dependencies(p).remove(_file(p, LOCK)), "there is no lock"),
    ("another image", _parameter("image", OTHER), "cannot be used"),
    ("another base", _parameter("base", "ubuntu18.04-py37"), "cannot be used"),
    ("an accelerator", _parameter("accelerator", "cuda11.8"), "cannot be used"),
    ("a path to the image", _parameter("image", "../../etc/passwd"), "cannot be"),
    ("another parameter", _parameter("shell", "true"), "not a parameter of this build type"),
    ("another manifest", _other_manifest, "the manifest it carries is another image's"),
    ("a file too many", _add(_carried("images/zz.toml")), "which has no say in this image"),
    ("a file outside", _add(_carried("../x")), "not a path of a specification"),
    ("content and digest", lambda p: _file(p, LOCK).update(content="eA=="), "as beside it"),
    (
        "another build type",
        lambda p: p["buildDefinition"].update(buildType="https://example.org"),
        "buildDefinition.buildType: expected",
    ),
    ("no builder", lambda p: p["runDetails"].pop("builder"), "runDetails.builder"),
]


@pytest.mark.parametrize(
    ("change", "message"), [p[1:] for p in PROVENANCES], ids=[p[0] for p in PROVENANCES]
)
def test_provenance_that_is_not_true(
    judge: Judge, copy: Copy, forger: Forger, change: Callable[[Json], None], message: str
) -> None:
    restate(copy, forger, PROVENANCE, change)
    rejected(replace(judge, checkout=None), copy, message)


def _component(predicate: Json, name: str) -> Json:
    return next(c for c in predicate["components"] if c["name"] == name)


def _layer_property(predicate: Json) -> None:
    first, second = _component(predicate, "flask"), _component(predicate, "werkzeug")
    first["properties"] = second["properties"]


SBOMS: list[tuple[str, Callable[[Json], None], str]] = [
    ("a package less", lambda b: b["components"].remove(_component(b, "flask")), "flask"),
    ("a .deb less", lambda b: b["components"].remove(_component(b, "libc6")), "libc6"),
    (
        "a package more",
        lambda b: b["components"].append(
            {"type": "library", "name": "extra", "version": "1", "purl": "pkg:pypi/extra@1"}
        ),
        "extra",
    ),
    ("another version", lambda b: _component(b, "flask").update(version="9"), "flask"),
    ("another layer", _layer_property, "flask"),
    ("a package twice", lambda b: b["components"].append(_component(b, "flask")), "flask"),
    (
        "another image",
        lambda b: b["metadata"]["component"].update(version="sha256:" + "0" * 64),
        "sbom: ",
    ),
    ("no components", lambda b: b.pop("components"), "sbom: "),
    ("nonsense", lambda b: b.update(components=7), "sbom: "),
    ("no metadata", lambda b: b.pop("metadata"), "sbom: "),
]


@pytest.mark.parametrize(("change", "message"), [s[1:] for s in SBOMS], ids=[s[0] for s in SBOMS])
def test_an_sbom_that_is_not_true(
    judge: Judge, copy: Copy, forger: Forger, change: Callable[[Json], None], message: str
) -> None:
    restate(copy, forger, SBOM, change)
    said = judge.problems(copy)
    assert any(p.startswith("sbom: ") and message in p for p in said), said


def test_an_sbom_of_another_image(judge: Judge, copy: Copy, forger: Forger) -> None:
    other = payload(Copy(copy.root, OTHER).bundles()[SBOM])["predicate"]
    copy.attach({**copy.bundles(), SBOM: forger.state(copy, SBOM, other)})
    rejected(judge, copy, "sbom: ")


def _stated(copy: Copy, kind: str, name: str, digest: Digest) -> bytes:
    return statement(name, digest, kind, payload(copy.bundles()[kind])["predicate"])


def test_a_statement_about_another_digest(judge: Judge, copy: Copy, forger: Forger) -> None:
    title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
    data = _stated(copy, COSIGN, title, Digest("0" * 64, 1))
    copy.attach({**copy.bundles(), COSIGN: forger.sign(data)})
    rejected(judge, copy, "signature: ", "it is about sha256:0000")


def test_a_statement_under_another_name(judge: Judge, copy: Copy, forger: Forger) -> None:
    data = _stated(copy, COSIGN, "azureml/other", copy.digest)
    copy.attach({**copy.bundles(), COSIGN: forger.sign(data)})
    rejected(judge, copy, "signature: ", "it calls the image 'azureml/other'")


def test_a_statement_about_two_images(judge: Judge, copy: Copy, forger: Forger) -> None:
    title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
    document = json.loads(_stated(copy, COSIGN, title, copy.digest))
    document["subject"].append({"name": "x", "digest": {"sha256": "0" * 64}})
    copy.attach({**copy.bundles(), COSIGN: forger.sign(canonical_json(document))})
    rejected(judge, copy, "signature: ", "it is about ")


def test_a_signed_payload_that_is_no_statement(judge: Judge, copy: Copy, forger: Forger) -> None:
    """The provenance's place taken by a statement of another type."""
    title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
    data = statement(title, copy.digest, "https://example.org/x", {})
    copy.attach({**copy.bundles(), PROVENANCE: forger.sign(data)})
    rejected(judge, copy, "signed provenance: ", f"filed as {PROVENANCE}")


# Layers a builder changed, and signed over: documents are in order, contents are not.

Edit = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def _repacked(data: bytes, edit: Edit) -> tuple[bytes, str]:
    """The layer with its members edited; and its diff_id."""
    members = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            members.append((member, content.read() if content else b""))
    edit(members)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content_bytes in members:
            member.size = len(content_bytes)
            tar.addfile(member, io.BytesIO(content_bytes))
    return gzip.compress(plain.getvalue(), mtime=0), Digest.of(plain.getvalue()).hex


def _member(members: list[tuple[tarfile.TarInfo, bytes]], end: str) -> int:
    return next(n for n, (member, _) in enumerate(members) if member.name.endswith(end))


def _changed(end: str, data: bytes = b"import os\n") -> Edit:
    def edit(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        number = _member(members, end)
        members[number] = (members[number][0], data)

    return edit


def _removed(end: str) -> Edit:
    return lambda members: members.pop(_member(members, end)) and None


def _added(name: str, data: bytes = b"x", **fields: Any) -> Edit:
    def edit(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(member, key, value)
        members.append((member, data if member.isfile() else b""))

    return edit


def repack(copy: Copy, forger: Forger, title: str, edit: Edit) -> None:
    """Change one layer, and sign everything again: true in all but what the layer holds."""
    manifest = copy.manifest()
    titles = [
        entry["annotations"]["org.opencontainers.image.title"] for entry in manifest["layers"]
    ]
    number = next(n for n, one in enumerate(titles) if one.lower().startswith(title))
    old = manifest["layers"][number]["digest"]
    old_diff_id = copy.config()["rootfs"]["diff_ids"][number]
    data, diff_id = _repacked(copy.blob(old), edit)
    predicates = {kind: payload(b)["predicate"] for kind, b in copy.bundles().items()}
    copy.become_layer(number, data, diff_id)
    entry = predicates[PROVENANCE]["runDetails"]["byproducts"][0]
    manifest_bytes = copy.blob(copy.digest.oci)
    entry["content"] = base64.b64encode(manifest_bytes).decode()
    entry["digest"]["sha256"] = Digest.of(manifest_bytes).hex
    text = json.dumps(predicates[SBOM])
    text = text.replace(old.removeprefix("sha256:"), Digest.of(data).hex)
    text = text.replace(old_diff_id.removeprefix("sha256:"), diff_id)
    predicates[SBOM] = json.loads(text.replace(payload_digest(predicates[SBOM]), copy.digest.hex))
    copy.attach({kind: forger.state(copy, kind, p) for kind, p in predicates.items()})


SITE = "opt/python/lib/python3.7/site-packages"
LAYERS: list[tuple[str, str, Edit, str]] = [
    ("a module changed", "flask ", _changed("flask/app.py"), "flask/app.py"),
    ("a module gone", "flask ", _removed("flask/app.py"), "flask/app.py"),
    ("a module more", "flask ", _added(f"{SITE}/flask/evil.py"), "flask/evil.py"),
    ("bytecode changed", "flask ", _changed("__pycache__/app.cpython-37.pyc"), "flask"),
    ("RECORD gone", "flask ", _removed("dist-info/RECORD"), "RECORD"),
    ("a start-up hook", "flask ", _added(f"{SITE}/evil.pth", b"import evil\n"), "evil.pth"),
    ("a file elsewhere", "flask ", _added("etc/cron.d/evil"), "etc/cron.d/evil"),
    ("a whiteout", "flask ", _added("etc/.wh.passwd", b""), ".wh.passwd"),
    ("a device", "flask ", _added("dev/x", type=tarfile.CHRTYPE), "dev/x"),
    ("a path that escapes", "flask ", _added("../evil"), "../evil"),
    ("a program of the system", "debian12-py37 system", _changed("usr/bin/bash"), "usr/bin/bash"),
    ("users", "debian12-py37 system", _changed("etc/passwd"), "etc/passwd"),
    ("a setuid program", "contract", _added("usr/bin/evil", mode=0o4755), "usr/bin/evil"),
    ("the supervisor", "contract", _changed("usr/local/bin/runsvdir"), "runsvdir"),
    (
        "the interpreter",
        "debian12-py37 python",
        _changed("lib/python3.7/os.py"),
        "debian12-py37 python",
    ),
]


@pytest.mark.parametrize(
    ("title", "edit", "message"), [c[1:] for c in LAYERS], ids=[c[0] for c in LAYERS]
)
def test_a_layer_that_holds_something_else(
    judge: Judge, copy: Copy, forger: Forger, title: str, edit: Edit, message: str
) -> None:
    repack(copy, forger, title, edit)
    said = judge.problems(copy)
    assert any(message in problem for problem in said), said
    # The forgery was good: signatures and provenance have nothing to say against it.
    assert all(p.startswith(("sbom: ", "blobs: ")) for p in said), said


def payload_digest(bom: Json) -> str:
    """The manifest digest (hexadecimal) that an SBOM is about."""
    version: str = bom["metadata"]["component"]["version"]
    return version.removeprefix("sha256:")


def test_a_config_the_builder_changed(judge: Judge, copy: Copy, forger: Forger) -> None:
    predicates = {kind: payload(b)["predicate"] for kind, b in copy.bundles().items()}
    config = copy.config()
    config["config"]["Env"].append("LD_PRELOAD=/tmp/x.so")
    copy.become(copy.manifest(), config)
    copy.attach({kind: forger.state(copy, kind, p) for kind, p in predicates.items()})
    rejected(judge, copy, "contract: config.config.Env")


def test_what_only_building_again_can_tell(
    judge: Judge, copy: Copy, forger: Forger, built: Checkout
) -> None:
    """A layer that is what the builder says it is, and not what the locks give."""
    evil = b"#!/bin/sh\nevil\n"
    repack(copy, forger, "contract", _changed("usr/local/bin/runsvdir", evil))
    path = built.root / "base" / "rootfs" / "usr" / "local" / "bin" / "runsvdir"
    good = path.read_bytes()
    text = json.dumps(payload(copy.bundles()[SBOM])["predicate"])
    text = text.replace(Digest.of(good).hex, Digest.of(evil).hex)
    bom = json.loads(text.replace(f'"{len(good)}"', f'"{len(evil)}"'))
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, copy.digest.oci).urn
    copy.attach({**copy.bundles(), SBOM: forger.state(copy, SBOM, bom)})
    assert judge.problems(copy) == []
    said = replace(judge, rebuild=True, inputs=built.ws.cache).problems(copy)
    assert all(problem.startswith("rebuild: ") for problem in said), said
    layer = "rebuild: layer 2 (contract): "
    assert f"{layer}/usr/local/bin/runsvdir: size is 15, rebuilt {len(good)}" in said
    assert any(
        one.startswith(f"{layer}/usr/local/bin/runsvdir: differs from byte 3 on: 62696e2f73680a65")
        for one in said
    )
