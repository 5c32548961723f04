"""What plinth never writes, signed by the right key: refused, with the field or the entry named.

Whatever a row changes, the statements are about the changed image and true of it, so that nothing
but its form can be wrong where `form` alone refuses it.
"""

from __future__ import annotations

import gzip as system_gzip
from collections.abc import Callable
from typing import Any

import pytest

from plinth.core.digest import Digest, canonical_json
from plinth.evidence.statement import COSIGN, PROVENANCE
from plinth.formats import gzip
from plinth.formats.layer.header import BLOCK, END, ROOT, SYMLINK, header
from plinth.formats.oci.model import CONFIG, MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout
from plinth.recipe.materials import Material
from support.forge import Copy, Forger, Json, Judge, payload, relayered, resigned
from support.tars import magic, pax, record, spoiled

MODULE = b"opt/python/lib/python3.7/site-packages/demo/m0.py"
Tar = Callable[[bytes], bytes]


def at(change: Callable[[bytes], bytes], name: bytes = MODULE) -> Tar:
    """Change the header of an entry."""

    def edit(tar: bytes) -> bytes:
        start = tar.index(name.ljust(100, b"\0"))
        return tar[:start] + change(tar[start : start + BLOCK]) + tar[start + BLOCK :]

    return edit


def field(start: int, value: bytes) -> Tar:
    return at(lambda block: spoiled(block, start, value))


def before(blocks: bytes) -> Tar:
    return at(lambda block: blocks + block)


def more(*entries: bytes) -> Tar:
    """Entries more, at the end."""
    return lambda tar: tar.removesuffix(END) + b"".join(entries) + END


def header_of(tar: bytes) -> bytes:
    start = tar.index(MODULE.ljust(100, b"\0"))
    return tar[start : start + BLOCK]


def hidden(tar: bytes) -> bytes:
    """Something in the padding behind the module."""
    start = tar.index(MODULE.ljust(100, b"\0"))
    end = start + BLOCK + int(tar[start + 124 : start + 135], 8)
    assert not tar[end] and end % BLOCK
    return tar[:end] + b"evil" + tar[end + 4 :]


def hard(mode: bytes) -> Tar:
    """A second name of the module, with a mode of its own."""

    def edit(tar: bytes) -> bytes:
        link = spoiled(spoiled(header_of(tar), 156, b"1"), 157, MODULE)
        named = spoiled(spoiled(link, 124, b"00000000000"), 0, MODULE.replace(b"m0", b"n0"))
        return more(spoiled(named, 100, mode))(tar)

    return edit


def link(kind: bytes, *fields: tuple[int, bytes], size: bytes = b"00000000000") -> bytes:
    block = header("opt/x", SYMLINK, mode=0o777, owner=ROOT, target="y")
    for start, value in ((156, kind), (124, size), *fields):
        block = spoiled(block, start, value)
    return block


