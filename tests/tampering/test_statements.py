"""A builder who signs what is not true."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from plinth.core.digest import Digest, canonical_json
from plinth.evidence.statement import COSIGN, PROVENANCE, SBOM, statement
from plinth.formats import gzip
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout
from support.forge import Copy, Forger, Json, Judge, payload, rejected
from tampering.conftest import IMAGE, OTHER


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
        data = change(gzip.unpacked(base64.b64decode(entry["content"]), 1 << 20))
        entry["content"] = _packed(data)
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


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.member(data)).decode()


def _carried(path: str) -> Json:
    return {
        "name": path,
        "digest": {"sha256": Digest.of(b"x").hex},
        "content": _packed(b"x"),
        "annotations": {"encoding": "gzip"},
    }


def _plain(predicate: Json) -> None:
    """A file as the build type before had it."""
    entry = _file(predicate, LOCK)
    data = gzip.unpacked(base64.b64decode(entry["content"]), 1 << 20)
    entry["content"] = base64.b64encode(data).decode()
    del entry["annotations"]


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
    (
        "other annotations",
        lambda p: _wheel(p)["annotations"].update(size=_wheel(p)["annotations"]["size"], x="y"),
        "its annotations are not those of the lock",
    ),
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
    (
        "content and digest",
        lambda p: _file(p, LOCK).update(content=_packed(b"x")),
        "as beside it",
    ),
    ("no gzip", lambda p: _file(p, LOCK).update(content="eA=="), "not its file's gzip"),
    ("a file that is not packed", _plain, "expected"),
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
    forger.restate(copy, PROVENANCE, change)
    rejected(replace(judge, checkout=None), copy, message)


def _component(predicate: Json, name: str) -> Json:
    return next(c for c in predicate["components"] if c["name"] == name)


def _layer_property(predicate: Json) -> None:
    first, second = _component(predicate, "demo"), _component(predicate, "leaf")
    first["properties"] = second["properties"]


SBOMS: list[tuple[str, Callable[[Json], None], str]] = [
    ("a package less", lambda b: b["components"].remove(_component(b, "demo")), "demo"),
    ("a .deb less", lambda b: b["components"].remove(_component(b, "base-files")), "base-files"),
    (
        "a package more",
        lambda b: b["components"].append(
            {"type": "library", "name": "extra", "version": "1", "purl": "pkg:pypi/extra@1"}
        ),
        "extra",
    ),
    ("another version", lambda b: _component(b, "demo").update(version="9"), "demo"),
    ("another layer", _layer_property, "demo"),
    ("a package twice", lambda b: b["components"].append(_component(b, "demo")), "demo"),
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
    forger.restate(copy, SBOM, change)
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


def test_a_subject_without_a_name_is_the_image_of_its_digest(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    """As cosign signs: the digest says which image, and the image's manifest has its name."""
    bundles = copy.bundles()
    copy.attach({**bundles, COSIGN: forger.sign(_stated(copy, COSIGN, "", copy.digest))})
    assert judge.problems(copy) == []
    other = Digest("0" * 64, 1)
    copy.attach({**bundles, COSIGN: forger.sign(statement("", other, COSIGN, {}))})
    rejected(judge, copy, "signature: ", "it is about sha256:0000")


@pytest.mark.parametrize(
    "name", ["127.0.0.1:5000/team/x", "localhost/x", "registry.example.org/x/y"]
)
def test_a_subject_with_the_name_of_a_place_is_the_image_of_its_digest(
    judge: Judge, copy: Copy, forger: Forger, name: str
) -> None:
    """As cosign attests, in the form of in-toto v0.1: where the image was then."""
    bundles = copy.bundles()

    def attested(kind: str, digest: Digest) -> bytes:
        document = json.loads(_stated(copy, kind, name, digest))
        document["_type"] = "https://in-toto.io/Statement/v0.1"
        return forger.sign(canonical_json(document))

    copy.attach({kind: attested(kind, copy.digest) for kind in bundles})
    assert judge.problems(copy) == []
    copy.attach({**bundles, COSIGN: attested(COSIGN, Digest("0" * 64, 1))})
    rejected(judge, copy, "signature: ", "it is about sha256:0000")


