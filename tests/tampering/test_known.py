"""A verdict that is remembered is for the very same question: whatever differs is a full run's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.statement import COSIGN
from plinth.evidence.trusted_root import Root
from plinth.evidence.verify import image, known
from plinth.evidence.verify.gate import Gate
from plinth.evidence.verify.policy import NamedRebuilder, Policy, Signers
from plinth.evidence.verify.request import RawBundle, Request
from plinth.evidence.verify.verdict import NOT_SHOWN, REJECTED, VERIFIED, Verdict
from plinth.fetch.interpreter import own_interpreters
from plinth.fetch.sources.source import open_source
from plinth.graph.cache import Keyed
from plinth.inspect.contents.cache import ContentsCache
from support.forge import IDENTITY, Copy, Forger, Judge, flipped, payload
from tampering.conftest import IMAGE, OTHER
from tampering.test_ambiguous import another_name_for_engines


@dataclass
class Runs:
    """How often everything was checked."""

    number: int = 0


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    counted, verify = Runs(), image.verify_image

    def count(*args: Any) -> Verdict:
        counted.number += 1
        return verify(*args)

    monkeypatch.setattr(image, "verify_image", count)
    return counted


@dataclass(frozen=True)
class Asked:
    """A question to a verifier, whose answers are remembered in `request.cache`."""

    copy: Copy
    gate: Gate
    request: Request
    runs: Runs
    reference: str = ""
    platform: str = "linux/amd64"

    def verdict(self, request: Request | None = None) -> Verdict:
        reference = self.reference or f"oci:{self.copy.root}:{IMAGE}"
        with open_source(reference, Config(), self.platform) as source:
            return self.gate.verdict(source, request or self.request)

    def known(self) -> bool:
        """Whether the answer was remembered; in any case it is the full run's."""
        before = self.runs.number
        found = self.verdict()
        remembered = self.runs.number == before
        assert found == self.verdict(replace(self.request, cache=None))
        assert self.runs.number == before + 2 - remembered
        return remembered

    def problems(self) -> str:
        assert not self.known()
        checks = self.verdict().checks
        return "\n".join(f"{check.name}: {p}" for check in checks for p in check.problems)


@pytest.fixture
def asked(judge: Judge, copy: Copy, runs: Runs, tmp_path: Path) -> Asked:
    """What was asked once already, and passed."""
    gate = Gate(Policy(), judge.trusted_root, Signers((IDENTITY,), judge.issuer))
    request = Request(expected=IMAGE, cache=ContentsCache(tmp_path / "contents"))
    made = Asked(copy, gate, request, runs)
    assert made.verdict().passed
    assert made.known()
    return made


def a_byte_of_a_layer(copy: Copy) -> None:
    path = copy.path(copy.manifest()["layers"][-1]["digest"])
    data = bytearray((copy.root / path).read_bytes())
    data[len(data) // 2] ^= 1
    copy.write(path, bytes(data))


def a_byte_of_the_config(copy: Copy) -> None:
    digest = copy.manifest()["config"]["digest"]
    copy.write(copy.path(digest), copy.blob(digest).replace(b"dockeruser", b"dockerusex", 1))


def a_layer_less(copy: Copy) -> None:
    (copy.root / copy.path(copy.manifest()["layers"][0]["digest"])).unlink()


def another_manifest(copy: Copy) -> None:
    manifest = copy.manifest()
    manifest["annotations"]["org.example"] = "1"
    copy.become(manifest)


def a_bundle_less(copy: Copy) -> None:
    copy.attach({kind: data for kind, data in copy.bundles().items() if kind != COSIGN})


def a_bundle_that_is_damaged(copy: Copy) -> None:
    bundles = copy.bundles()
    bundle = json.loads(bundles[COSIGN])
    (signature,) = bundle["dsseEnvelope"]["signatures"]
    signature["sig"] = flipped(signature["sig"])
    copy.attach({**bundles, COSIGN: json.dumps(bundle).encode()})


def bundles_filed_as_others(copy: Copy) -> None:
    kinds, bundles = [*copy.bundles()], [*copy.bundles().values()]
    copy.attach(dict(zip(kinds[1:] + kinds[:1], bundles, strict=True)))


def an_entry_more(copy: Copy) -> None:
    entry = copy.entry(OTHER)
    title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
    copy.edit_entry(OTHER, annotations={**entry["annotations"], "io.containerd.image.name": title})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (a_byte_of_a_layer, "blobs: layer "),
        (a_layer_less, "blobs: layer 0 "),
        (a_byte_of_the_config, "blobs: config: it is sha256:"),
        (another_manifest, "signature: "),
        (a_bundle_less, "signature: no bundle with a statement"),
        (a_bundle_that_is_damaged, "signature: "),
        (bundles_filed_as_others, "filed as"),
        (an_entry_more, "index: an engine could run another entry"),
        (another_name_for_engines, "name: engines would name it"),
    ],
)
def test_another_image(asked: Asked, change: Callable[[Copy], None], problem: str) -> None:
    change(asked.copy)
    assert problem in asked.problems()
    # What failed is not remembered.
    assert not asked.known()


