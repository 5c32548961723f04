"""Bundles attached in a layout: cosign's layout byte for byte, found again, each damage named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.attached import Referrer
from plinth.formats.oci.documents import MAX_MANIFEST
from plinth.formats.oci.image import Image
from plinth.formats.oci.layout import read_index, references
from plinth.formats.oci.model import INDEX, MANIFEST, Descriptor
from plinth.formats.oci.referrers import (
    BUNDLE,
    CONTENT,
    EMPTY,
    EMPTY_CONFIG,
    PREDICATE,
    Bundles,
    artifact,
    attach,
    attach_to_layout,
    listing,
    payload,
    referrers_name,
)
from plinth.formats.oci.validate import validate
from support.oci_images import as_before, make_image

COSIGN = "https://sigstore.dev/cosign/sign/v1"
SLSA = "https://slsa.dev/provenance/v1"
TWO = [(COSIGN, b'{"a":1}'), (SLSA, b'{"b":2}')]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "oci")


@pytest.fixture
def image(store: BlobStore) -> Image:
    return make_image(store, "one")


def found_in(store: BlobStore, name: str = "one") -> list[Referrer]:
    with open_source(f"oci:{store.root}:{name}", Config()) as source:
        return list(source.referrers(BUNDLE))


def test_the_artifact_is_laid_out_as_cosign_does() -> None:
    subject = Descriptor(MANIFEST, Digest("a" * 64, 7), {"left": "out"})
    made = artifact(subject, COSIGN, b'{"a":1}')
    bundle = "sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert json.loads(made.manifest) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": bundle,
                "size": 7,
                "annotations": {
                    "org.opencontainers.image.title": bundle.replace(":", "-") + ".sigstore.json"
                },
            }
        ],
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:" + "a" * 64,
            "size": 7,
        },
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
        },
    }
    assert made.digest.hex == "757c45bb079d3733466ab05f9250283fd8d9e9e4758b3c7ca82a1561a6127b15"


def test_bundles_are_listed_beside_the_image_and_have_no_name(
    store: BlobStore, image: Image
) -> None:
    made = attach_to_layout(store, image.manifest, TWO)
    assert list(references(store)) == ["one"]
    one, *bundles = entries_of(store)
    assert one["annotations"] == {
        "io.containerd.image.name": "docker.io/team/one:latest",
        "org.opencontainers.image.ref.name": "one",
    }
    kinds = {digest.oci: kind for digest, (kind, _) in zip(made, TWO, strict=True)}
    assert bundles == [
        {
            "mediaType": MANIFEST,
            "digest": digest.oci,
            "size": digest.size,
            "annotations": {
                CONTENT: "dsse-envelope",
                PREDICATE: kinds[digest.oci],
                "io.containerd.manifest.subject": image.manifest.digest.oci,
            },
            "artifactType": BUNDLE,
        }
        for digest in sorted(made)
    ]
    assert validate(store.root) == []


def test_the_list_of_a_registry_is_in_the_order_of_go(image: Image) -> None:
    made = [artifact(image.manifest, kind, bundle) for kind, bundle in TWO]
    index = json.loads(listing([], made))
    assert list(index) == ["schemaVersion", "mediaType", "manifests"]
    assert [list(entry) for entry in index["manifests"]] == [
        ["mediaType", "digest", "size", "annotations", "artifactType"]
    ] * 2
    assert [entry["digest"] for entry in index["manifests"]] == sorted(d.digest.oci for d in made)


def test_the_list_that_earlier_versions_wrote_is_read_and_taken_over(
    store: BlobStore, image: Image
) -> None:
    attach_to_layout(store, image.manifest, TWO)
    now = (store.root / "index.json").read_bytes()
    found = found_in(store)
    as_before(store, image.manifest.digest)
    names = [e["annotations"]["org.opencontainers.image.ref.name"] for e in entries_of(store)]
    assert names == ["one", referrers_name(image.manifest.digest)]
    assert references(store)["one"].image_name == "team/one:latest"
    assert found_in(store) == found
    assert validate(store.root) == []
    attach_to_layout(store, image.manifest, TWO[:1])
    make_image(store, "one")
    assert (store.root / "index.json").read_bytes() == now


def test_an_image_that_claims_to_be_attached_keeps_its_name(store: BlobStore, image: Image) -> None:
    claim = {"io.containerd.manifest.subject": image.manifest.digest.oci}
    other = make_image(store, "two")
    edit_index(store, lambda entries: entries[1]["annotations"].update(claim))
    attach_to_layout(store, image.manifest, TWO[:1])
    assert references(store)["two"].manifest == other.manifest.digest
    assert [one.data for one in found_in(store)] == [TWO[0][1]]


def test_an_attached_thing_never_keeps_a_name_that_a_list_gave_it(
    store: BlobStore, image: Image
) -> None:
    made = artifact(image.manifest, *TWO[0])
    names = {"io.containerd.image.name": "debian", "org.opencontainers.image.ref.name": "debian"}
    index: list[dict[str, Any]] = []
    attach(index, image.manifest.digest, [{**made.entry, "annotations": names}], store)
    assert [entry["annotations"] for entry in index] == [
        {"io.containerd.manifest.subject": image.manifest.digest.oci}
    ]


def test_what_is_attached_is_found(store: BlobStore, image: Image) -> None:
    made = attach_to_layout(store, image.manifest, TWO)
    found = {one.predicate_type: one for one in found_in(store)}
    assert {kind: (one.data, one.problems) for kind, one in found.items()} == {
        kind: (data, ()) for kind, data in TWO
    }
    assert [found[kind].digest for kind, _ in TWO] == made


def test_the_same_bundle_twice_is_attached_once(store: BlobStore, image: Image) -> None:
    first = attach_to_layout(store, image.manifest, TWO)
    before = (store.root / "index.json").read_bytes()
    assert attach_to_layout(store, image.manifest, TWO) == first
    assert attach_to_layout(store, image.manifest, TWO[:1], replace=True) == first[:1]
    assert (store.root / "index.json").read_bytes() == before


def test_the_order_in_which_bundles_come_does_not_matter(tmp_path: Path) -> None:
    written = []
    for name, bundles in (("1", TWO), ("2", TWO[::-1])):
        store = BlobStore(tmp_path / name)
        image = make_image(store, "one")
        for bundle in bundles:
            attach_to_layout(store, image.manifest, [bundle])
        written.append((store.root / "index.json").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("replace", [True, False])
def test_a_newer_bundle_takes_the_place_of_older_ones_if_asked(
    store: BlobStore, image: Image, replace: bool
) -> None:
    attach_to_layout(store, image.manifest, TWO)
    attach_to_layout(store, image.manifest, [(COSIGN, b'{"new":1}')], replace=replace)
    found = sorted((one.predicate_type, one.data) for one in found_in(store))
    old = [] if replace else [TWO[0]]
    assert found == sorted([*old, (COSIGN, b'{"new":1}'), TWO[1]])
    assert validate(store.root) == []


def test_each_image_has_its_own(store: BlobStore, image: Image) -> None:
    other = make_image(store, "two")
    attach_to_layout(store, image.manifest, TWO[:1])
    attach_to_layout(store, other.manifest, TWO[1:])
    assert [one.data for one in found_in(store, "one")] == [TWO[0][1]]
    assert [one.data for one in found_in(store, "two")] == [TWO[1][1]]
    make_image(store, "one", title="built again")
    assert found_in(store, "one") == []
    assert validate(store.root) == []


def test_referrers_that_the_index_lists_itself_are_found(store: BlobStore, image: Image) -> None:
    made = artifact(image.manifest, *TWO[0])
    store.put(made.bundle)
    store.put(made.manifest)
    edit_index(store, lambda entries: entries.append(made.entry))
    assert [one.data for one in found_in(store)] == [TWO[0][1]]


def entries_of(store: BlobStore) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = read_index(store)["manifests"]
    return entries


def attach_directly(store: BlobStore, image: Image, bundles: Bundles) -> list[Digest]:
    return attach_to_layout(store, image.manifest, bundles)


def attach_in_a_list(store: BlobStore, image: Image, bundles: Bundles) -> list[Digest]:
    """Attach bundles as earlier versions did."""
    made = attach_to_layout(store, image.manifest, bundles)
    as_before(store, image.manifest.digest)
    return made


def listed_digest(store: BlobStore) -> Digest:
    entry = entries_of(store)[-1]
    return Digest(entry["digest"].removeprefix("sha256:"), entry["size"])


def edit_index(store: BlobStore, change: Callable[[list[Any]], object]) -> None:
    document = read_index(store)
    change(document["manifests"])
    (store.root / "index.json").write_text(json.dumps(document))


def relist(store: BlobStore, change: Callable[[list[Any]], object]) -> None:
    """Change what is listed as attached; of an index of its own, name the one that comes of it."""
    if entries_of(store)[-1]["mediaType"] != INDEX:
        listed = entries_of(store)[1:]
        change(listed)
        edit_index(store, lambda entries: entries.__setitem__(slice(1, None), listed))
        return
    index = json.loads(store.get(listed_digest(store)))
    change(index["manifests"])
    digest = store.put(json.dumps(index).encode())
    edit_index(store, lambda entries: entries[-1].update(digest=digest.oci, size=digest.size))


def remake(store: BlobStore, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of the one referrer, and list the one that comes of it."""

    def replace(entries: list[Any]) -> None:
        old = Digest(entries[0]["digest"].removeprefix("sha256:"), entries[0]["size"])
        manifest = json.loads(store.get(old))
        change(manifest)
        digest = store.put(json.dumps(manifest).encode())
        entries[0].update(digest=digest.oci, size=digest.size)

    relist(store, replace)


