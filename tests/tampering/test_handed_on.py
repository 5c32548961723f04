"""What is handed on or taken in: verified before anybody is given anything, and that very manifest.

N13 is the name of a trick by which a registry chose which image a pull overwrites.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from integration.conftest import store_engine
from plinth.commands.main import main
from plinth.core.errors import IntegrityError, LayoutError, VerificationError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.verify.gate import Gate, required
from plinth.evidence.verify.request import Request
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.layout import ImageReference
from plinth.formats.oci.model import MANIFEST
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.collect import collect
from plinth.publish.airgap.export import write_archive
from plinth.publish.airgap.take import take
from plinth.publish.engine.load import id_of, load
from plinth.publish.registry.pull import pull_image
from plinth.publish.registry.push import Pushed, push_image
from support.fake_registry import FakeRegistry, fake_registry
from support.forge import IDENTITY, Copy, Forger, link_tree
from support.http_server import Server
from support.small_checkout import SmallCheckout
from tampering.conftest import FORM, IMAGE, OTHER
from tampering.test_ambiguous import NAME, REF, another_name_for_engines

__all__ = ["store_engine"]
DAY = datetime.date(2026, 3, 4)
Place = tuple[Server, FakeRegistry]


@pytest.fixture
def settings(forger: Forger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Settings with a policy, which commands find, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("PLINTH_CONFIG", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "root.json").write_text(forger.domain.trusted_root())
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'identity = "{IDENTITY}"\nissuer = "{forger.domain.issuer}"\ntrusted-root = "root.json"\n'
    )
    (tmp_path / "PLINTH_CONFIG").write_text(f"policy = {json.dumps(str(policy))}\n")
    return Config(policy=str(policy))


@pytest.fixture
def gate(settings: Config) -> Gate:
    found = required(settings)
    assert found is not None
    return found


@pytest.fixture
def ws(copy: Copy, tmp_path: Path) -> Workspace:
    """A checkout whose layout is the copy."""
    return Workspace(tmp_path, tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with fake_registry(tmp_path / "registry") as running:
        yield running


def repository(place: Place, name: str = IMAGE) -> str:
    return f"{place[0].url.removeprefix('http://')}/{name}"


def fill(place: Place, copy: Copy, name: str, tag: str = "1") -> str:
    """Put the image, under the name of a repository, into the registry; its reference."""
    for path in (copy.root / "blobs" / "sha256").iterdir():
        place[1].put_blob(name, path.read_bytes())
    place[1].put(name, MANIFEST, copy.blob(copy.digest.oci), tag)
    for data in map(copy.blob, (entry["digest"] for entry in copy.attached())):
        place[1].put(name, MANIFEST, data)
    return f"{repository(place, name)}:{tag}"


def push(
    ws: Workspace, to: str, gate: Gate, settings: Config, before: Gate | None = None
) -> Pushed:
    return push_image(
        ws,
        IMAGE,
        to,
        config=settings,
        gate=lambda: gate,
        before=before,
        today=DAY,
        progress=quiet,
    )


class NeverAsked:
    """An engine that must not be asked anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the engine was asked: {name}")


def other_layers(copy: Copy) -> None:
    """The name stands for another image."""
    entry = Copy(copy.root, OTHER).entry()
    copy.edit_entry(digest=entry["digest"], size=entry["size"])


BAD: list[tuple[str, Callable[[Copy], None], str]] = [
    ("unsigned", Copy.detach, "signature: no bundle"),
    ("another image", other_layers, f"name: asked for '{IMAGE}', this is '{OTHER}'"),
    ("N8", another_name_for_engines, "name: engines would name it 'docker.io/library/nginx"),
]
bad = pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)


@bad
def test_what_does_not_verify_is_given_to_nobody(
    ws: Workspace,
    copy: Copy,
    gate: Gate,
    settings: Config,
    place: Place,
    change: Callable[[Copy], None],
    message: str,
) -> None:
    change(copy)
    handing: list[Callable[[], object]] = [
        lambda: load(ws, IMAGE, gate=gate, config=settings, client=NeverAsked()),  # type: ignore[arg-type]
        lambda: push(ws, repository(place), gate, settings, before=gate),
        lambda: collect(ws, [IMAGE], None, inputs=False, config=settings, gate=gate),
    ]
    for hand_on in handing:
        with pytest.raises(VerificationError, match="it does not verify") as raised:
            hand_on()
        assert message in str(raised.value)
    assert not place[0].asked