def test_an_entry_of_the_name_of_the_other_form(asked: Asked) -> None:
    copy, name = asked.copy, "org.opencontainers.image.ref.name"
    title = copy.manifest()["annotations"]["org.opencontainers.image.title"]
    copy.edit_entry(annotations={name: f"{IMAGE}+gzip"})
    asked = replace(asked, reference=f"oci:{copy.root}:{IMAGE}+gzip")
    assert asked.verdict().passed
    assert asked.known()
    other = {name: OTHER, "io.containerd.image.name": f"{title}:latest-gzip"}
    copy.edit_entry(OTHER, annotations=other)
    assert "index: an engine could run another entry" in asked.problems()


def test_a_bundle_more(asked: Asked, forger: Forger) -> None:
    again = forger.sign(json.dumps(payload(asked.copy.bundles()[COSIGN])).encode())
    more = replace(asked, request=replace(asked.request, bundles=(RawBundle("a file", again),)))
    assert not more.known()
    assert more.known()


def test_another_root_and_other_signers(asked: Asked, stranger: Forger) -> None:
    theirs = Root(asked.gate.root.shown, stranger.domain.trusted_root().encode())
    for gate in (
        replace(asked.gate, root=theirs),
        replace(asked.gate, signers=Signers(("other@example.org",), asked.gate.signers.issuer)),
        replace(asked.gate, signers=Signers((IDENTITY,), "https://issuer.example.org")),
    ):
        assert "signature: " in replace(asked, gate=gate).problems()


def test_another_policy(asked: Asked) -> None:
    for policy, problem in (
        (Policy(builder="https://builder.example.org"), "origin: "),
        (Policy(certified=("commit",)), "origin: "),
        (Policy(rebuilders=1), "rebuilt: "),
    ):
        gate = replace(asked.gate, policy=policy)
        assert problem in replace(asked, gate=gate).problems()


def test_another_question(asked: Asked) -> None:
    for request, problem in (
        (replace(asked.request, expected=OTHER), f"name: asked for '{OTHER}'"),
        (replace(asked.request, platform="linux/arm64"), "platform: asked for linux/arm64"),
        (replace(asked.request, only=("sha256:" + "0" * 64,)), "signature: "),
    ):
        assert problem in replace(asked, request=request).problems()
    # It is shown, and by digest anything is asked for.
    reference = f"oci:{asked.copy.root}@{asked.copy.digest.oci}"
    assert not replace(asked, reference=reference).known()


def key(asked: Asked, gate: Gate, request: Request) -> str:
    bundles = [RawBundle("a", b"a")]
    with open_source(f"oci:{asked.copy.root}:{IMAGE}", Config()) as source:
        fact = known._fact(source, request, gate, bundles)
    return fact.digest.hex if fact else ""


OTHERS: dict[str, Any] = {
    "str": "other",
    "bool": True,
    "int": 1,
    "tuple[str, ...]": ("other",),
    "tuple[NamedRebuilder, ...]": (NamedRebuilder("other", "other"),),
}


@pytest.mark.parametrize("name", [one.name for one in fields(Policy)])
def test_every_field_of_a_policy_counts(asked: Asked, name: str) -> None:
    kind = next(str(one.type) for one in fields(Policy) if one.name == name)
    policy = replace(asked.gate.policy, **{name: OTHERS[kind]})
    wanted = replace(asked.gate, policy=policy)
    assert key(asked, wanted, asked.request) != key(asked, asked.gate, asked.request)