def _set(*path: str | int, to: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


both_forms = pytest.mark.parametrize("form", [attach_directly, attach_in_a_list])
Attach = Callable[[BlobStore, Image, Bundles], list[Digest]]
WRONG = {"mediaType": BUNDLE, "digest": "sha256:" + "0" * 64, "size": 3}


@both_forms
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("artifactType", to="text/plain"), "is not of type"),
        (_set("artifactType", to="a/type"), "is not of type"),
        (_set("subject", to=WRONG), "it refers to sha256:0000"),
        (_set("subject", "size", to=1), "it refers to sha256:"),
        (_set("subject", to=None), "it refers to nothing, not to sha256:"),
        (_set("layers", to=[]), "has not one layer"),
        (_set("layers", to=[WRONG, WRONG]), "has not one layer"),
        (_set("layers", to=3), "the manifest has no layers"),
        (_set("layers", to=[WRONG]), "there is no file"),
        (_set("layers", 0, "digest", to="sha256:../../oci-layout"), "not a descriptor"),
        (_set("layers", 0, "size", to=6), "its layer is sha256:"),
        (_set("layers", 0, "size", to=1 << 40), "are too many"),
        (_set("layers", 0, "mediaType", to="text/plain"), "its layer is of type 'text/plain'"),
        (_set("annotations", PREDICATE, to=SLSA), f"its manifest says '{SLSA}'"),
        (_set("annotations", CONTENT, to="message-signature"), "its manifest says 'message-"),
        (_set("annotations", to=3), "its annotations are not texts"),
    ],
)
def test_a_manifest_that_is_not_as_it_should_be_is_a_problem(
    store: BlobStore,
    image: Image,
    form: Attach,
    change: Callable[[Any], None],
    message: str,
) -> None:
    form(store, image, TWO[:1])
    remake(store, change)
    (found,) = found_in(store)
    assert message in " ".join(found.problems)
    assert validate(store.root) != []


