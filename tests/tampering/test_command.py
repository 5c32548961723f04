"""`plinth verify` as it is run: what it believes, prints and exits with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plinth.commands.main import main
from plinth.evidence.statement import COSIGN, PROVENANCE
from plinth.evidence.verify.verdict import REJECTED, UNREADABLE, VERIFIED
from plinth.formats.oci.referrers import MAX_BUNDLE
from support.forge import IDENTITY, Copy, Forger, docker_archive, payload
from tampering.conftest import IMAGE, OTHER

Verify = Callable[..., int]


@pytest.fixture
def root(forger: Forger, tmp_path: Path) -> Path:
    path = tmp_path / "root.json"
    path.write_text(forger.domain.trusted_root())
    return path


@pytest.fixture
def verify(forger: Forger, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """The command, with the options that say whom to believe before those given."""
    monkeypatch.chdir(tmp_path)
    for name in ("PLINTH_CONFIG", "PLINTH_TRUST", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    # No interpreter: the machine's own is another than the small image's.
    (tmp_path / "PLINTH_CONFIG").write_text('[python]\n"3.7" = "/none"\n')
    whom = ("--identity", IDENTITY, "--issuer", forger.domain.issuer, "--trusted-root", str(root))
    return lambda *rest: main(["verify", *whom, *map(str, rest)])


def reference(copy: Copy, name: str = IMAGE) -> str:
    return f"oci:{copy.root}:{name}"


Output = pytest.CaptureFixture[str]


def test_for_people(verify: Verify, copy: Copy, forger: Forger, root: Path, capsys: Output) -> None:
    assert verify(reference(copy), "--fresh") == VERIFIED
    out, err = capsys.readouterr()
    who = f"{IDENTITY}, issuer {forger.domain.issuer}"
    assert err == f"trusting signatures by {who} (root: the trusted root {root})\n"
    assert out.startswith(f"{reference(copy)}\n  {copy.digest.oci}\n  ok    name")
    assert "FAIL" not in out and "  ok    platform           linux/amd64\n" in out
    config = copy.manifest()["config"]["digest"]
    run = f"once loaded, run {config}, with containerd {copy.digest.oci}"
    assert out.endswith(f"\nverified: 14 checks; {run}\n")


def test_for_programs(verify: Verify, copy: Copy, capsys: Output) -> None:
    assert verify("--json", reference(copy), reference(copy, OTHER)) == VERIFIED
    out, err = capsys.readouterr()
    assert err == ""
    assert [(one["reference"], one["verified"]) for one in json.loads(out)] == [
        (reference(copy), True),
        (reference(copy, OTHER), True),
    ]


def test_one_of_several_rejected(verify: Verify, copy: Copy, capsys: Output) -> None:
    copy.detach()
    assert verify(reference(copy, OTHER), reference(copy), reference(copy, OTHER)) == REJECTED
    out, _ = capsys.readouterr()
    assert [line for line in out.splitlines() if line.startswith("oci:")] == [
        reference(copy, OTHER),
        reference(copy),
        reference(copy, OTHER),
    ]
    assert out.count("FAIL  signature") == 1


def test_what_cannot_be_read_is_said_after_the_others(
    verify: Verify, copy: Copy, tmp_path: Path, capsys: Output
) -> None:
    assert verify(f"oci:{tmp_path}/none:x", reference(copy)) == UNREADABLE
    out, err = capsys.readouterr()
    assert out.startswith(reference(copy))
    assert err.splitlines()[1].startswith(f"plinth: oci:{tmp_path}/none:x: ")
    assert verify("--json", f"oci:{tmp_path}/none:x") == UNREADABLE
    assert json.loads(capsys.readouterr().out) == []


def test_a_digest_that_is_none(verify: Verify, copy: Copy, capsys: Output) -> None:
    copy.edit_entry(digest="sha256:" + "0" * 63)
    assert verify(reference(copy)) == UNREADABLE
    assert capsys.readouterr().err.splitlines()[1].startswith(f"plinth: {reference(copy)}: ")


def test_another_image_than_was_asked_for(verify: Verify, copy: Copy, capsys: Output) -> None:
    assert verify(reference(copy), "--image", OTHER) == REJECTED
    assert f"asked for '{OTHER}', this is '{IMAGE}'" in capsys.readouterr().out
    title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
    for name in (IMAGE, title, title.rpartition("/")[2]):
        assert verify(reference(copy), "--image", name) == VERIFIED
    # By digest nothing else is expected.
    assert verify(f"oci:{copy.root}@{copy.digest.oci}") == VERIFIED
    assert "asked for by digest" in capsys.readouterr().out


@pytest.mark.parametrize("one", ["--identity", "--issuer"])
def test_nobody_is_believed_by_half(
    verify: Verify, copy: Copy, root: Path, one: str, capsys: Output
) -> None:
    said = [one, IDENTITY, "--trusted-root", str(root)]
    assert main(["verify", *said, reference(copy)]) == UNREADABLE
    out, err = capsys.readouterr()
    assert (
        out == "" and "no signer identity and issuer were given" in err and "--identity WHO" in err
    )
    assert main(["verify", "--trusted-root", str(root / "none"), reference(copy)]) == UNREADABLE


def test_a_policy(
    verify: Verify, copy: Copy, forger: Forger, root: Path, tmp_path: Path, capsys: Output
) -> None:
    policy = tmp_path / "policy.toml"
    wanted = f'identity = "{IDENTITY}"\nissuer = "{forger.domain.issuer}"\n'
    policy.write_text(f'{wanted}trusted-root = "{root.name}"\n')
    assert main(["verify", "--policy", str(policy), reference(copy)]) == VERIFIED
    policy.write_text(f'{wanted}trusted-root = "{root.name}"\nrequire-clean = true\n')
    assert main(["verify", "--policy", str(policy), reference(copy)]) == REJECTED
    assert "built from a tree that no commit describes" in capsys.readouterr().out
    # What is said on the command line goes first.
    said = ["--policy", str(policy), "--identity", "somebody@example.org"]
    assert main(["verify", *said, reference(copy)]) == REJECTED
    assert "expected: somebody@example.org" in capsys.readouterr().out
    policy.write_text("identity = 7\n")
    assert main(["verify", "--policy", str(policy), reference(copy)]) == UNREADABLE
    assert "policy.toml" in capsys.readouterr().err


def test_a_checkout_of_the_verifiers(
    verify: Verify, copy: Copy, tmp_path: Path, capsys: Output
) -> None:
    assert verify(reference(copy), "--checkout", tmp_path) == REJECTED
    assert f"not in {tmp_path}" in capsys.readouterr().out


def files_of(copy: Copy, folder: Path) -> list[Path]:
    folder.mkdir()
    made = []
    for number, data in enumerate(copy.bundles().values()):
        made.append(folder / f"{number}.sigstore.json")
        made[-1].write_bytes(data)
    return made


def test_bundles_in_files(verify: Verify, copy: Copy, tmp_path: Path, capsys: Output) -> None:
    files = files_of(copy, tmp_path / "bundles")
    copy.detach()
    assert verify(reference(copy), "--bundle", tmp_path / "bundles") == VERIFIED
    named = [part for file in files for part in ("--bundle", file)]
    assert verify(reference(copy), *named) == VERIFIED
    assert verify(reference(copy), *named[2:]) == REJECTED
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert verify(reference(copy), "--bundle", tmp_path / "empty") == UNREADABLE
    assert "no bundle in it" in capsys.readouterr().err
    large = tmp_path / "large.sigstore.json"
    for size, code in ((MAX_BUNDLE, REJECTED), (MAX_BUNDLE + 1, UNREADABLE)):
        large.write_bytes(b"")
        with large.open("r+b") as stream:
            stream.truncate(size)
        assert verify(reference(copy), "--bundle", large) == code
    assert "too large for a bundle" in capsys.readouterr().err


def test_an_archive_that_lost_its_manifest(
    verify: Verify, copy: Copy, tmp_path: Path, capsys: Output
) -> None:
    """The signed provenance has it: of this image, among others."""
    archive = docker_archive(copy, tmp_path / "saved.tar")
    files_of(copy, tmp_path / "mine")
    others = files_of(Copy(copy.root, OTHER), tmp_path / "others")
    bundles = ["--image", IMAGE, "--bundle", tmp_path / "mine"]
    assert verify(archive, *bundles) == VERIFIED
    capsys.readouterr()
    without = [file for file in others if kind_of(file) == PROVENANCE]
    assert verify(archive, "--image", IMAGE, "--bundle", without[0]) == REJECTED
    text = capsys.readouterr().out
    assert "no valid provenance was found that has one with this config" in text
    assert "FAIL  signature" in text and COSIGN in text


def alone(copy: Copy, **changes: object) -> None:
    """Let the image be the only one in the layout, its entry changed."""
    index = copy.index()
    index["manifests"].remove(copy.entry(OTHER))
    copy.write_index(index)
    copy.edit_entry("", **changes)


def test_without_a_name_no_image_will_do(
    verify: Verify, copy: Copy, tmp_path: Path, capsys: Output
) -> None:
    """N9: whatever the signer signed would pass."""
    alone(copy)
    files_of(copy, tmp_path / "mine")
    bundles = ("--bundle", tmp_path / "mine")
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(copy.root, ".")
    # A folder's name is no digest.
    folder = tmp_path / f"x@{copy.digest.oci}"
    folder.symlink_to(copy.root)
    places = [f"oci:{copy.root}", f"oci-archive:{archive}", str(copy.root), f"oci:{folder}"]
    for place in (*places, docker_archive(copy, tmp_path / "saved.tar")):
        assert verify(place, *bundles) == REJECTED, place
        out = capsys.readouterr().out
        assert "FAIL  name" in out and out.endswith("REJECTED: name\n")
        assert "no name was asked for, and any image of the signer would pass" in out
        by = f"--image {IMAGE}, or in the reference @{copy.digest.oci}\n"
        assert (by if place in places else f"--image {IMAGE}\n") in out
        assert verify(place, "--image", IMAGE, *bundles) == VERIFIED
        capsys.readouterr()
    assert verify(f"oci-archive:{archive}@{copy.digest.oci}") == VERIFIED


@pytest.mark.parametrize("name", ["nginx", "docker.io/library/nginx:latest", "latest"])
def test_without_a_name_for_engines_the_reference_is_theirs(
    verify: Verify, copy: Copy, name: str, capsys: Output
) -> None:
    """N8: podman and containerd name an image by it."""
    alone(copy, annotations={"org.opencontainers.image.ref.name": name})
    assert verify(f"oci:{copy.root}", "--image", IMAGE) == REJECTED
    assert f"engines would name it '{name}'" in capsys.readouterr().out
    assert verify(f"oci:{copy.root}:{name}", "--image", IMAGE) == VERIFIED


def test_for_another_platform(verify: Verify, copy: Copy, capsys: Output) -> None:
    assert verify(reference(copy), "--platform", "linux/amd64") == VERIFIED
    assert verify(reference(copy), "--platform", "linux/arm64") == REJECTED
    problem = "asked for linux/arm64, the image is for linux/amd64: --platform linux/amd64"
    out = capsys.readouterr().out
    assert problem in out and out.endswith("REJECTED: platform\n")


def test_what_to_run_is_for_programs_too(verify: Verify, copy: Copy, capsys: Output) -> None:
    assert verify("--json", reference(copy)) == VERIFIED
    (one,) = json.loads(capsys.readouterr().out)
    assert one["run"] == [copy.manifest()["config"]["digest"], copy.digest.oci]
    copy.detach()
    assert verify("--json", reference(copy)) == REJECTED
    assert json.loads(capsys.readouterr().out)[0]["run"] == []


def test_a_root_that_readers_take_differently(
    verify: Verify, copy: Copy, root: Path, capsys: Output
) -> None:
    text = root.read_text()
    for key in ('"tlogs"', '"Tlogs"', '"t_logs"'):
        root.write_text(text.replace('"tlogs":', f'{key}:[],"tlogs":', 1))
        assert verify(reference(copy)) == UNREADABLE, key
        assert "not a trusted root that can be used" in capsys.readouterr().err


def test_a_folder_of_bundles_has_no_devices_and_pipes(
    verify: Verify, copy: Copy, tmp_path: Path, capsys: Output
) -> None:
    """Read, they would never end, or fill all memory."""
    folder = tmp_path / "bundles"
    files_of(copy, folder)
    for make in (lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        make(folder / "x.sigstore.json")
        assert verify(reference(copy), "--bundle", folder) == UNREADABLE
        assert "x.sigstore.json: not a file" in capsys.readouterr().err
        (folder / "x.sigstore.json").unlink()
    assert verify(reference(copy), "--bundle", "/dev/zero") == UNREADABLE
    assert "too large for a bundle" in capsys.readouterr().err


def test_a_wheel_and_what_is_beside_it_are_files(
    verify: Verify, tmp_path: Path, capsys: Output
) -> None:
    os.mkfifo(tmp_path / "a.whl")
    assert verify(tmp_path / "a.whl") == UNREADABLE
    assert "a.whl: there is no such file" in capsys.readouterr().err
    (tmp_path / "[b].whl").write_bytes(b"")
    os.mkfifo(tmp_path / "[b].whl.sigstore.json")
    (tmp_path / "[b].whl.x.sigstore.json").write_bytes(b"nonsense")
    (tmp_path / "b.whl.x.sigstore.json").symlink_to("/dev/zero")
    assert verify(tmp_path / "[b].whl") == REJECTED
    assert "[b].whl.x.sigstore.json: not a Sigstore bundle" in capsys.readouterr().out
    # Of images alone, and not taken in silence.
    assert verify(tmp_path / "[b].whl", "--rebuild", "--checkout", tmp_path) == UNREADABLE
    err = capsys.readouterr().err
    assert "of a wheel only signatures are checked" in err
    assert "found:    --checkout, --rebuild" in err


def kind_of(bundle: Path) -> str:
    return str(payload(bundle.read_bytes())["predicateType"])


Root = dict[str, Any]
LISTS = ("tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities")


def at(*path: str | int, to: object) -> Callable[[Root], None]:
    """Set a value in a root."""

    def change(root: Any) -> None:
        for key in path[:-1]:
            root = root[key]
        root[path[-1]] = to

    return change


UNUSABLE: dict[str, Callable[[Root], None]] = {
    "another media type": at("mediaType", to="application/json"),
    **{f"{name} is no list": at(name, to=7) for name in LISTS},
    **{f"{name} is null": at(name, to=None) for name in LISTS[:3]},
    **{f"{name} is empty": at(name, to=[]) for name in LISTS[:3]},
    **{f"{name} holds a number": at(name, to=[7]) for name in LISTS},
    **{f"{name} holds an empty object": at(name, to=[{}]) for name in LISTS},
}
for name in LISTS[:2]:
    UNUSABLE |= {
        f"{name}: no key": at(name, 0, "publicKey", to={}),
        f"{name}: a key of one byte": at(name, 0, "publicKey", "rawBytes", to="eA=="),
        f"{name}: a key in no base64": at(name, 0, "publicKey", "rawBytes", to="?"),
        f"{name}: a key of another kind": at(name, 0, "publicKey", "keyDetails", to="PKIX_ED25519"),
        f"{name}: a key of an unknown kind": at(name, 0, "publicKey", "keyDetails", to="ROT13"),
        f"{name}: an id that is none": at(name, 0, "logId", "keyId", to="?"),
        f"{name}: no id": at(name, 0, "logId", to={}),
        f"{name}: times that are none": at(name, 0, "publicKey", "validFor", "start", to="soon"),
        f"{name}: an address that is none": at(name, 0, "baseUrl", to="http://["),
    }
for name in LISTS[2:]:
    UNUSABLE |= {
        f"{name}: no certificate": at(name, 0, "certChain", "certificates", to=[]),
        f"{name}: no chain": at(name, 0, "certChain", to={}),
        f"{name}: garbage": at(name, 0, "certChain", "certificates", 0, "rawBytes", to="eA=="),
        f"{name}: garbage behind": at(
            name, 0, "certChain", "certificates", -1, "rawBytes", to="eA=="
        ),
        f"{name}: times that are none": at(name, 0, "validFor", "start", to="soon"),
    }


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_a_root_that_verifies_nothing_is_an_error(
    verify: Verify, copy: Copy, root: Path, change: Callable[[Root], None], capsys: Output
) -> None:
    document = json.loads(root.read_text())
    change(document)
    root.write_text(json.dumps(document))
    code = verify(reference(copy))
    out, err = capsys.readouterr()
    assert code == UNREADABLE, out + err
    assert str(root) in err and "Traceback" not in err and "Failed to load" not in err
    assert "cannot be used" in err or "can be used" in err, err


def test_nothing_of_a_library_is_printed(
    verify: Verify, copy: Copy, root: Path, forger: Forger, tmp_path: Path
) -> None:
    """In a process of its own: pytest takes what libraries log. The older form of bundles carries a
    chain, and the library warns of a root in it."""
    bundle = json.loads(copy.bundles()[COSIGN])
    leaf = bundle["verificationMaterial"].pop("certificate")
    authority = json.loads(root.read_text())["certificateAuthorities"][0]["certChain"]
    bundle["verificationMaterial"]["x509CertificateChain"] = {
        "certificates": [leaf, *authority["certificates"]]
    }
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    file = tmp_path / "older.sigstore.json"
    file.write_text(json.dumps(bundle))
    options = [
        "--identity",
        IDENTITY,
        "--issuer",
        forger.domain.issuer,
        "--trusted-root",
        str(root),
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "plinth",
            "verify",
            *options,
            "--bundle",
            str(file),
            reference(copy),
        ],
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == VERIFIED, done.stdout
    assert "another kind of bundle" in done.stdout
    assert done.stderr.startswith("trusting signatures by") and done.stderr.count("\n") == 1


def test_what_two_readers_differ_about_is_rejected(
    verify: Verify, copy: Copy, capsys: Output
) -> None:
    """An entry of the same name, and a digest beside the digest."""
    index = copy.index()
    other = {**copy.entry(OTHER), "annotations": copy.entry()["annotations"]}
    copy.write_index({**index, "manifests": [other, *index["manifests"]]})
    assert verify(reference(copy)) == REJECTED
    err = capsys.readouterr().err
    assert copy.entry(OTHER)["digest"] in err and "2 entries of one name" in err
    copy.write_index(index)
    copy.edit_entry(DIGEST=copy.entry(OTHER)["digest"])
    assert verify(reference(copy)) == REJECTED
    assert "'digest' and 'DIGEST' differ only in case" in capsys.readouterr().err


def test_a_memory_that_others_can_write_to_is_not_used(
    verify: Verify, copy: Copy, tmp_path: Path, capsys: Output
) -> None:
    before = os.umask(0)
    try:
        assert verify(reference(copy)) == VERIFIED
        contents = tmp_path / "XDG_CACHE_HOME" / "plinth" / "contents"
        assert contents.stat().st_mode & 0o777 == 0o700
        assert list((contents / "actions").iterdir())
        assert verify(reference(copy)) == VERIFIED
        # As earlier versions made it under such a umask, and somebody lies in it.
        contents.chmod(0o755)
        assert verify(reference(copy)) == VERIFIED
    finally:
        os.umask(before)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert notes == [
        "note: what is remembered of layers is not used: "
        f"others can write to {contents}/actions (mode 0777)"
    ]