def test_every_field_of_a_request_counts(asked: Asked, tmp_path: Path) -> None:
    """Or decides nothing, or says that the verdict is a function of more."""
    changes: dict[str, Any] = {
        "expected": "other",
        "platform": "other",
        "only": ("other",),
        "interpreters": own_interpreters(Config()),
        "checkout": tmp_path,
        "rebuild": True,
        "inputs": BlobStore(tmp_path),
    }
    # Bundles are in the key one by one.
    without = {"bundles", "cache", "config", "progress"}
    assert {one.name for one in fields(Request)} == changes.keys() | without
    keys = {
        name: key(asked, asked.gate, replace(asked.request, **{name: value}))
        for name, value in changes.items()
    }
    assert {name for name, found in keys.items() if not found} == {"checkout", "rebuild", "inputs"}
    assert len({*keys.values(), key(asked, asked.gate, asked.request)}) == 6


def test_roots_of_rebuilders_count(asked: Asked) -> None:
    gate = replace(asked.gate, rebuilder_roots=(asked.gate.root,))
    other = replace(asked.gate, rebuilder_roots=(replace(asked.gate.root, data=b"{}"),))
    keys = {key(asked, one, asked.request) for one in (asked.gate, gate, other)}
    assert len(keys) == 3


@pytest.fixture
def fresh() -> Iterator[None]:
    """What is worked out once for a process is worked out again, before and after."""
    for once in (known.code, known.libraries):
        once.cache_clear()
    yield
    for once in (known.code, known.libraries):
        once.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_other_libraries(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / "sigstore-99.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    known.libraries.cache_clear()
    assert not asked.known()
    assert any(one.startswith("cryptography-") for one in known.libraries())


@pytest.mark.usefixtures("fresh")
def test_other_code(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plinth"
    for path in known._files(str(known.PACKAGE)):
        copied = package / Path(path).relative_to(known.PACKAGE)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(Path(path).read_bytes())
    monkeypatch.setattr(known, "PACKAGE", package)
    known.code.cache_clear()
    assert asked.known()
    with (package / "evidence" / "verify" / "user.py").open("w") as file:
        file.write("\n")
    known.code.cache_clear()
    assert not asked.known()


def test_what_was_not_shown_is_tried_again_when_interpreters_change(
    asked: Asked, tmp_path: Path
) -> None:
    python = tmp_path / "python3.7"
    # No interpreter has the tree of the small image's, this one neither.
    own = own_interpreters(Config(python={"3.7": str(python)}))
    without = replace(asked, request=replace(asked.request, interpreters=own))
    for change in (python.touch, partial(python.write_bytes, b"#!/bin/sh\n")):
        assert any(check.detail.startswith(NOT_SHOWN) for check in without.verdict().checks)
        assert without.known()
        change()
        assert not without.known()


def test_a_checkout_is_looked_at_each_time(asked: Asked, judge: Judge) -> None:
    mine = replace(asked, request=replace(asked.request, checkout=judge.checkout))
    assert mine.verdict().passed
    assert not mine.known()


def test_more_bundles_than_are_held_are_verified_all_the_same(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MAX_HELD", 1)
    assert not asked.known()
    assert asked.verdict().passed


def test_what_changes_while_it_is_verified_is_not_remembered(asked: Asked, tmp_path: Path) -> None:
    """The config that the key is about must be the one that was verified."""
    asked = replace(asked, request=replace(asked.request, cache=ContentsCache(tmp_path / "new")))
    with open_source(f"oci:{asked.copy.root}:{IMAGE}", Config()) as source:
        good = source.config()
        for configs in ([b"{}", good], [b"{}"]):
            answers = iter(configs)

            def config(answers: Iterator[bytes] = answers, last: bytes = configs[-1]) -> bytes:
                return next(answers, last)

            source.config = config  # type: ignore[method-assign]
            assert asked.gate.verdict(source, asked.request).passed is (len(configs) == 2)


@dataclass
class Lying(ContentsCache):
    """Has another verdict than was stored."""

    data: bytes
    asked: list[str] = field(default_factory=list)

    def knows(self, layer: Digest) -> bool:
        return False

    def lookup(self, action: Keyed, output: str) -> bytes | None:
        self.asked.append(action.mnemonic)
        return self.data if action.mnemonic == "verdict" else None

    def store(self, action: Keyed, output: str, data: bytes) -> None:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"checks": [], "notes": [], "run": [], "reference": "", "digest": ""}',
        b'{"checks": [{"name": 1, "detail": 2, "problems": [], "claims": []}], "notes": []}',
    ],
)
def test_what_is_no_verdict_is_not_taken(asked: Asked, data: bytes) -> None:
    cache = Lying(data)
    assert not replace(asked, request=replace(asked.request, cache=cache)).known()
    assert "verdict" in cache.asked


