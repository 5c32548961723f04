"""What strangers can make `plinth verify` do, measured: memory, and seconds of the CPU."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plinth.core.digest import canonical_json
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.statement import COSIGN, PREDICATES, PROVENANCE, SBOM
from plinth.evidence.verify.gate import Gate
from plinth.evidence.verify.policy import Policy, Signers
from plinth.evidence.verify.verdict import REJECTED, UNREADABLE
from plinth.formats.layer.header import ROOT, header
from plinth.formats.oci.model import LAYER_GZIP, MANIFEST, Descriptor
from plinth.formats.oci.referrers import MAX_BUNDLE, artifact
from plinth.publish.registry.pull import pull_image
from support.fake_registry import FakeRegistry, fake_registry
from support.forge import IDENTITY, Copy, Forger, Json, Judge
from support.oci_images import tarred
from support.tars import pax, record
from tampering.conftest import IMAGE

MEMORY, SECONDS = 512, 20
"""MiB, and seconds of the CPU: other tests run beside these."""

_ZEROS = 16 << 20


@dataclass(frozen=True)
class Run:
    """What a verification said, and took: MiB and seconds of the CPU."""

    code: int
    out: str
    memory: int
    seconds: float

    def within(self) -> Run:
        """This run, which was within bounds."""
        assert self.memory < MEMORY, self
        assert self.seconds < SECONDS, self
        return self


Verify = Callable[..., Run]

# A process of its own, and a small one: Linux counts as a child's memory what its parent had.
_MEASURE = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_maxrss, used.ru_utime + used.ru_stime], file)
sys.exit(code)
"""