def test_what_verifies_is_handed_on_by_the_digest_that_was_verified(
    ws: Workspace, copy: Copy, gate: Gate, settings: Config, place: Place, tmp_path: Path
) -> None:
    pushed = push(ws, repository(place, "x").removesuffix("/x"), gate, settings, before=gate)
    assert pushed.latest and pushed.digest == copy.digest
    reference = f"{pushed.place}:latest".removeprefix("http://")
    pulled = pull_image(reference, tmp_path / "a", config=settings, gate=gate, progress=quiet)
    assert (pulled.name, pulled.digest, pulled.bundles) == (IMAGE, copy.digest, 3)
    archive = tmp_path / "a.tar"
    write_archive(collect(ws, [IMAGE], None, inputs=False, config=settings, gate=gate), archive)
    taken = take(archive, tmp_path / "b", replace=False, gate=gate, config=settings, progress=quiet)
    assert taken.images == (IMAGE,)
    assert Copy(tmp_path / "b" / "oci", IMAGE).digest == copy.digest


def test_a_build_in_between_is_noticed(
    ws: Workspace, copy: Copy, gate: Gate, settings: Config
) -> None:
    """The name stands for another image than was going to be handed on."""
    with pytest.raises(LayoutError, match="built again meanwhile"):
        gate.admit_built(ws, ImageReference(OTHER, copy.digest, "x"), settings)


@pytest.mark.engine
def test_what_verifies_is_loaded_and_known_by_what_the_verdict_says(
    ws: Workspace, gate: Gate, settings: Config, store_engine: docker.DockerClient
) -> None:
    loaded = load(ws, IMAGE, gate=gate, config=settings, client=store_engine)
    try:
        with open_source(f"oci:{ws.layout.root}:{IMAGE}", settings) as source:
            run = gate.verdict(source, Request(expected=IMAGE)).run
        assert [id_of(store_engine, one) for one in run if one == loaded.id] == [loaded.id]
    finally:
        store_engine.images.remove(loaded.id, force=True)


