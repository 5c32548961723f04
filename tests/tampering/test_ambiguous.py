"""Images about which two readers would differ: an engine runs another one than is looked at.

N1 to N8 are names of tricks by which engines, or tools of theirs, were seen to take another image.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.digest import canonical_json
from plinth.evidence.statement import COSIGN
from plinth.evidence.verify.request import RawBundle
from plinth.formats.oci.model import CONFIG, INDEX, MANIFEST
from support.fake_registry import FakeRegistry, fake_registry
from support.forge import Copy, Forger, Json, Judge, payload, rejected, resigned
from support.small_checkout import SmallCheckout
from tampering.conftest import IMAGE, OTHER

REF, NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"
ARTIFACT = "application/vnd.example"


def index_of(manifests: list[Json]) -> bytes:
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [*manifests]})


def entries(copy: Copy, change: Callable[[list[Json], Json, Json], None]) -> None:
    """Change the entries of index.json: all, the image's, and one of another image."""
    index = copy.index()
    ours = next(e for e in index["manifests"] if e["annotations"][REF] == IMAGE)
    other = {**Copy(copy.root, OTHER).entry(), "annotations": dict(ours["annotations"])}
    change(index["manifests"], ours, other)
    copy.write_index(index)


def two_alike(copy: Copy) -> None:
    entries(copy, lambda listed, ours, other: listed.append(other))