@both_forms
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(0, "annotations", PREDICATE, to=SLSA), f"is listed as '{SLSA}'"),
        (_set(0, "digest", to="sha256:" + "0" * 64), "there is no file"),
        (_set(0, "digest", to=3), "not a descriptor"),
        (_set(0, "size", to=1), "its manifest is not what is listed"),
        (_set(0, "size", to=1 << 40), "are too many"),
    ],
)
def test_a_list_that_is_not_as_it_should_be_is_a_problem(
    store: BlobStore,
    image: Image,
    form: Attach,
    change: Callable[[Any], None],
    message: str,
) -> None:
    form(store, image, TWO[:1])
    relist(store, change)
    assert message in " ".join(problem for one in found_in(store) for problem in one.problems)
    assert validate(store.root) != []


def test_a_list_of_nonsense_is_a_problem(store: BlobStore, image: Image) -> None:
    attach_in_a_list(store, image, TWO[:1])
    relist(store, _set(0, to=3))
    (found,) = found_in(store)
    assert "not an OCI image index" in found.problems[0]
    assert validate(store.root) != []


def test_a_list_without_what_older_tools_leave_out_is_as_good(
    store: BlobStore, image: Image
) -> None:
    attach_in_a_list(store, image, TWO)
    relist(
        store, lambda entries: [e.pop(k) for e in entries for k in ("artifactType", "annotations")]
    )
    assert sorted((one.predicate_type, one.problems) for one in found_in(store)) == [
        (COSIGN, ()),
        (SLSA, ()),
    ]
    assert validate(store.root) == []