# The layer of both wheels.
AT = "layer 3 (demo 1.0 and 1 more)"
FORM = f"form: {AT}: {MODULE.decode()}: its header's "
BLOBS = f"blobs: {AT}: "
TARS: list[tuple[str, Tar, str]] = [
    # Of the issue.
    (
        "GNU magic with a prefix",
        at(lambda block: spoiled(magic(block, b"ustar  \0"), 345, b"evil")),
        f"{BLOBS}its header has a prefix that its format has no place for, {MODULE.decode()}",
    ),
    ("GNU magic", at(lambda block: magic(block, b"ustar  \0")), f"{FORM}magic is 'ustar ', not "),
    ("no magic", at(lambda block: magic(block, bytes(8))), f"{FORM}magic is '', not 'ustar'"),
    ("star", field(508, b"tar\0"), f"{FORM}padding is "),
    (
        "star with a prefix and times",
        at(lambda block: spoiled(spoiled(block, 345, b"evil"), 476, b"1".ljust(32) + b"tar\0")),
        f"{BLOBS}its header has a prefix that its format has no place for",
    ),
    ("a hard link", hard(b"0000644"), "n0.py: it is a hardlink; plinth writes files, directories"),
    (
        "a hard link's own mode",
        hard(b"0004755"),
        "n0.py: a hard link with mode 4755 and owner 1000:1000; 'opt/python/",
    ),
    (
        "an empty pax linkpath",
        more(pax(record("linkpath", "")) + link(b"2")),
        f"{BLOBS}an empty name, or one with a NUL",
    ),
    (
        "NUL in a pax linkpath",
        more(pax(record("linkpath", "a\0b")) + link(b"2")),
        f"{BLOBS}an empty name, or one with a NUL",
    ),
    (
        "NUL in GNU's long link",
        more(spoiled(pax(b"a\0b"), 156, b"K") + link(b"2")),
        f"{BLOBS}an empty name, or one with a NUL",
    ),
    (
        "zeros behind the end",
        lambda tar: tar + bytes(512),
        f"form: {AT}: its end: 512",
    ),
    # Of no row.
    ("a time", field(136, b"00000000001"), f"{FORM}mtime is '00000000001', not '00000000000'"),
    ("a time before 1970", field(136, b"\xff" * 12), f"{FORM}mtime is '\\xff"),
    ("a user's name", field(265, b"root"), f"{FORM}uname is 'root', not ''"),
    ("a group's name", field(297, b"root"), f"{FORM}gname is 'root', not ''"),
    ("a device's number", field(329, b"0000001"), f"{FORM}devmajor is '0000001', not '0000000'"),
    ("no device's number", field(337, bytes(8)), f"{FORM}devminor is '', not '0000000'"),
    ("a type in the mode", field(100, b"0100644"), f"{FORM}mode is '0100644', not '0000644'"),
    ("octal with spaces", field(100, b"   644 \0"), f"{FORM}mode is '   644 ', not '0000644'"),
    ("octal without zeros", field(108, b"1750\0\0\0"), f"{FORM}uid is '1750', not '0001750'"),
    (
        "base 256",
        field(108, b"\x80\0\0\0\0\0\x03\xe8"),
        f"{FORM}uid is '\\x80\\x00\\x00\\x00\\x00\\x00\\x03\\xe8', not '0001750'",
    ),
    (
        "a name with a NUL",
        field(len(MODULE) + 1, b"hidden"),
        f"{FORM}name is 'opt/python/lib/python3.7/site-packages/d",
    ),
    (
        "a prefix where the name fits",
        at(lambda block: spoiled(spoiled(block, 0, MODULE[4:].ljust(100, b"\0")), 345, b"opt")),
        f"{FORM}name is 'python/lib/python3.7/site-packages/demo/",
    ),
    ("a file's target", field(157, b"evil"), f"{FORM}linkname is 'evil', not ''"),
    ("type \\0", field(156, b"\0"), f"{FORM}typeflag is '', not '0'"),
    ("type 7", field(156, b"7"), f"{BLOBS}an entry of a type that readers differ about, "),
    ("type A", field(156, b"A"), f"{BLOBS}an entry of a type that readers differ about, "),
    ("type S", field(156, b"S"), f"{BLOBS}an entry of a type that readers differ about, "),
    (
        "a checksum in another spelling",
        at(lambda block: block[:148] + b" " + block[148:154] + b"\0" + block[156:]),
        f"{FORM}checksum is ' 0",
    ),
    (
        "a vendor's extended header",
        before(pax(record("LIBARCHIVE.creationtime", "1"))),
        "m0.py: it has an extended header, '29 LIBARCHIVE.creationtime=1\\n'; plinth writes none",
    ),
    (
        "an owner's name in an extended header",
        before(pax(record("uname", "root"))),
        "m0.py: it has an extended header, '14 uname=root\\n'; plinth writes none",
    ),
    (
        "attributes in an extended header",
        before(pax(record("SCHILY.xattr.user.x", "y"))),
        "m0.py: it has an extended header, '25 SCHILY.xattr.user.x=y\\n'; plinth writes none",
    ),
    (
        "a sparse file",
        before(pax(record("GNU.sparse.major", "1"))),
        f"{BLOBS}an extended header that readers differ about, ",
    ),
    (
        "a header for all",
        before(spoiled(pax(record("comment", "x")), 156, b"g")),
        f"{BLOBS}a global extended header",
    ),
    ("a directory with a size", more(link(b"5", size=b"00000000001")), "a directory with content"),
    (
        "a directory without a slash",
        more(link(b"5", (157, bytes(100)))),
        "opt/x: its header's name is 'opt/x', not 'opt/x/'",
    ),
    (
        "another mode of a link",
        more(link(b"2", (100, b"0000644"))),
        "mode is '0000644', not '0000777'",
    ),
    (
        "hidden behind content",
        hidden,
        ": what follows the content before it is 'evil', not zeros",
    ),
]