def test_a_verdict_on_another_manifest_or_one_that_failed_is_not_taken(asked: Asked) -> None:
    good = asked.verdict()
    for wrong in (
        replace(good, digest="sha256:" + "0" * 64),
        replace(good, checks=(replace(good.checks[0], problems=("x",)), *good.checks[1:])),
        replace(good, checks=()),
    ):
        cache = Lying(json.dumps(asdict(wrong)).encode())
        assert not replace(asked, request=replace(asked.request, cache=cache)).known()


def entries(contents: Path) -> Collection[Path]:
    """What is remembered of verdicts: the entry and what it names."""
    for path in (contents / "actions").glob("*.json"):
        document = json.loads(path.read_bytes())
        if document["mnemonic"] == "verdict":
            named = document["outputs"]["verdict"][0]
            return path, contents / "blobs" / "sha256" / named
    return ()


@pytest.mark.parametrize("number", [0, 1])
def test_damage_is_a_miss(asked: Asked, number: int, tmp_path: Path) -> None:
    path = [*entries(tmp_path / "contents")][number]
    for data in (b"", b"\0" * 100, path.read_bytes()[:-1], path.read_bytes().replace(b"1", b"2")):
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        assert not asked.known()
        path.unlink(missing_ok=True)
        assert not asked.known()
        assert asked.known()


def test_a_hit_loads_neither_the_library_nor_what_builds(
    asked: Asked, tmp_path: Path, forger: Forger
) -> None:
    root = tmp_path / "root.json"
    root.write_text(forger.domain.trusted_root())
    script = f"""
import sys
from pathlib import Path
from plinth.core.settings import Config
from plinth.evidence.verify.gate import open_gate
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.request import Request
from plinth.fetch.interpreter import own_interpreters
from plinth.fetch.sources.source import open_source
from plinth.inspect.contents.cache import ContentsCache
import plinth.commands.main, plinth.commands.verify, plinth.fetch.interpreter
policy = Policy(({IDENTITY!r},), {forger.domain.issuer!r}, {str(root)!r})
gate = open_gate(policy, later=True)
with open_source({f"oci:{asked.copy.root}:{IMAGE}"!r}, Config()) as source:
    request = Request({IMAGE!r}, cache=ContentsCache(Path({str(tmp_path / "new")!r})))
    assert gate.verdict(source, request).passed
unwanted = ("sigstore", "cryptography", "pydantic", "plinth.build", "requests", "docker")
print(sorted(name for name in unwanted if name in sys.modules))
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", script], check=True, text=True, capture_output=True
        ).stdout
        for _ in range(2)
    ]
    assert "sigstore" in said[0]
    assert said[1] == "[]\n"


Output = pytest.CaptureFixture[str]


def test_the_command_says_the_same(
    asked: Asked, forger: Forger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PLINTH_CONFIG", "PLINTH_TRUST", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    # No interpreter has the tree of the small image's, so bytecode is left out.
    monkeypatch.setattr("plinth.fetch.interpreter.own_interpreters", lambda config: None)
    root = tmp_path / "root.json"
    root.write_text(forger.domain.trusted_root())
    command = ["verify", "--identity", IDENTITY, "--issuer", forger.domain.issuer]
    command += ["--trusted-root", str(root), f"oci:{asked.copy.root}:{IMAGE}"]

    def said(*options: str) -> tuple[str, int]:
        before = asked.runs.number
        assert main([*command, *options]) == VERIFIED
        return capsys.readouterr().out, asked.runs.number - before

    contents = tmp_path / "XDG_CACHE_HOME" / "plinth" / "contents"
    assert said("--fresh")[1] == 1
    assert not contents.exists()
    for options in ((), ("--json",)):
        full, runs = said(*options, "--fresh")
        assert (runs, "claims" in full) == (1, bool(options))
        said(*options)
        assert said(*options) == (full, 0)
    a_byte_of_a_layer(asked.copy)
    assert main(command) == REJECTED
    assert "FAIL  blobs" in capsys.readouterr().out