def test_an_image_that_was_not_asked_for_is_refused_though_no_subject_names_it(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    """All its statements lack a name and are about it; it lies under another image's name."""
    other = Copy(copy.root, OTHER)
    copy.edit_entry(digest=other.digest.oci, size=other.digest.size)
    assert copy.digest == other.digest
    copy.attach(
        {kind: forger.sign(_stated(other, kind, "", other.digest)) for kind in other.bundles()}
    )
    rejected(judge, copy, f"name: asked for '{IMAGE}'")


def test_two_subjects_of_one_digest(judge: Judge, copy: Copy, forger: Forger) -> None:
    """Whichever of them comes last, the wrong name counts."""
    title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
    document = json.loads(_stated(copy, COSIGN, "azureml/other", copy.digest))
    for last in (title, ""):
        document["subject"][1:] = [{"name": last, "digest": {"sha256": copy.digest.hex}}]
        copy.attach({**copy.bundles(), COSIGN: forger.sign(canonical_json(document))})
        rejected(judge, copy, "signature: ", "two subjects with the digest")


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


SIGNED = ["signature", "signed provenance", "signed sbom"]
NAMES = ["name", "platform", *SIGNED, "user", "origin", "provenance"]


def test_what_needs_a_provenance_fails_without_one(judge: Judge, copy: Copy) -> None:
    """Whatever was asked for is among the checks, and nothing else."""
    copy.attach({kind: data for kind, data in copy.bundles().items() if kind != PROVENANCE})
    plain = replace(judge, checkout=None)
    held = ["contract", "layers", "sbom"]
    for wanted, more in (
        (plain, []),
        (judge, ["checkout"]),
        (replace(plain, rebuild=True), ["rebuild"]),
        (replace(judge, rebuild=True), ["checkout", "rebuild"]),
    ):
        found = {check.name: check.passed for check in wanted.verdict(copy).checks}
        assert list(found) == [*NAMES, *held, *more, "blobs", "form"]
        failed = [name for name, passed in found.items() if not passed]
        assert failed == ["signed provenance", "origin", "provenance", *held, *more]


def test_a_wheel_of_another_digest_or_with_other_annotations_is_named(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    def change(predicate: Json) -> None:
        demo, leaf = (
            next(d for d in _dependencies(predicate) if d["name"].startswith(name))
            for name in ("demo-", "leaf-")
        )
        demo["digest"]["sha256"] = "0" * 64
        leaf["annotations"]["x"] = "y"

    forger.restate(copy, PROVENANCE, change)
    said = judge.problems(copy)
    purl = "pkg:pypi/{0}@{1} ({0}-{1}-py3-none-any.whl): "
    start = f"provenance: {purl.format('demo', '1.0')}the lock has sha256:"
    assert any(p.startswith(start) and p.endswith(f"sha256:{'0' * 64}") for p in said), said
    wrong = f"provenance: {purl.format('leaf', '2.0')}its annotations are not those of the lock"
    assert wrong in said


def test_of_two_good_statements_the_last_is_told(judge: Judge, copy: Copy, forger: Forger) -> None:
    """What `--bundle` or a registry brings; the same statement logged again would count once."""
    bundles = copy.bundles()
    again = forger.state(copy, COSIGN, {"another": True})
    store = copy.store
    attach_to_layout(store, Descriptor(MANIFEST, copy.digest), [(COSIGN, again)])
    (check,) = [one for one in judge.verdict(copy).checks if one.name == "signature"]
    index = json.loads(again)["verificationMaterial"]["tlogEntries"][0]["logIndex"]
    first = json.loads(bundles[COSIGN])["verificationMaterial"]["tlogEntries"][0]["logIndex"]
    assert check.passed and check.detail.endswith(" (and 1 more)")
    assert any(f"log entry {one}, " in check.detail for one in (index, first))
    (check,) = [one for one in judge.verdict(copy).checks if one.name == "signed sbom"]
    assert "more)" not in check.detail