def tampered(copy: Copy, forger: Forger, blob: bytes, tar: bytes) -> None:
    relayered(copy, forger, copy.layer("demo "), blob, Digest.of(tar).hex)


def demo(copy: Copy) -> bytes:
    """The tar of the layer that is tampered with."""
    number = copy.layer("demo ")
    return system_gzip.decompress(copy.blob(copy.manifest()["layers"][number]["digest"]))


@pytest.mark.parametrize(("edit", "message"), [row[1:] for row in TARS], ids=[r[0] for r in TARS])
def test_a_tar_that_plinth_never_writes(
    judge: Judge, copy: Copy, forger: Forger, edit: Tar, message: str
) -> None:
    original = demo(copy)
    tar = edit(original)
    assert tar != original
    tampered(copy, forger, gzip.member(tar), tar)
    said = judge.problems(copy)
    assert [one for one in said if message in one], said
    if message.startswith("form: "):
        assert all(one.startswith("form: ") for one in said), said


def test_the_same_tar_in_other_members_is_the_same_layer(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    """So that the tests above refuse what they change and nothing else."""
    tar = demo(copy)
    tampered(copy, forger, gzip.member(tar), tar)
    assert judge.problems(copy) == []


Blob = Callable[[bytes], bytes]
BLOB_ROWS: list[tuple[str, Blob, str]] = [
    ("zeros behind", lambda tar: gzip.member(tar) + bytes(16), "data behind a gzip member"),
    ("a byte behind", lambda tar: gzip.member(tar) + b"x", "data behind a gzip member"),
    (
        "a time",
        lambda tar: system_gzip.compress(tar, mtime=1),
        f"form: {AT}: the gzip member at byte 0 begins with 1f8b0800010000",
    ),
    (
        "a name",
        lambda tar: tar_named(gzip.member(tar)),
        f"form: {AT}: the gzip member at byte 0 begins with 1f8b08080000",
    ),
    (
        "a member between",
        lambda tar: gzip.member(tar[:512]) + tar_named(gzip.member(b"")) + gzip.member(tar[512:]),
        f"form: {AT}: the gzip member at byte ",
    ),
    (
        "not compressed",
        lambda tar: tar,
        f"blobs: {AT}: it is not compressed, the manifest calls it gzip",
    ),
]


def test_a_provenance_that_is_not_true_takes_no_layer_out_of_the_form(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    """Beside a true one: it calls the image's own layer a base's, as its makers wrote it."""
    tar = demo(copy)
    tampered(copy, forger, system_gzip.compress(tar, mtime=1), tar)
    (alone,) = judge.problems(copy)
    assert alone.startswith(f"form: {AT}: the gzip member at byte 0 begins with ")
    true = copy.bundles()
    predicate = payload(true[PROVENANCE])["predicate"]
    layer = copy.manifest()["layers"][copy.layer("demo ")]
    digest = Digest(layer["digest"].removeprefix("sha256:"), layer["size"])
    named = Material(f"pkg:oci/base@{layer['digest']}", "layer", digest).to_json()
    predicate["buildDefinition"]["resolvedDependencies"].append(named)
    false = forger.state(copy, PROVENANCE, predicate)
    for pair in ((true[PROVENANCE], false), (false, true[PROVENANCE])):
        bundles = [(kind, one) for kind, one in true.items() if kind != PROVENANCE]
        bundles += [(PROVENANCE, one) for one in pair]
        copy.detach()
        attach_to_layout(copy.store, Descriptor(MANIFEST, copy.digest), bundles)
        assert len(copy.attached()) == len(true) + 1
        assert judge.problems(copy) == [alone]


def tar_named(data: bytes) -> bytes:
    """A gzip member with a file's name."""
    return data[:3] + b"\x08" + data[4:10] + b"evil\0" + data[10:]


@pytest.mark.parametrize(
    ("pack", "message"), [row[1:] for row in BLOB_ROWS], ids=[row[0] for row in BLOB_ROWS]
)
def test_a_blob_that_plinth_never_writes(
    judge: Judge, copy: Copy, forger: Forger, pack: Blob, message: str
) -> None:
    tar = demo(copy)
    tampered(copy, forger, pack(tar), tar)
    said = judge.problems(copy)
    assert [one for one in said if message in one], said
    if message.startswith("form: "):
        assert all(one.startswith("form: ") for one in said), said


def manifest_with(edit: Callable[[Json], object]) -> Callable[[Copy], bytes]:
    def make(copy: Copy) -> bytes:
        manifest = copy.manifest()
        edit(manifest)
        return canonical_json(manifest)

    return make


def manifest_text(change: Callable[[str], str]) -> Callable[[Copy], bytes]:
    return lambda copy: change(canonical_json(copy.manifest()).decode()).encode()


def config_with(change: Callable[[str], str]) -> Callable[[Copy], bytes]:
    def make(copy: Copy) -> bytes:
        manifest = copy.manifest()
        data = change(copy.blob(manifest["config"]["digest"]).decode()).encode()
        manifest["config"] = copy.put(CONFIG, data)
        return canonical_json(manifest)

    return make


LAYER_1 = "form: manifest.layers[1]"
DOCUMENTS: list[tuple[str, Callable[[Copy], bytes], str]] = [
    (
        "urls",
        manifest_with(lambda m: m["layers"][1].update(urls=["https://example.org"])),
        f'{LAYER_1}.urls: expected nothing, found ["https://example.org"]',
    ),
    (
        "data",
        manifest_with(lambda m: m["layers"][1].update(data="eA==")),
        f'{LAYER_1}.data: expected nothing, found "eA=="',
    ),
    (
        "a layer's annotation",
        manifest_with(lambda m: m["layers"][1]["annotations"].update(x="y")),
        f'{LAYER_1}.annotations.x: expected nothing, found "y"',
    ),
    (
        "a layer's platform",
        manifest_with(lambda m: m["layers"][1].update(platform={"os": "linux"})),
        f'{LAYER_1}.platform: expected nothing, found {{"os": "linux"}}',
    ),
    (
        "the config's annotation",
        manifest_with(lambda m: m["config"].update(annotations={"x": "y"})),
        'form: manifest.config.annotations: expected nothing, found {"x": "y"}',
    ),
    (
        "the config's data",
        manifest_with(lambda m: m["config"].update(data="eA==")),
        'form: manifest.config.data: expected nothing, found "eA=="',
    ),
    (
        "an artifact's type",
        manifest_with(lambda m: m.update(artifactType="x/y")),
        'form: manifest.artifactType: expected nothing, found "x/y"',
    ),
    (
        "a subject",
        manifest_with(lambda m: m.update(subject=m["config"])),
        "form: manifest.subject: expected nothing, found {",
    ),
    (
        "a field",
        manifest_with(lambda m: m.update(x=1)),
        "form: manifest.x: expected nothing, found 1",
    ),
    (
        "a field without a value",
        manifest_with(lambda m: m.update(subject=None)),
        "form: manifest.subject: expected nothing, found null",
    ),
    (
        "a number that is equal",
        manifest_text(lambda text: text.replace('"schemaVersion":2', '"schemaVersion":2.0')),
        "form: manifest.schemaVersion: expected 2, found 2.0",
    ),
    (
        "white space",
        manifest_text(lambda text: text + "\n"),
        "on it is '\\n', plinth writes nothing",
    ),
    (
        "the order of keys",
        manifest_text(
            lambda text: (
                text.replace('"schemaVersion":2', "")
                .replace("{", '{"schemaVersion":2,', 1)
                .replace(",}", "}")
            )
        ),
        "form: manifest: from byte 2 on it is 'schemaVe', plinth writes 'annotati'",
    ),
    (
        "an escape",
        manifest_text(lambda text: text.replace("small", "\\u0073mall", 1)),
        "on it is '\\\\u0073ma', plinth writes 'small",
    ),
    (
        "white space in the config",
        config_with(lambda text: " " + text),
        "form: config: from byte 0 on it is ' {\"archi', plinth writes '{\"archit'",
    ),
    (
        "an escape in the config",
        config_with(lambda text: text.replace('"linux"', '"\\u006cinux"')),
        "on it is '\\\\u006cin', plinth writes 'linux\",\"'",
    ),
    (
        "a field of the config without a value",
        config_with(lambda text: text.replace('"config":{', '"config":{"Healthcheck":null,')),
        "contract: config.config.Healthcheck: expected nothing, found null",
    ),
    (
        "a health check",
        config_with(
            lambda text: text.replace('"config":{', '"config":{"Healthcheck":{"Test":["CMD"]},')
        ),
        'contract: config.config.Healthcheck: expected nothing, found {"Test": ["CMD"]}',
    ),
    (
        "a variant",
        config_with(lambda text: text.replace('"os":"linux"', '"os":"linux","variant":""')),
        'contract: config.variant: expected nothing, found ""',
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), [row[1:] for row in DOCUMENTS], ids=[row[0] for row in DOCUMENTS]
)
def test_a_document_that_plinth_never_writes(
    judge: Judge, copy: Copy, forger: Forger, make: Callable[[Copy], bytes], message: str
) -> None:
    data = make(copy)
    assert Digest.of(data) != copy.digest
    resigned(copy, forger, data)
    said = judge.problems(copy)
    assert [one for one in said if message in one], said
    assert all(one.startswith(("form: ", "contract: ")) for one in said), said


def statement(kind: str, change: Callable[[Json], Any]) -> Callable[[Copy], tuple[str, bytes]]:
    """Change one statement; what `change` returns, where it returns bytes, is signed instead."""

    def make(copy: Copy) -> tuple[str, bytes]:
        found = payload(copy.bundles()[kind])
        made = change(found)
        return kind, made if isinstance(made, bytes) else canonical_json(found)

    return make


def other_digest(statement: Json) -> None:
    statement["subject"][0]["digest"]["sha512"] = "0" * 128


STATEMENTS: list[tuple[str, Callable[[Copy], tuple[str, bytes]], str]] = [
    (
        "a field",
        statement(COSIGN, lambda s: s.update(subjects=[])),
        "subjects: a field that is not compared with the image",
    ),
    (
        "a subject's uri",
        statement(COSIGN, lambda s: s["subject"][0].update(uri="docker://x")),
        "subject.uri: a field that is not compared with the image",
    ),
    (
        "a subject's other digest",
        statement(COSIGN, other_digest),
        "subject.digest.sha512: a field that is not compared with the image",
    ),
    (
        "two statements",
        statement(COSIGN, lambda s: canonical_json(s) + canonical_json(s)),
        "Extra data",
    ),
    (
        "two statements in a list",
        statement(COSIGN, lambda s: canonical_json([s, s])),
        "a statement: expected an object, found [",
    ),
    (
        "a subject twice",
        statement(COSIGN, lambda s: s["subject"].append(s["subject"][0])),
        "two subjects with the digest",
    ),
    (
        "another's subject as well",
        statement(
            COSIGN, lambda s: s["subject"].append({"name": "x", "digest": {"sha256": "0" * 64}})
        ),
        "it is about sha256:",
    ),
    (
        "a field of the provenance",
        statement(PROVENANCE, lambda s: s["predicate"].update(x=1)),
        "x: expected nothing, found 1",
    ),
    (
        "a field of the build",
        statement(PROVENANCE, lambda s: s["predicate"]["buildDefinition"].update(x=1)),
        "buildDefinition.x: expected nothing, found 1",
    ),
    (
        "a field of an input",
        statement(
            PROVENANCE,
            lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"][-1].update(
                downloadLocation="x"
            ),
        ),
        'downloadLocation: expected nothing, found "x"',
    ),
    (
        "another by-product",
        statement(
            PROVENANCE, lambda s: s["predicate"]["runDetails"]["byproducts"].append({"name": "x"})
        ),
        "runDetails.byproducts: expected [",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), [row[1:] for row in STATEMENTS], ids=[row[0] for row in STATEMENTS]
)
def test_a_statement_that_plinth_never_makes(
    judge: Judge,
    copy: Copy,
    forger: Forger,
    make: Callable[[Copy], tuple[str, bytes]],
    message: str,
) -> None:
    kind, data = make(copy)
    copy.attach({**copy.bundles(), kind: forger.sign(data)})
    said = judge.problems(copy)
    assert [one for one in said if message in one], said
