"""Bytes of a layout that somebody changed: blobs, documents, names, and what is attached."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest

from plinth.core.digest import canonical_json
from plinth.evidence.statement import COSIGN, PROVENANCE, SBOM
from support.forge import Copy, Json, Judge, rejected
from support.oci_images import as_before
from tampering.conftest import IMAGE, OTHER


def test_what_nobody_touched_is_verified(judge: Judge, copy: Copy) -> None:
    assert judge.problems(copy) == []
    assert judge.problems(Copy(copy.root, OTHER)) == []


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
    manifest["layers"][2], manifest["layers"][3] = manifest["layers"][3], manifest["layers"][2]
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


def user(name: str) -> Callable[[Copy], None]:
    """The image runs as another user."""

    def change(copy: Copy) -> None:
        config = copy.config()
        config["config"]["User"] = name
        copy.become(copy.manifest(), config)

    return change


def diff_id_changed(copy: Copy) -> None:
    config = copy.config()
    config["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64
    copy.become(copy.manifest(), config)


def diff_id_added(copy: Copy) -> None:
    config = copy.config()
    config["rootfs"]["diff_ids"].append(config["rootfs"]["diff_ids"][0])
    copy.become(copy.manifest(), config)


def no_layers(copy: Copy) -> None:
    copy.become({**copy.manifest(), "layers": []})


def layer_digest_is_none(copy: Copy) -> None:
    manifest = copy.manifest()
    manifest["layers"][1]["digest"] = "sha512:" + "0" * 128
    copy.become(manifest)


def layer_size_is_none(copy: Copy) -> None:
    manifest = copy.manifest()
    manifest["layers"][1]["size"] = "7"
    copy.become(manifest)


def annotations_are_a_list(copy: Copy) -> None:
    copy.become({**copy.manifest(), "annotations": []})


def another_schema(copy: Copy) -> None:
    copy.become({**copy.manifest(), "schemaVersion": 1})


def config_is_a_list(copy: Copy) -> None:
    descriptor = copy.put("application/vnd.oci.image.config.v1+json", b"[]")
    copy.become({**copy.manifest(), "config": descriptor})


def config_without_diff_ids(copy: Copy) -> None:
    config = copy.config()
    del config["rootfs"]
    copy.become(copy.manifest(), config)


def listing_missing(copy: Copy) -> None:
    copy.detach()


def listing_blob_missing(copy: Copy) -> None:
    (copy.root / copy.path(as_before(copy.store, copy.digest).oci)).unlink()


def listing_flipped(copy: Copy) -> None:
    digest = as_before(copy.store, copy.digest).oci
    copy.write(copy.path(digest), copy.blob(digest).replace(b"schemaVersion", b"schemaVersiom"))


def _listing(copy: Copy, change: Callable[[list[Json]], None]) -> None:
    """Change how what is attached is listed."""
    listed, index = copy.attached(), copy.index()
    others = [entry for entry in index["manifests"] if entry not in listed]
    change(listed)
    copy.write_index({**index, "manifests": [*others, *listed]})


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
                entry["annotations"].update(manifest["annotations"])

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
    digest = copy.attached()[0]["digest"]
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
    (config_truncated, "config: not JSON"),
    (config_missing, "manifest: "),
    (manifest_changed, "it is not what the index names"),
    (manifest_truncated, "it is not what the index names"),
    (manifest_missing, "manifest: "),
    (manifest_is_a_bomb, "not JSON"),
    (index_swapped, f"name: asked for '{IMAGE}', this is '{OTHER}'"),
    (index_truncated, "index.json"),
    (index_names_nothing, "manifest: "),
    (index_other_size, "it is not what the index names"),
    (index_without_the_image, f"no image is called '{IMAGE}'"),
    (marker_missing, "no OCI image layout here"),
    (annotation_changed, "signature: "),
    (title_changed, "signature: "),
    (layers_swapped, "blobs: not read: no valid signature"),
    (layer_added, "signature: "),
    (layer_removed, "signature: "),
    (layer_media_type, "layers[0] is not a descriptor of"),
    (user("0:0"), "user: it runs as root"),
    (user("00"), "user: it runs as root"),
    (user("+0:100"), "user: it runs as root"),
    (diff_id_changed, "blobs: not read: no valid signature"),
    (config_without_diff_ids, "no rootfs.diff_ids"),
    (diff_id_added, "blobs: not read: no valid signature"),
    (no_layers, "the manifest has no layers"),
    (layer_digest_is_none, "layers[1]: "),
    (layer_size_is_none, "layers[1]: "),
    (annotations_are_a_list, "annotations"),
    (another_schema, "the manifest is not of type"),
    (config_is_a_list, "config: not a JSON object"),
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