def one_without_a_platform(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        del other["platform"]
        listed.insert(0, other)

    entries(copy, change)


def ours_without_a_platform(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        del ours["platform"]
        listed.append(other)

    entries(copy, change)


def one_of_another_platform(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        other["platform"]["architecture"] = "arm64"
        listed.insert(0, other)

    entries(copy, change)


def one_marked_an_artifact(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        listed.insert(0, {**other, "artifactType": ARTIFACT})

    entries(copy, change)


def one_of_an_unknown_type(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        listed.insert(0, {**other, "mediaType": ARTIFACT})

    entries(copy, change)


def one_in_an_index(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        made = copy.put(INDEX, index_of([other]))
        listed.insert(0, {**made, "annotations": {REF: IMAGE}})

    entries(copy, change)


def one_of_the_engines_name(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        name = ours["annotations"][NAME].removeprefix("docker.io/")
        listed.append({**other, "annotations": {REF: "x", NAME: f"docker.io/{name}"}})

    entries(copy, change)


def one_that_engines_take_by_its_reference(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        listed.append({**other, "annotations": {REF: ours["annotations"][NAME]}})

    entries(copy, change)


def one_of_the_published_name(copy: Copy) -> None:
    """Engines know the image by `small` alone, and another by the name it is published as."""

    def change(listed: list[Json], ours: Json, other: Json) -> None:
        name = ours["annotations"].pop(NAME)
        listed.append({**other, "annotations": {REF: "x", NAME: name}})

    entries(copy, change)


def an_index_of_the_published_name(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        name = ours["annotations"].pop(NAME)
        made = copy.put(INDEX, index_of([other]))
        noted = {REF: "sha256-" + "0" * 64, NAME: name}
        listed.append({**made, "annotations": noted})

    entries(copy, change)


def its_entry_again_under_another_name(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        nginx = {REF: "x", NAME: "docker.io/library/nginx:latest"}
        listed.append({**ours, "annotations": nginx})

    entries(copy, change)


def another_name_for_engines(copy: Copy) -> None:
    copy.edit_entry(annotations={REF: IMAGE, NAME: "docker.io/library/nginx:latest"})


def text(old: str, new: str) -> Callable[[Copy], None]:
    """Change the text of index.json."""

    def change(copy: Copy) -> None:
        data = (copy.root / "index.json").read_text()
        assert old in data
        copy.write("index.json", data.replace(old, new, 1).encode())

    return change


def one_of_an_escaped_name(copy: Copy) -> None:
    two_alike(copy)
    text(f"{json.dumps(IMAGE)}", f'"\\u00{ord(IMAGE[0]):x}{IMAGE[1:]}"')(copy)


def one_marked_as_nothing(copy: Copy) -> None:
    def change(listed: list[Json], ours: Json, other: Json) -> None:
        listed.insert(0, {**other, "artifactType": None})

    entries(copy, change)


def an_index_that_nobody_runs(copy: Copy) -> None:
    """The only entry of an index is an index for no platform."""

    def change(listed: list[Json], ours: Json, other: Json) -> None:
        inner = copy.put(INDEX, index_of([_bare(ours, **AMD64)]))
        made = copy.put(INDEX, index_of([{**inner, **platform("unknown", "unknown")}]))
        listed[listed.index(ours)] = {**made, "annotations": ours["annotations"]}

    entries(copy, change)


def another_digest(key: str) -> Callable[[Copy], None]:
    """Give the image's entry a second digest, under the key."""

    def change(copy: Copy) -> None:
        entry = json.dumps(copy.digest.oci)
        other = json.dumps(Copy(copy.root, OTHER).digest.oci)
        text(f'"digest": {entry}', f'"digest": {entry}, "{key}": {other}')(copy)

    return change


def nested(*others: Json) -> Callable[[Copy], None]:
    """Let the name be of an unsigned index: of other images, described so, and of ours."""

    def change(copy: Copy) -> None:
        def inner(listed: list[Json], ours: Json, other: Json) -> None:
            del other["annotations"], other["platform"]
            shown = {key: ours[key] for key in ("mediaType", "digest", "size", "platform")}
            manifests = [*({**other, **more} for more in others), shown]
            made = copy.put(INDEX, index_of(manifests))
            listed[listed.index(ours)] = {**made, "annotations": ours["annotations"]}

        entries(copy, inner)

    return change


def platform(architecture: str, os: str = "linux") -> Json:
    return {"platform": {"os": os, "architecture": architecture}}


AMD64 = platform("amd64")
HERE = "could be the image for linux/amd64"
LAYOUT: list[tuple[str, Callable[[Copy], None], str]] = [
    ("two alike", two_alike, "2 entries of one name"),
    ("N3", one_without_a_platform, "2 entries of one name"),
    ("N3, the other order", ours_without_a_platform, "2 entries of one name"),
    ("another platform", one_of_another_platform, "2 entries of one name"),
    ("N4", one_marked_an_artifact, "2 entries of one name"),
    ("an unknown type", one_of_an_unknown_type, "2 entries of one name"),
    ("in an index", one_in_an_index, "2 entries of one name"),
    ("the engines' name", one_of_the_engines_name, "an engine could run another entry"),
    ("by reference", one_that_engines_take_by_its_reference, "an engine could run another entry"),
    ("the published name", one_of_the_published_name, "an engine could run another entry"),
    ("published, in an index", an_index_of_the_published_name, "engine could run another entry"),
    ("N8", another_name_for_engines, "name: engines would name it 'docker.io/library/nginx"),
    ("N8, in an entry more", its_entry_again_under_another_name, "engines would name it 'docker"),
    ("digest twice", another_digest("digest"), "the key 'digest' is there twice"),
    ("N5", another_digest("DIGEST"), "the keys 'digest' and 'DIGEST' differ only in case"),
    ("escaped", another_digest("di\\u0067est"), "the key 'digest' is there twice"),
    (
        "N5, manifests",
        text('"manifests":', '"Manifests": [], "manifests":'),
        "the keys 'Manifests' and 'manifests' differ only in case",
    ),
    (
        "the long s",
        text('"size":', '"\u017fize": 1, "size":'),
        "the keys '\u017fize' and 'size' differ only in case",
    ),
    ("alone", text('"platform":', '"Platform":'), "'Platform' differs only in case from 'pla"),
    ("N1", nested({**AMD64, "artifactType": ARTIFACT}), HERE),
    ("N1, alike", nested(AMD64), HERE),
    ("N1, no platform", nested({}), HERE),
    ("N1, a variant", nested({"platform": {**AMD64["platform"], "variant": "v2"}}), HERE),
    ("N1, a capital", nested(platform("amd64", "Linux")), HERE),
    ("N1, null", nested({"platform": None}), HERE),
    ("N1, an index", nested({"mediaType": INDEX}), HERE),
    ("N3, escaped", one_of_an_escaped_name, "2 entries of one name"),
    ("N4, null", one_marked_as_nothing, "2 entries of one name"),
    ("N5, escaped", another_digest("D\\u0049GEST"), "'digest' and 'DIGEST' differ only in case"),
    (
        "N5, the long s in manifests",
        text('"manifests":', '"manife\u017fts": [], "manifests":'),
        "the keys 'manife\u017fts' and 'manifests' differ only in case",
    ),
    ("N7, nobody's", an_index_that_nobody_runs, "found no images"),
    ("N7, windows", nested(platform("amd64", "windows")), "an engine could run another entry"),
    ("N7, AMD64", nested(platform("AMD64")), HERE),
    ("N7, arm64", nested(platform("arm64")), "index: an engine could run another entry"),
    ("N7, an unknown one", nested(platform("x", "y")), "index: an engine could run another entry"),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in LAYOUT], ids=[row[0] for row in LAYOUT]
)
def test_an_index_that_readers_take_differently(
    judge: Judge, copy: Copy, change: Callable[[Copy], None], message: str
) -> None:
    change(copy)
    rejected(judge, copy, message)


def test_both_entries_of_a_name_are_named(judge: Judge, copy: Copy) -> None:
    two_alike(copy)
    rejected(judge, copy, copy.digest.oci, Copy(copy.root, OTHER).digest.oci)


def test_an_index_of_one_image_and_what_nobody_runs_is_verified(judge: Judge, copy: Copy) -> None:
    """As BuildKit lists its attestations."""
    nested(platform("unknown", "unknown"))(copy)
    assert judge.problems(copy) == []


@pytest.mark.parametrize(
    "noted",
    [
        {NAME: "docker.io/azureml/small-small-cpu-inference:latest", REF: "1", "x": "sha256-"},
        {NAME: "docker.io/azureml/small-small-cpu-inference:latest", REF: "sha256-" + "0" * 64},
        {REF: "sha256-x"},
        {"x": "sha256-"},
        {REF: "sha256-" + "0" * 64 + ":latest"},
    ],
)
def test_what_an_engine_can_name_is_not_taken_for_a_list_of_signatures(
    judge: Judge, copy: Copy, noted: dict[str, str]
) -> None:
    """Asked for as the only image there is."""

    def change(listed: list[Json], ours: Json, other: Json) -> None:
        listed.remove(copy.entry(OTHER))
        del ours["annotations"]
        listed.append({**copy.put(INDEX, index_of([other])), "annotations": noted})

    entries(copy, change)
    (said,) = judge.problems(copy, f"oci:{copy.root}")
    assert "found 2 images" in said or "2 entries of the index could be the image" in said


def test_by_digest_the_names_in_an_index_decide_nothing(judge: Judge, copy: Copy) -> None:
    two_alike(copy)
    reference = f"oci:{copy.root}@{copy.digest.oci}"
    assert judge.problems(copy, reference) == []


def manifest_text(old: str, new: str) -> Callable[[Copy, Forger], None]:
    """Change the manifest's text, and sign it."""

    def change(copy: Copy, forger: Forger) -> None:
        found = copy.blob(copy.digest.oci).decode()
        assert old in found
        resigned(copy, forger, found.replace(old, new, 1).encode())

    return change


def config_text(old: str, new: str) -> Callable[[Copy, Forger], None]:
    """Change the config's text, and sign it."""

    def change(copy: Copy, forger: Forger) -> None:
        manifest = copy.manifest()
        found = copy.blob(manifest["config"]["digest"]).decode()
        assert old in found
        manifest["config"] = copy.put(CONFIG, found.replace(old, new, 1).encode())
        resigned(copy, forger, canonical_json(manifest))

    return change


def statement_text(old: str, new: str) -> Callable[[Copy, Forger], None]:
    """Change the signature's statement, and sign it."""

    def change(copy: Copy, forger: Forger) -> None:
        bundles = copy.bundles()
        data = canonical_json(payload(bundles[COSIGN])).decode()
        assert old in data
        copy.attach({**bundles, COSIGN: forger.sign(data.replace(old, new, 1).encode())})

    return change


def bundle_text(old: str, new: str) -> Callable[[Copy, Forger], None]:
    """Change a bundle's text; nobody need sign that."""

    def change(copy: Copy, forger: Forger) -> None:
        bundles = copy.bundles()
        data = bundles[COSIGN].decode()
        assert old in data
        copy.attach({**bundles, COSIGN: data.replace(old, new, 1).encode()})

    return change


def logged(old: str, new: str) -> Callable[[Copy, Forger], None]:
    """Change what the log is said to have taken."""

    def change(copy: Copy, forger: Forger) -> None:
        bundle = json.loads(copy.bundles()[COSIGN])
        (entry,) = bundle["verificationMaterial"]["tlogEntries"]
        body = base64.b64decode(entry["canonicalizedBody"]).decode()
        assert old in body
        changed = base64.b64encode(body.replace(old, new, 1).encode()).decode()
        bundle_text(entry["canonicalizedBody"], changed)(copy, forger)

    return change


NONE = "sha256:" + "0" * 64
DOCUMENTS: list[tuple[str, Callable[[Copy, Forger], None], str]] = [
    (
        "a layer's Digest",
        manifest_text('"layers":[{', f'"layers":[{{"Digest":"{NONE}",'),
        "the keys 'Digest' and 'digest' differ only in case (in layers[0])",
    ),
    (
        "layers twice",
        manifest_text('"layers":', '"layers":[],"layers":'),
        "the key 'layers' is there twice",
    ),
    (
        "a subject's case",
        manifest_text('"schemaVersion":', '"Subject":{},"schemaVersion":'),
        "the key 'Subject' differs only in case from 'subject'",
    ),
    (
        "an index as well",
        manifest_text('"schemaVersion":', '"manifests":[],"schemaVersion":'),
        "the manifest is an index as well",
    ),
    (
        "config twice",
        config_text('"config":', '"config":{"User":"0"},"config":'),
        "the key 'config' is there twice",
    ),
    (
        "Entrypoint's case",
        config_text('"Cmd":', '"entrypoint":["sh"],"Cmd":'),
        "config: readers of this JSON would differ: the key 'entrypoint' differs only in case from",
    ),
    (
        "a subject twice",
        statement_text('"subject":', '"subject":[],"subject":'),
        "the key 'subject' is there twice",
    ),
    (
        "a predicate in another case",
        statement_text('"predicate":', '"Predicate":{},"predicate":'),
        "the keys 'Predicate' and 'predicate' differ only in case",
    ),
    (
        "an envelope twice",
        bundle_text('"dsseEnvelope":', '"dsseEnvelope":{},"dsseEnvelope":'),
        "the key 'dsseEnvelope' is there twice",
    ),
    (
        "a name's case",
        statement_text('"name":', '"Name":'),
        "the key 'Name' differs only in case from 'name'",
    ),
    (
        "snake case",
        bundle_text('"dsseEnvelope":', '"dsse_envelope":'),
        "readers of this bundle would differ",
    ),
    (
        "snake case deeper",
        bundle_text('"payloadType":', '"payload_type":'),
        "dsseEnvelope: payloadType, payload_type",
    ),
    (
        "both cases",
        bundle_text('"dsseEnvelope":', '"dsse_envelope":{},"dsseEnvelope":'),
        "not a Sigstore bundle that can be read",
    ),
    (
        "no base64",
        bundle_text('"sig":"', '"sig":"*'),
        "dsseEnvelope.signatures[0].sig: '*",
    ),
    (
        "a number with a space",
        bundle_text('"logIndex":"', '"logIndex":" '),
        "verificationMaterial.tlogEntries[0].logIndex: ' ",
    ),
    (
        "a log entry",
        logged('"kind":', '"kind":"x","kind":'),
        "the key 'kind' is there twice",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in DOCUMENTS], ids=[row[0] for row in DOCUMENTS]
)
def test_a_document_that_readers_take_differently(
    judge: Judge,
    copy: Copy,
    forger: Forger,
    change: Callable[[Copy, Forger], None],
    message: str,
) -> None:
    change(copy, forger)
    rejected(judge, copy, message)


def _reordered(manifest: Json) -> bytes:
    return json.dumps(dict(reversed(manifest.items())), separators=(",", ":")).encode()


def _edited(edit: Callable[[Json], object]) -> Callable[[Json], bytes]:
    def make(manifest: Json) -> bytes:
        edit(manifest)
        return canonical_json(manifest)

    return make


REBUILT: list[tuple[str, Callable[[Json], bytes], str]] = [
    ("white space", lambda m: canonical_json(m) + b"\n", "no value differs, the bytes do from "),
    ("the order of keys", _reordered, "no value differs, the bytes do from 2 on: b'"),
    (
        "a layer's urls",
        _edited(lambda m: m["layers"][1].update(urls=["https://example.org"])),
        'manifest.layers[1].urls: ["https://example.org"] in the image, nothing rebuilt',
    ),
    (
        "a layer's data",
        _edited(lambda m: m["layers"][1].update(data="eA==")),
        'manifest.layers[1].data: "eA==" in the image, nothing rebuilt',
    ),
    (
        "a layer's annotation",
        _edited(lambda m: m["layers"][1]["annotations"].update(x="y")),
        'manifest.layers[1].annotations.x: "y" in the image, nothing rebuilt',
    ),
    ("a field", _edited(lambda m: m.update(x=1)), "manifest.x: 1 in the image, nothing rebuilt"),
]


@pytest.mark.parametrize(
    ("make", "message"), [row[1:] for row in REBUILT], ids=[row[0] for row in REBUILT]
)
def test_other_bytes_are_not_the_same_image_rebuilt(
    judge: Judge,
    copy: Copy,
    forger: Forger,
    checkout: SmallCheckout,
    make: Callable[[Json], bytes],
    message: str,
) -> None:
    original = copy.digest.oci
    resigned(copy, forger, make(copy.manifest()))
    # What the locks decide is compared without building again, too.
    assert all(one.startswith(("contract: manifest", "form: ")) for one in judge.problems(copy))
    rebuilding = replace(judge, rebuild=True, inputs=checkout.ws.cache)
    digests = f"rebuild: the manifest is {copy.digest.oci} in the image, {original} rebuilt"
    rejected(rebuilding, copy, digests, message)


def tarred(path: Path, files: dict[str, bytes], *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A tar of files, and of members made by hand."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        members = [(tarfile.TarInfo(name), data) for name, data in files.items()]
        for member, data in [*members, *more]:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def layout_files(copy: Copy) -> dict[str, bytes]:
    paths = [path for path in sorted(copy.root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(copy.root)): path.read_bytes() for path in paths}


def listed(copy: Copy, *tags: str) -> Json:
    """An image in manifest.json, by the blobs of its layout."""
    manifest = copy.manifest()
    parts = [manifest["config"], *manifest["layers"]]
    config, *layers = (copy.path(part["digest"]) for part in parts)
    return {"Config": config, "RepoTags": [*tags], "Layers": layers}


def both(copy: Copy, path: Path, *images: Json) -> str:
    """An archive of both forms: the layout, and a manifest.json of these images."""
    files = {**layout_files(copy), "manifest.json": json.dumps(images).encode()}
    return f"oci-archive:{tarred(path, files)}:{IMAGE}"


def test_an_archive_of_both_forms_has_one_image_in_both(
    judge: Judge, copy: Copy, tmp_path: Path
) -> None:
    name = copy.entry()["annotations"][NAME]
    other = Copy(copy.root, OTHER)
    path = tmp_path / "x.tar"
    ours = listed(copy, name)
    assert judge.problems(copy, both(copy, path, ours)) == []
    # As `docker save` writes several images.
    assert judge.problems(copy, both(copy, path, listed(other, "team/other:1"), ours)) == []
    for images in (
        [listed(other, name)],
        [],
        [ours, listed(other, name)],
        [ours, listed(other, f"docker.io/{name.removeprefix('docker.io/')}")],
        [{**ours, "Layers": listed(other)["Layers"]}],
        [{**ours, "Layers": ours["Layers"][:-1]}],
        [{**ours, "Config": listed(other)["Config"]}],
        [{**ours, "Config": f"./{ours['Config']}"}],
    ):
        (said,) = judge.problems(copy, both(copy, path, *images))
        assert "index.json and manifest.json have different images" in said
        assert ours["Config"] in said


def test_a_folder_of_both_forms_has_one_image_in_both(judge: Judge, copy: Copy) -> None:
    """Packed, it is what engines load."""
    name = copy.entry()["annotations"][NAME]
    for images, accepted in (
        ([listed(copy, name)], True),
        ([listed(Copy(copy.root, OTHER), name)], False),
        ([], False),
    ):
        copy.write("manifest.json", json.dumps(images).encode())
        said = judge.problems(copy)
        assert said == [] if accepted else "manifest.json have different images" in said[0], said


def legacy(name: str) -> dict[str, bytes]:
    """What engines before Docker 1.10 wrote, as far as they name an image."""
    return {"repositories": json.dumps({name: {"latest": "blobs"}}).encode(), "blobs/VERSION": b"1"}


def test_names_for_old_engines_stand_beside_a_manifest_json(
    judge: Judge, copy: Copy, tmp_path: Path
) -> None:
    """`docker load` of Docker 20.10 takes them where there is none."""
    name = copy.entry()["annotations"][NAME]
    files = {**layout_files(copy), **legacy("azureml/small-small-cpu-inference")}
    path = tmp_path / "x.tar"
    (said,) = judge.problems(copy, f"oci-archive:{tarred(path, files)}:{IMAGE}")
    assert "repositories without manifest.json" in said
    # As `docker save` and skopeo write both.
    files["manifest.json"] = json.dumps([listed(copy, name)]).encode()
    assert judge.problems(copy, f"oci-archive:{tarred(path, files)}:{IMAGE}") == []
    copy.write("repositories", files["repositories"])
    rejected(judge, copy, "repositories without manifest.json")


def docker_form(copy: Copy, path: Path, tags: list[str], *others: Json) -> str:
    """What `docker save` writes of the image under these names, and of others."""
    manifest = copy.manifest()
    files = {"config.json": copy.blob(manifest["config"]["digest"])}
    for number, layer in enumerate(manifest["layers"]):
        files[f"{number}.tar"] = gzip.decompress(copy.blob(layer["digest"]))
    layers = [name for name in files if name.endswith(".tar")]
    images = [{"Config": "config.json", "RepoTags": tags, "Layers": layers}, *others]
    return f"docker-archive:{tarred(path, {**files, 'manifest.json': json.dumps(images).encode()})}"


PUBLISHED = "azureml/small-small-cpu-inference:latest"


@pytest.mark.parametrize(
    ("tags", "others", "message"),
    [
        ([PUBLISHED], [], ""),
        ([], [], ""),
        (["registry.example/team/small:1"], [], ""),
        ([PUBLISHED, "small:1"], [], ""),
        ([PUBLISHED], ["team/other:1"], ""),
        ([PUBLISHED, "nginx:latest"], [], "name: engines would name it 'nginx:latest'"),
        (["nginx:latest", PUBLISHED], [], "name: engines would name it 'nginx:latest'"),
        (["small:1"], [PUBLISHED], "index: an engine could run another entry"),
        (["small:1"], [f"docker.io/{PUBLISHED}"], "index: an engine could run another entry"),
        (["small:1", "small:2"], ["small:2"], "index: an engine could run another entry"),
    ],
)
def test_the_names_in_a_docker_archive(
    judge: Judge, copy: Copy, tmp_path: Path, tags: list[str], others: list[str], message: str
) -> None:
    bundles = tuple(RawBundle(kind, data) for kind, data in copy.bundles().items())
    other = [{"Config": "x.json", "RepoTags": others, "Layers": []}] if others else []
    reference = docker_form(copy, tmp_path / "x.tar", tags, *other)
    if tags and others:
        reference += f":{tags[0]}"
    said = replace(judge, bundles=bundles).problems(copy, reference)
    assert said == [] if not message else message in said[0], said


def test_the_names_in_both_forms_are_the_images(judge: Judge, copy: Copy, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    name = copy.entry()["annotations"][NAME]
    (said,) = judge.problems(copy, both(copy, path, listed(copy, name, "nginx:latest")))
    assert "name: engines would name it 'nginx:latest'" in said
    images = [listed(copy, name, "small:2"), listed(Copy(copy.root, OTHER), "small:2")]
    (said,) = judge.problems(copy, both(copy, path, *images))
    assert "index.json and manifest.json have different images" in said
    # The name it is published as, in one form alone.
    entries(copy, lambda manifests, ours, other: ours["annotations"].pop(NAME))
    other = listed(Copy(copy.root, OTHER), PUBLISHED)
    (said,) = judge.problems(copy, both(copy, path, listed(copy, "small:latest"), other))
    assert "index.json and manifest.json have different images" in said


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("index.json", "outside/index.json"),
        ("index.json", "/proc/self/cwd/index.json"),
        ("index.json", "blobs/index.json"),
        ("oci-layout", "outside/oci-layout"),
        ("blobs", "outside/blobs"),
        ("blobs/sha256", "outside/blobs/sha256"),
    ],
)
def test_a_layout_has_no_links(
    judge: Judge,
    copy: Copy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    target: str,
) -> None:
    """What they lead to can be another thing for an engine, or a moment later."""
    outside = tmp_path / "outside"
    place = copy.root / name
    kept = copy.root / target if target.startswith("blobs") else outside / name
    for folder in (outside, kept.parent):
        folder.mkdir(parents=True, exist_ok=True)
    place.rename(kept)
    monkeypatch.chdir(outside)
    place.symlink_to(target if target.startswith(("/", "blobs")) else tmp_path / target)
    rejected(judge, copy, "a symbolic link in an image layout", name)


def test_a_layout_may_be_reached_by_a_link(judge: Judge, copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(copy.root)
    assert judge.problems(copy, f"oci:{tmp_path / 'here'}:{IMAGE}") == []


def test_an_archive_with_an_index_and_no_marker_is_not_read_as_dockers(
    judge: Judge, copy: Copy, tmp_path: Path
) -> None:
    """skopeo reads the index all the same."""
    files = {**layout_files(copy), "manifest.json": json.dumps([listed(copy)]).encode()}
    del files["oci-layout"]
    (said,) = judge.problems(copy, f"oci-archive:{tarred(tmp_path / 'x.tar', files)}")
    assert "there is no OCI image layout here" in said


def test_an_unpacked_archive_of_both_forms_has_one_image_in_both(
    judge: Judge, copy: Copy, tmp_path: Path
) -> None:
    """As engines save that keep layers unpacked: manifest.json is read, and index.json is what
    others load."""
    manifest = copy.manifest()
    layers = [gzip.decompress(copy.blob(layer["digest"])) for layer in manifest["layers"]]
    config = copy.blob(manifest["config"]["digest"])
    kind = "application/vnd.oci.image.layer.v1.tar"
    made = {**manifest, "layers": [copy.put(kind, data) for data in layers]}
    evil = {**made, "config": copy.put(CONFIG, config.replace(b"5001/tcp", b"5002/tcp"))}
    bundles = tuple(RawBundle(kind, data) for kind, data in copy.bundles().items())
    told = {}
    for one in (made, evil):
        descriptor = copy.put(MANIFEST, canonical_json(one))
        copy.edit_entry(digest=descriptor["digest"], size=descriptor["size"])
        images = [
            {**listed(copy, f"{IMAGE}:latest"), "Config": copy.path(manifest["config"]["digest"])}
        ]
        reference = both(copy, tmp_path / "x.tar", *images)
        told[one is made] = replace(judge, bundles=bundles).problems(copy, reference)
    assert told[True] == []
    assert "index.json and manifest.json have different images" in told[False][0]


def gnu_times(name: str) -> tarfile.TarInfo:
    """A member with times where other formats have the front of a long name."""

    class Member(tarfile.TarInfo):
        def tobuf(self, *arguments: object, **options: object) -> bytes:
            made = bytearray(super().tobuf(tarfile.GNU_FORMAT))
            made[345:357] = b"00000000001\0"
            made[148:156] = b" " * 8
            made[148:156] = b"%06o\0 " % sum(made[:512])
            return bytes(made)

    return Member(name)


def contiguous(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.CONTTYPE
    return member


def extended(*headers: tuple[bytes, bytes], kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """The member `index.json` behind extended headers: type, and content."""

    class Member(tarfile.TarInfo):
        def tobuf(self, *arguments: object, **options: object) -> bytes:
            made = b""
            for header, data in headers:
                before = tarfile.TarInfo("x")
                before.type, before.size = header, len(data)
                made += before.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
            return made + super().tobuf(tarfile.GNU_FORMAT)

    member = Member("index.json" if kind != tarfile.AREGTYPE else "y")
    member.type = kind
    return member


def record(key: str, value: str) -> bytes:
    """A record of a pax header, at most 99 bytes long."""
    text = f" {key}={value}\n"
    return f"{len(text) + 2}{text}".encode()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


PAX, LONG = (tarfile.XHDTYPE, record("path", "index.json")), (b"L", b"index.json\0")
OTHER_PAX, OTHER_LONG = (tarfile.XHDTYPE, record("path", "x.json")), (b"L", b"x.json\0")
SPARSE = (tarfile.XHDTYPE, record("GNU.sparse.name", "x.json"))
SLASH = (tarfile.XHDTYPE, record("path", "x.json/"))
HEADERS = "extended headers contradict each other"
TWO = "two extended headers of one kind for one entry"
NO_LINK = "in an image archive"
MEMBERS: list[tuple[str, tarfile.TarInfo, str]] = [
    ("N6", gnu_times("index.json"), "its header has a prefix that its format has no place for"),
    ("a detour", tarfile.TarInfo("x/../index.json"), "its name is not the shortest"),
    ("a double slash", tarfile.TarInfo("blobs//x"), "its name is not the shortest"),
    ("a root", tarfile.TarInfo("/index.json"), "its name is not the shortest"),
    ("twice", tarfile.TarInfo("./index.json"), "it holds 'index.json' twice"),
    ("contiguous", contiguous("x"), "an entry of a type that readers differ about"),
    ("a sparse file's name", extended(SPARSE), "an extended header that readers differ about"),
    ("pax, then GNU's", extended(OTHER_PAX, LONG), HEADERS),
    ("GNU's, then pax", extended(OTHER_LONG, PAX), HEADERS),
    ("two pax headers", extended(OTHER_PAX, PAX), TWO),
    ("two long names", extended(OTHER_LONG, LONG), TWO),
    ("an old file, a slash", extended(SLASH, kind=tarfile.AREGTYPE), "a file whose name ends in"),
    ("a file and a folder", tarfile.TarInfo("blobs"), "an entry below a file"),
    ("below a file", tarfile.TarInfo("index.json/x"), "an entry below a file"),
    ("the root", tarfile.TarInfo("."), "it holds '' twice"),
]


@pytest.mark.parametrize(
    ("member", "message"), [row[1:] for row in MEMBERS], ids=[row[0] for row in MEMBERS]
)
def test_an_archive_that_readers_take_differently(
    judge: Judge, copy: Copy, tmp_path: Path, member: tarfile.TarInfo, message: str
) -> None:
    other = Copy(copy.root, OTHER)
    index = {**copy.index(), "manifests": [{**other.entry(), "annotations": {REF: IMAGE}}]}
    path = tarred(tmp_path / "x.tar", layout_files(copy), (member, json.dumps(index).encode()))
    (said,) = judge.problems(copy, f"oci-archive:{path}:{IMAGE}")
    assert message in said


LINKS: list[tuple[str, list[tuple[tarfile.TarInfo, bool]]]] = [
    ("a folder", [(link("d", "."), False), (tarfile.TarInfo("d/index.json"), True)]),
    ("manifest.json", [(link("d", "."), False), (tarfile.TarInfo("d/manifest.json"), True)]),
    ("a way", [(link("a", "blobs/sha256"), False), (link("x", "a/../good"), False)]),
    ("a file", [(link("x", "index.json"), False)]),
    ("a hard link", [(link("x", "index.json", tarfile.LNKTYPE), False)]),
    ("repositories", [(link("repositories", "index.json"), False)]),
    ("out", [(link("x/layer.tar", "../../index.json"), False)]),
    ("a detour", [(link("x/layer.tar", "../blobs/../index.json"), False)]),
    ("a device", [(link("manifest.json", "", tarfile.FIFOTYPE), False)]),
]


@pytest.mark.parametrize("members", [row[1] for row in LINKS], ids=[row[0] for row in LINKS])
def test_an_archive_has_no_links(
    judge: Judge, copy: Copy, tmp_path: Path, members: list[tuple[tarfile.TarInfo, bool]]
) -> None:
    other = Copy(copy.root, OTHER)
    index = {**copy.index(), "manifests": [{**other.entry(), "annotations": {REF: IMAGE}}]}
    evil = json.dumps(index).encode()
    more = [(member, evil if has else b"") for member, has in members]
    path = tarred(tmp_path / "x.tar", layout_files(copy), *more)
    (said,) = judge.problems(copy, f"oci-archive:{path}:{IMAGE}")
    assert NO_LINK in said


def test_an_index_behind_a_link(judge: Judge, copy: Copy, tmp_path: Path) -> None:
    """Extracted, `a/../good` is blobs/good."""
    files = layout_files(copy)
    files["good"] = files.pop("index.json")
    files["blobs/good"] = b"{}"
    way = (link("a", "blobs/sha256"), b"")
    path = tarred(tmp_path / "x.tar", files, way, (link("index.json", "a/../good"), b""))
    (said,) = judge.problems(copy, f"oci-archive:{path}:{IMAGE}")
    assert NO_LINK in said


def test_links_lead_from_one_layer_to_another(judge: Judge, copy: Copy, tmp_path: Path) -> None:
    """As `docker save` up to Docker 24 and skopeo write them; never to a config."""
    name = copy.entry()["annotations"][NAME]
    ours = listed(copy, name)
    files = {**layout_files(copy), "manifest.json": json.dumps([ours]).encode()}
    for target, accepted in ((ours["Layers"][0], True), (ours["Config"], False), ("x", False)):
        path = tarred(tmp_path / "x.tar", files, (link("x/layer.tar", f"../{target}"), b""))
        said = judge.problems(copy, f"oci-archive:{path}:{IMAGE}")
        assert said == [] if accepted else "a link to no" in said[0], said


def test_an_archive_with_a_pax_header_for_all_members_is_refused(
    judge: Judge, copy: Copy, tmp_path: Path
) -> None:
    path = tmp_path / "x.tar"
    for headers, accepted in (({"comment": "x"}, True), ({"mtime": "1"}, False)):
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
            for name, data in layout_files(copy).items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        said = judge.problems(copy, f"oci-archive:{path}:{IMAGE}")
        assert said == [] if accepted else "a global extended header" in said[0]


@pytest.fixture
def registry(copy: Copy, tmp_path: Path) -> Iterator[tuple[str, FakeRegistry]]:
    """A registry that has both images and what is attached to them, under no tag: the reference of
    its repository, and what it holds."""
    with fake_registry(tmp_path) as (server, held):
        for path in (copy.root / "blobs" / "sha256").iterdir():
            held.put_blob(IMAGE, path.read_bytes())
        for image in (IMAGE, OTHER):
            one = Copy(copy.root, image)
            for data in (one.blob(one.digest.oci), *map(canonical_json, one.referrers())):
                held.put(IMAGE, MANIFEST, data)
        yield f"{server.url.removeprefix('http://')}/{IMAGE}", held


def _bare(entry: Json, **more: object) -> Json:
    return {**{key: entry[key] for key in ("mediaType", "digest", "size")}, **more}


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize(
    ("ours", "others", "message"),
    [
        (AMD64, [], ""),
        (AMD64, [platform("unknown", "unknown")], ""),
        (AMD64, [{**AMD64, "artifactType": ARTIFACT}], HERE),
        ({**AMD64, "artifactType": ARTIFACT}, [AMD64], HERE),
        (AMD64, [AMD64], HERE),
        (AMD64, [{}], HERE),
        ({}, [AMD64], HERE),
        (AMD64, [platform("x86_64")], HERE),
        (AMD64, [{**AMD64, "mediaType": ARTIFACT}], HERE),
        (AMD64, [platform("arm64")], "index: an engine could run another entry"),
    ],
)
def test_an_unsigned_index_of_a_registry(
    judge: Judge,
    copy: Copy,
    registry: tuple[str, FakeRegistry],
    by: str,
    ours: Json,
    others: list[Json],
    message: str,
) -> None:
    repository, held = registry
    other = Copy(copy.root, OTHER).entry()
    listed = [*(_bare(other, **more) for more in others), _bare(copy.entry(), **ours)]
    data = index_of(listed)
    digest = held.put(IMAGE, INDEX, data, "1")
    place = digest if by == "digest" else "1"
    reference = f"{repository}{'@' if by == 'digest' else ':'}{place}"
    said = judge.problems(copy, reference)
    assert said == [] if not message else message in said[0], said
    # By the digest of its manifest it is what it was.
    assert judge.problems(copy, f"{repository}@{copy.digest.oci}") == []


def test_a_manifest_of_a_registry_that_is_an_index_as_well(
    judge: Judge, copy: Copy, registry: tuple[str, FakeRegistry]
) -> None:
    repository, held = registry
    listed = [_bare(copy.entry(), **AMD64)]
    other = Copy(copy.root, OTHER).manifest()
    data = canonical_json({**other, "mediaType": INDEX, "manifests": listed})
    held.put(IMAGE, INDEX, data, "1")
    (said,) = judge.problems(copy, f"{repository}:1")
    assert "an index and a manifest in one document" in said


SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.mark.parametrize("kind", [SCHEMA1, "application/json", "", MANIFEST])
@pytest.mark.parametrize("nested", [False, True])
def test_a_registry_that_calls_a_document_something_else(
    judge: Judge, copy: Copy, registry: tuple[str, FakeRegistry], kind: str, nested: bool
) -> None:
    """Docker 20.10 reads a document by what the registry calls it: as a manifest of version 1,
    which names its layers elsewhere."""
    repository, held = registry
    held.put(IMAGE, INDEX if nested else kind, index_of([_bare(copy.entry(), **AMD64)]), "1")
    if nested:
        held.put(IMAGE, kind, copy.blob(copy.digest.oci))
    (said,) = judge.problems(copy, f"{repository}:1") or [""]
    if nested and kind == MANIFEST:
        assert said == ""
    else:
        assert "the registry calls it" in said


def test_a_tag_that_moves_changes_nothing_that_was_verified(
    judge: Judge, copy: Copy, registry: tuple[str, FakeRegistry]
) -> None:
    """It is asked for once; all the rest by digest."""
    repository, held = registry
    other = Copy(copy.root, OTHER)
    held.tags[IMAGE] = {"1": copy.digest.oci}
    give = held.manifest
    asked = []

    def moving(repository: str, reference: str) -> tuple[str, bytes] | None:
        asked.append(reference)
        found = give(repository, reference)
        held.tags[IMAGE]["1"] = other.digest.oci
        return found

    held.manifest = moving  # type: ignore[method-assign]
    verdict = judge.verdict(copy, f"{repository}:1")
    assert verdict.passed and verdict.digest == copy.digest.oci
    assert verdict.run == (f"{repository}@{copy.digest.oci}",)
    assert asked.count("1") == 1