def test_an_artifact_of_another_type_is_none_of_ours(store: BlobStore, image: Image) -> None:
    attach_in_a_list(store, image, TWO[:1])
    other = store.put(b'{"artifactType": "text/plain"}')
    entry = {"mediaType": MANIFEST, "digest": other.oci, "size": other.size}
    more = [entry, {**entry, "artifactType": "text/plain"}]
    relist(store, lambda entries: entries.extend(more))
    assert [one.data for one in found_in(store)] == [TWO[0][1]]
    relist(store, lambda entries: entries.reverse())
    assert [one.data for one in found_in(store)] == [TWO[0][1]]


@pytest.mark.parametrize("damage", ["flip", "truncate", "grow", "delete"])
@pytest.mark.parametrize("what", ["list", "manifest", "bundle", "config"])
def test_damage_is_found(store: BlobStore, image: Image, what: str, damage: str) -> None:
    (digest,) = attach_in_a_list(store, image, TWO[:1])
    path = store.path(
        {
            "list": listed_digest(store),
            "manifest": digest,
            "bundle": Digest.of(TWO[0][1]),
            "config": Digest.of(b"{}"),
        }[what]
    )
    data = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        changed = {"flip": bytes([data[0] ^ 1]) + data[1:], "truncate": data[:-1]}
        path.write_bytes(changed.get(damage, data + b"\n"))
    assert len(validate(store.root)) == 1
    if what != "config":  # of no meaning, and not read
        (found,) = found_in(store)
        assert found.problems


def test_a_damaged_list_is_not_written_over(store: BlobStore, image: Image) -> None:
    attach_in_a_list(store, image, TWO[:1])
    path = store.path(listed_digest(store))
    path.write_bytes(b"{}")
    before = (store.root / "index.json").read_bytes()
    with pytest.raises(IntegrityError):
        attach_to_layout(store, image.manifest, TWO[1:])
    assert (store.root / "index.json").read_bytes() == before