@pytest.mark.usefixtures("settings")
def test_an_import_verifies_before_anything_is_kept(
    ws: Workspace, copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "a.tar"
    copy.detach()
    write_archive(collect(ws, [IMAGE], None, inputs=False, config=Config()), archive)
    into = tmp_path / "into"
    assert main(["import", str(archive), "--into", str(into)]) == 1
    assert "signature: no bundle" in capsys.readouterr().err
    assert not (into / "oci").exists()
    assert main(["import", str(archive), "--into", str(into), "--no-verify"]) == 0
    assert "images not verified" in capsys.readouterr().out


def test_colons_in_paths_are_no_names(
    copy: Copy, gate: Gate, settings: Config, tmp_path: Path
) -> None:
    """As people write references, a path ends at the first colon; these nobody wrote."""
    ws = Workspace(tmp_path, tmp_path / "10:15")
    link_tree(copy.root, ws.layout.root)
    cargo = collect(ws, [IMAGE], None, inputs=False, config=settings, gate=gate)
    archive = tmp_path / "at 10:15.tar"
    write_archive(cargo, archive)
    taken = take(archive, tmp_path / "b", replace=False, gate=gate, config=settings, progress=quiet)
    assert taken.images == (IMAGE,)


@pytest.mark.usefixtures("settings")
def test_an_attachment_verifies_before_the_registry_is_asked(
    copy: Copy, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    target = fill(place, copy, IMAGE)
    before = len(place[0].asked)
    copy.edit_entry(annotations={REF: IMAGE, NAME: "docker.io/library/nginx:latest"})
    assert main(["attach", f"oci:{copy.root}:{IMAGE}", target]) == 1
    assert "engines would name it" in capsys.readouterr().err
    assert len(place[0].asked) == before
    assert main(["attach", f"oci:{copy.root}:{IMAGE}", target, "--no-verify"]) == 0
    assert "not verified" in capsys.readouterr().out


def test_without_a_policy_or_where_it_is_said_nothing_is_verified(settings: Config) -> None:
    assert required(Config()) is None
    assert required(settings, no_verify=True) is None
    assert required(Config(), policy=settings.policy) is not None


def pulled(place: Place, copy: Copy, layout: Path, *options: str, name: str = IMAGE) -> int:
    reference = fill(place, copy, name)
    return main(["pull", reference, "--layout", str(layout), *options])


@pytest.mark.usefixtures("settings")
def test_a_registry_does_not_choose_which_name_is_overwritten(
    copy: Copy, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """N13: its manifest calls itself `small`, and is published as that."""
    layout = tmp_path / "there"
    assert pulled(place, copy, layout) == 0
    ours = Copy(layout, IMAGE).entry()
    evil = copy.manifest()
    evil["annotations"]["x"] = "y"
    copy.become(evil)
    assert pulled(place, copy, layout, "--no-verify", name="evil") == 0
    assert "not verified" in capsys.readouterr().out
    assert Copy(layout, IMAGE).entry() == ours
    entry = Copy(layout, "evil").entry()
    assert entry["digest"] == copy.digest.oci
    assert entry["annotations"][NAME] == f"{repository(place, 'evil')}:1"


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("options", [[], ["--name", IMAGE]])
def test_an_unverified_image_takes_no_name_of_another(
    copy: Copy, place: Place, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    layout = tmp_path / "there"
    assert pulled(place, copy, layout) == 0
    before = (layout / "index.json").read_bytes()
    ours = copy.digest.oci
    other = copy.manifest()
    other["annotations"]["x"] = "y"
    copy.become(other)
    # The same bytes again are welcome.
    assert pulled(place, Copy(layout, IMAGE), layout, "--no-verify") == 0
    place[0].asked.clear()
    before = (layout / "index.json").read_bytes()
    name = "evil" if options else IMAGE
    assert pulled(place, copy, layout, "--no-verify", *options, name=name) == 1
    err = capsys.readouterr().err
    assert f"'{IMAGE}' is another image here, and this one is not verified" in err
    assert ours in err and copy.digest.oci in err and "--name" in err
    assert (layout / "index.json").read_bytes() == before
    layers = [layer["digest"] for layer in copy.manifest()["layers"]]
    assert not any(digest in str(asked) for digest in layers for asked in place[0].asked)


@pytest.mark.usefixtures("settings")
def test_engines_call_one_image_of_a_layout_by_its_name(
    copy: Copy, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = tmp_path / "there"
    assert pulled(place, copy, layout, "--no-verify", "--name", "old") == 0
    # Its own name, and another name of the same image, are no other image's.
    for name in ("old", "same"):
        assert pulled(place, Copy(layout, "old"), layout, "--no-verify", "--name", name) == 0
    before = (layout / "index.json").read_bytes()
    other = copy.manifest()
    other["annotations"]["x"] = "y"
    copy.become(other)
    capsys.readouterr()
    assert pulled(place, copy, layout, "--no-verify", "--name", "new") == 1
    err = capsys.readouterr().err
    assert f"engines would call two images here {repository(place)}:1" in err
    assert "expected: 'new' alone" in err and "another --layout" in err
    assert (layout / "index.json").read_bytes() == before


@pytest.mark.usefixtures("settings")
def test_both_forms_of_an_image_are_pulled_into_one_layout(
    both: SmallCheckout, place: Place, tmp_path: Path
) -> None:
    layout = tmp_path / "there"
    for name, tag in ((IMAGE, "1"), (FORM, "1-zstd")):
        reference = fill(place, Copy(both.ws.layout.root, name), IMAGE, tag)
        assert main(["pull", reference, "--layout", str(layout), "--name", name]) == 0
    one, other = (Copy(layout, name).entry()["annotations"][NAME] for name in (IMAGE, FORM))
    assert other == f"{one}-zstd"
    for name in (IMAGE, FORM):
        assert main(["verify", f"oci:{layout}:{name}"]) == 0


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("options", [[], ["--no-verify"]])
def test_what_lies_under_a_digest_already_is_no_part_of_an_image(
    copy: Copy, place: Place, tmp_path: Path, options: list[str]
) -> None:
    """Other bytes of the same length, in the layout that is pulled into."""
    layout = tmp_path / "there"
    manifest = copy.manifest()
    parts = [manifest["config"]["digest"], *(one["digest"] for one in manifest["layers"])]
    bad = [copy.digest.oci] if not options else [copy.digest.oci, *parts]
    (layout / "blobs/sha256").mkdir(parents=True)
    for digest in bad:
        Copy(layout, IMAGE).write(copy.path(digest), bytes(len(copy.blob(digest))))
    assert pulled(place, copy, layout, *options) == 0
    for digest in (copy.digest.oci, *parts):
        assert Copy(layout, IMAGE).blob(digest) == copy.blob(digest)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("options", [[], ["--no-verify"]])
def test_an_image_takes_no_name_of_another_form(
    copy: Copy, place: Place, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    layout = tmp_path / "there"
    assert pulled(place, copy, layout, "--name", FORM, *options) == 1
    assert "'small+zstd' would name another form" in capsys.readouterr().err
    assert not (layout / "index.json").exists()


def test_a_push_of_a_damaged_blob_ends(
    ws: Workspace, copy: Copy, gate: Gate, settings: Config, place: Place
) -> None:
    """Though the registry keeps what it refused, and so has more of it each time."""
    layer = copy.manifest()["layers"][-1]["digest"]
    copy.write(copy.path(layer), bytes(len(copy.blob(layer))))
    with pytest.raises(IntegrityError, match="the blob on disk is damaged"):
        push(ws, repository(place, "x").removesuffix("/x"), gate, settings)
    assert not place[1].tags