@pytest.fixture
def verify(forger: Forger, tmp_path: Path) -> Verify:
    root = tmp_path / "root.json"
    root.write_text(forger.domain.trusted_root())
    (tmp_path / "config").write_text("")
    environment = {
        **os.environ,
        "PLINTH_CONFIG": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    whom = ("--identity", IDENTITY, "--issuer", forger.domain.issuer, "--trusted-root", str(root))

    def run(*arguments: str) -> Run:
        command = [sys.executable, "-m", "plinth", "verify", *whom, *arguments]
        with (tmp_path / "out").open("w+") as out:
            used = tmp_path / "used.json"
            done = subprocess.run(
                [sys.executable, "-S", "-c", _MEASURE, str(used), *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=tmp_path,
            )
            out.seek(0)
            kibibytes, took = json.loads(used.read_text())
            return Run(done.returncode, out.read(), kibibytes >> 10, took)

    return run


@pytest.fixture(scope="session")
def bomb() -> tuple[bytes, str]:
    """A layer of 1 MB that unpacks to 1 GB of zeros in one file, and its diff_id."""
    member = tarfile.TarInfo("zeros")
    member.size = 64 * _ZEROS
    head, zeros = member.tobuf(), bytes(_ZEROS)

    def gzipped(data: bytes) -> bytes:
        made = zlib.compressobj(9, zlib.DEFLATED, 31)
        return made.compress(data) + made.flush()

    hashed = hashlib.sha256(head)
    for _ in range(64):
        hashed.update(zeros)
    hashed.update(bytes(1024))
    data = gzipped(head) + gzipped(zeros) * 64 + gzipped(bytes(1024))
    assert 1_000_000 < len(data) < 1_100_000
    return data, hashed.hexdigest()


def bombed(copy: Copy, bomb: tuple[bytes, str], times: int) -> None:
    """Let the image have a bomb for a layer, many times over, with all that names it in order."""
    manifest, config = copy.manifest(), copy.config()
    manifest["layers"] += [copy.put(LAYER_GZIP, bomb[0])] * times
    config["rootfs"]["diff_ids"] += [f"sha256:{bomb[1]}"] * times
    copy.become(manifest, config)


def archived(copy: Copy, path: Path) -> str:
    """The layout as an archive."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file in sorted(copy.root.rglob("*")):
            if file.is_file():
                tar.add(file, file.relative_to(copy.root).as_posix(), recursive=False)
    return f"oci-archive:{path}:{IMAGE}"


def pushed(copy: Copy, held: FakeRegistry, repository: str = IMAGE) -> None:
    """Put the image and all that is attached to it into a registry."""
    manifest = copy.manifest()
    for blob in (manifest["config"], *manifest["layers"]):
        held.put_blob(repository, copy.blob(blob["digest"]))
    held.put(repository, MANIFEST, copy.blob(copy.digest.oci), "latest")
    for entry in copy.attached():
        one = copy.blob(entry["digest"])
        held.put_blob(repository, copy.blob(json.loads(one)["layers"][0]["digest"]))
        held.put(repository, MANIFEST, one)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, FakeRegistry]]:
    with fake_registry(tmp_path, page=100) as (server, held):
        yield f"{server.url.removeprefix('http://')}/{IMAGE}", held


@pytest.mark.parametrize("form", ["layout", "archive", "registry"])
def test_an_unsigned_bomb_is_not_unpacked(
    verify: Verify,
    copy: Copy,
    bomb: tuple[bytes, str],
    registry: tuple[str, FakeRegistry],
    tmp_path: Path,
    form: str,
) -> None:
    # With the true bundles, which are about another manifest.
    bombed(copy, bomb, 500)
    reference = f"oci:{copy.root}:{IMAGE}"
    if form == "archive":
        reference = archived(copy, tmp_path / "image.tar")
    elif form == "registry":
        reference = registry[0]
        pushed(copy, registry[1])
    found = verify(reference).within()
    assert found.code == 1
    assert "not read: no valid signature is about this manifest" in found.out
    # All that a process takes that verifies nothing at all.
    assert found.memory < 200, found


def test_a_signed_bomb_is_unpacked_once(
    verify: Verify, copy: Copy, forger: Forger, bomb: tuple[bytes, str]
) -> None:
    bombed(copy, bomb, 100)
    copy.attach({COSIGN: forger.state(copy, COSIGN, {})})
    found = verify(f"oci:{copy.root}:{IMAGE}").within()
    assert found.code == 1
    assert "not read" not in found.out


def test_a_bomb_in_the_place_of_a_signed_layer_is_not_unpacked(
    verify: Verify, copy: Copy, bomb: tuple[bytes, str]
) -> None:
    for layer in copy.manifest()["layers"]:
        copy.write(copy.path(layer["digest"]), bomb[0][: layer["size"]])
    found = verify(f"oci:{copy.root}:{IMAGE}").within()
    assert found.code == 1
    assert "the manifest names sha256:" in found.out
    assert found.memory < 200, found


def test_bombs_in_a_docker_archive_are_not_unpacked(
    verify: Verify, copy: Copy, bomb: tuple[bytes, str], tmp_path: Path
) -> None:
    config = copy.blob(copy.manifest()["config"]["digest"])
    count = len(copy.manifest()["layers"])
    files = {f"{number}/layer.tar": bomb[0] + b"%d" % number for number in range(count)}
    image = {"Config": "config.json", "RepoTags": [f"{IMAGE}:latest"], "Layers": [*files]}
    described = {"config.json": config, "manifest.json": json.dumps([image]).encode()}
    tarred(tmp_path / "image.tar", {**described, **files})
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    for number, data in enumerate(copy.bundles().values()):
        (bundles / f"{number}.sigstore.json").write_bytes(data)
    found = verify(
        f"docker-archive:{tmp_path}/image.tar:{IMAGE}", "--bundle", str(bundles)
    ).within()
    assert found.code == 1
    assert "the manifest names sha256:" in found.out
    assert found.memory < 200, found


def attached(copy: Copy, bundles: Iterator[tuple[str, bytes, Json]]) -> None:
    """Attach bundles, each as its predicate type and with more annotations, before all others."""
    subject = Descriptor(MANIFEST, copy.digest)
    index, entries = copy.index(), []
    for kind, data, more in bundles:
        made = artifact(subject, kind, data)
        manifest = json.loads(made.manifest)
        manifest["annotations"].update(more)
        copy.store.put(data)
        digest = copy.store.put(canonical_json(manifest))
        noted = {**manifest["annotations"], "io.containerd.manifest.subject": copy.digest.oci}
        entry = {**made.entry, "digest": digest.oci, "size": digest.size, "annotations": noted}
        entries.append(entry)
    copy.write_index({**index, "manifests": [*entries, *index["manifests"]]})


@pytest.mark.parametrize("size", [MAX_BUNDLE, 16 << 20])
def test_a_hundred_that_share_a_blob_are_read_once(verify: Verify, copy: Copy, size: int) -> None:
    data = b'{"dsseEnvelope":{"payload":"%s"}}' % (b"A" * (size - 40))
    attached(copy, ((PROVENANCE, data, {"n": str(number)}) for number in range(100)))
    found = verify(f"oci:{copy.root}:{IMAGE}").within()
    assert found.code == 0, found.out


def flipped(bundle: bytes, number: int) -> bytes:
    """The bundle with another signature."""
    document = json.loads(bundle)
    document["dsseEnvelope"]["signatures"][0]["sig"] = f"MEUC{number:04}" + "A" * 84
    return json.dumps(document).encode()


@pytest.mark.parametrize("form", [pytest.param("layout", marks=pytest.mark.nightly), "registry"])
def test_a_thousand_that_look_like_bundles_hide_none(
    verify: Verify, copy: Copy, registry: tuple[str, FakeRegistry], form: str
) -> None:
    true = copy.bundles()
    kinds = [*PREDICATES] * 334
    attached(copy, ((kind, flipped(true[kind], number), {}) for number, kind in enumerate(kinds)))
    reference = f"oci:{copy.root}:{IMAGE}"
    if form == "registry":
        reference = registry[0]
        pushed(copy, registry[1])
    found = verify(reference).within()
    assert found.code == 0, found.out
    assert "more notes" in found.out


def test_an_attached_bundle_can_be_named_by_its_digest(
    verify: Verify, copy: Copy, registry: tuple[str, FakeRegistry]
) -> None:
    pushed(copy, registry[1])
    named = [option for one in copy.attached() for option in ("--bundle", one["digest"])]
    for reference in (f"oci:{copy.root}:{IMAGE}", registry[0]):
        assert verify(reference, *named).code == 0
        one = verify(reference, *named[:2])
        assert one.code == 1
        assert "no bundle with a statement of type" in one.out


def test_a_statement_that_was_logged_again_counts_once(
    verify: Verify, copy: Copy, forger: Forger
) -> None:
    attached(copy, ((SBOM, copy.bundles()[SBOM], {"n": str(number)}) for number in range(50)))
    found = verify(f"oci:{copy.root}:{IMAGE}", "--json")
    assert found.code == 0, found.out
    assert "more)" not in found.out


def test_a_bundle_of_many_small_things_is_not_parsed(
    verify: Verify, copy: Copy, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    stream.write(b'{"a":[' + b"{}," * (MAX_BUNDLE // 3 - 10) + b"{}]}")
    attached(copy, ((SBOM, stream.getvalue() + b" " * number, {}) for number in range(5)))
    found = verify(f"oci:{copy.root}:{IMAGE}").within()
    assert found.code == 0, found.out
    assert "more fields than one has" in found.out


def test_a_log_entry_of_many_small_things_is_not_parsed(verify: Verify, copy: Copy) -> None:
    def logged(bundle: bytes, number: int) -> bytes:
        document = json.loads(bundle)
        (entry,) = document["verificationMaterial"]["tlogEntries"]
        body = b'{"a":[' + b"{}," * (MAX_BUNDLE // 5) + b"{}]}" + b" " * number
        entry["canonicalizedBody"] = base64.b64encode(body).decode()
        return json.dumps(document).encode()

    true = copy.bundles()[SBOM]
    attached(copy, ((SBOM, logged(true, number), {}) for number in range(5)))
    found = verify(f"oci:{copy.root}:{IMAGE}").within()
    assert found.code == 0, found.out
    assert "a log entry has more fields than one has" in found.out


@pytest.mark.parametrize("last", ["key 59999", "KEY 59999"])
def test_an_index_of_many_keys_is_refused_at_once(verify: Verify, copy: Copy, last: str) -> None:
    document = {f"key {number}": "" for number in range(60_000)}
    index = json.dumps({**document, **copy.index()}).removesuffix("}") + f', "{last}": ""}}'
    copy.write("index.json", index.encode())
    found = verify(f"oci:{copy.root}:{IMAGE}").within()
    assert found.code == REJECTED
    assert "is there twice" in found.out or "differ only in case" in found.out


def test_an_archive_of_much_in_extended_headers_is_refused(
    verify: Verify, copy: Copy, tmp_path: Path
) -> None:
    path = tmp_path / "image.tar"
    extended = pax(b"".join(record(f"KEY.{number}", "x") for number in range(50_000)))
    with path.open("wb") as stream:
        for number in range(200):
            stream.write(extended + header(f"{number}", tarfile.REGTYPE, mode=0o644, owner=ROOT))
        stream.write(bytes(1024))
    found = verify(f"oci-archive:{path}:{IMAGE}").within()
    assert found.code == UNREADABLE
    assert "more extended headers than archives of images have" in found.out


def test_what_strangers_attached_is_not_pulled(
    copy: Copy, judge: Judge, registry: tuple[str, FakeRegistry], tmp_path: Path
) -> None:
    true = copy.bundles()
    attached(copy, ((COSIGN, flipped(true[COSIGN], number), {}) for number in range(20)))
    pushed(copy, registry[1])
    signers = Signers(tuple(judge.identities), judge.issuer)
    gate = Gate(Policy(), judge.trusted_root, signers)
    pulled = pull_image(
        f"docker://{registry[0]}:latest",
        tmp_path / "there",
        config=Config(),
        gate=gate,
        progress=quiet,
    )
    assert pulled.bundles == len(true)