def test_validation_refuses_any_other_config_than_the_empty_one(
    store: BlobStore, image: Image
) -> None:
    attach_in_a_list(store, image, TWO[:1])
    assert validate(store.root) == []
    others = sorted((f'{{"n":{number}}}'.encode() for number in range(20)), key=Digest.of)
    # One whose digest sorts before the empty config's, one whose digest sorts behind it.
    before, behind = others[0], others[-1]
    assert Digest.of(before) < Digest.of(EMPTY_CONFIG) < Digest.of(behind)
    for config in (before, behind):
        digest = store.put(config)
        change = {"mediaType": EMPTY, "digest": digest.oci, "size": digest.size}
        remake(store, _set("config", to=change))
        (problem,) = validate(store.root)
        assert problem.path.endswith(".config")
        assert problem.message == "not the empty config"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_set("mediaType", to=MANIFEST), "mediaType is not"),
        (_set("schemaVersion", to=1), "schemaVersion is not 2"),
        (_set("manifests", to={}), "expected a list"),
        (lambda index: index["manifests"].append(index["manifests"][0]), "listed twice"),
        (_set("manifests", 0, "artifactType", to="x"), "listed with another artifactType"),
        (_set("manifests", 0, "mediaType", to=INDEX), f"expected a descriptor of {MANIFEST}"),
    ],
)
def test_validation_reads_the_list(
    store: BlobStore, image: Image, change: Callable[[Any], None], problem: str
) -> None:
    attach_in_a_list(store, image, TWO[:1])
    index = json.loads(store.get(listed_digest(store)))
    change(index)
    digest = store.put(json.dumps(index).encode())
    edit_index(store, lambda entries: entries[-1].update(digest=digest.oci, size=digest.size))
    (found,) = validate(store.root)
    assert problem in found.message
    assert found.path.startswith("index.json: manifests[1]")


def test_validation_refuses_an_index_or_artifact_under_another_name(
    store: BlobStore, image: Image
) -> None:
    made = attach_in_a_list(store, image, TWO[:1])
    edit_index(
        store,
        lambda entries: entries[-1]["annotations"].update(
            {"org.opencontainers.image.ref.name": "signatures"}
        ),
    )
    (problem,) = validate(store.root)
    assert problem.message == f"expected a descriptor of {MANIFEST}"
    edit_index(
        store,
        lambda entries: entries[-1].update(
            mediaType=MANIFEST, digest=made[0].oci, size=made[0].size
        ),
    )
    (problem,) = validate(store.root)
    assert problem.path == "index.json: manifests[1].config"


def test_attaching_to_nothing_is_possible_and_valid(store: BlobStore) -> None:
    # Signatures may come before the image (distribution-spec, "Pushing Manifests with Subject").
    attach_to_layout(store, Descriptor(MANIFEST, Digest("a" * 64, 7)), TWO)
    assert validate(store.root) == []
    with pytest.raises(LayoutError, match="found no images"):
        found_in(store, "")


def test_the_payload_of_a_bundle_is_read() -> None:
    assert payload(b'{"dsseEnvelope": {"payload": "e30="}}') == b"{}"


@pytest.mark.parametrize(
    "bundle",
    [
        b"{",
        b"[" * 200_000,
        b"\xff",
        b"[]",
        b"{}",
        b'{"dsseEnvelope": 3}',
        b'{"dsseEnvelope": {"payload": 3}}',
        b'{"dsseEnvelope": {"payload": "e3"}}',
        b'{"dsseEnvelope": {"payload": "e3 0="}}',
    ],
)
def test_a_bundle_without_a_payload_is_refused(bundle: bytes) -> None:
    with pytest.raises(LayoutError, match="not a bundle with a statement in it"):
        payload(bundle)


def test_a_bundle_larger_than_a_manifest_may_be_is_valid(store: BlobStore, image: Image) -> None:
    bundle = b'{"a":"%s"}' % (b"x" * MAX_MANIFEST)
    attach_to_layout(store, image.manifest, [(COSIGN, bundle)])
    assert [one.data for one in found_in(store)] == [bundle]
    assert validate(store.root) == []
