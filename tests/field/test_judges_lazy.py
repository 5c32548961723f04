"""A push has the index that `soci create` makes; containerd mounts layers by it, unchanged."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from field.conftest import IMAGE, publish
from plinth.build.soci import ensure_ztocs
from plinth.core.digest import Digest
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.verify.gate import Gate
from plinth.fetch.sources.source import open_source
from plinth.formats.layer.blob import layer_tar
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import BUNDLE
from plinth.formats.soci.index import Ztoc, index
from plinth.formats.soci.ztoc import ztoc
from plinth.graph.workspace import Workspace
from plinth.publish.registry.push import push_image
from support import judges
from support.containerd import containerd, snapshotter
from support.docker_registry import docker_registry, proxy
from support.oci_images import image_of
from support.published import Published
from support.soci import layer_of_spans, small_layer

TOOL = "AWS SOCI CLI v0.2"
"""What `soci create` calls itself."""


def mounted(folder: Path) -> int:
    """How many layers are mounted lazily below `folder`."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return sum(f" {folder}/" in line and " fuse." in line for line in lines)


@pytest.mark.judge("soci", "containerd", "registry")
def test_soci_mounts_the_layers_that_were_built_lazily(signed: Published, tmp_path: Path) -> None:
    """Its index is attached in the registry beside the bundles."""
    digest = signed.image(IMAGE).digest
    builder, machine = tmp_path / "builder", tmp_path / "machine"
    builder.mkdir()
    machine.mkdir()
    with docker_registry(tmp_path, program=judges.program("registry")) as registry:
        repository = f"{registry.host}/{IMAGE}"
        publish(signed, IMAGE, repository, signed.image(IMAGE).bundles())
        pull = ["images", "pull", "--plain-http", f"{repository}:1"]
        with containerd(builder) as running:
            running.ctr(*pull)
            soci = ["--address", str(running.socket), "--root", str(builder / "soci")]
            judges.run("soci", *soci, "create", "--min-layer-size", "0", f"{repository}:1")
            judges.run("soci", *soci, "push", "--plain-http", f"{repository}:1")
        with open_source(f"{repository}:1", Config()) as source:
            kept = {one.predicate_type: one.data for one in source.referrers(BUNDLE)}
        assert kept == signed.image(IMAGE).bundles()
        with snapshotter(machine, registry.host) as socket, containerd(machine, socket) as running:
            running.ctr(*pull)
            assert mounted(machine) == len(read_manifest(signed.ws.layout, digest).layers)
            assert running.images() == {f"{repository}:1": digest.oci}
            running.ctr("images", "remove", "--sync", f"{repository}:1")
    assert mounted(machine) == 0


@pytest.mark.judge("soci", "containerd", "registry")
def test_the_index_of_a_push_is_the_one_that_soci_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the name of the tool; and containerd reads by it no more than it needs."""
    # soci writes times in the machine's own zone.
    monkeypatch.setenv("TZ", "UTC")
    ws = Workspace(tmp_path, tmp_path / "build")
    large = layer_of_spans(ws.layout)
    image = image_of(ws.layout, "one", [large, small_layer(ws.layout)])
    ztocs = ensure_ztocs(ws, "one", config=Config(), jobs=1, progress=quiet)
    whole = [ztoc(ws.layout.path(layer.digest), TOOL) for layer in image.layers]
    made = index(
        Descriptor(MANIFEST, image.manifest.digest),
        [
            Ztoc(one.layer, Digest.of(data), one.path)
            for one, data in zip(ztocs, whole, strict=True)
        ],
        TOOL,
    )
    builder, machine, mount = (tmp_path / name for name in ("builder", "machine", "mount"))
    for folder in (builder, machine, mount):
        folder.mkdir()
    with docker_registry(tmp_path, program=judges.program("registry")) as there:
        pushed = push_image(
            ws,
            "one",
            there.host,
            config=Config(),
            gate=never,
            ztocs=ztocs,
            today=datetime.date(2026, 3, 4),
            progress=quiet,
        )
        assert pushed.soci is not None
        with containerd(builder) as running:
            name = f"{there.host}/team/one:{pushed.tag}"
            running.ctr("images", "pull", "--plain-http", name)
            soci = ["--address", str(running.socket), "--root", str(builder / "soci")]
            judges.run("soci", *soci, "create", "--min-layer-size", "0", name)
            for data in (*whole, made.manifest):
                held = judges.run(
                    "containerd",
                    *("--address", running.socket, "content", "get", Digest.of(data).oci),
                    name="ctr",
                )
                assert held == data
        with (
            proxy(there.host) as traffic,
            snapshotter(machine, traffic.host) as socket,
            containerd(machine, socket) as running,
        ):
            name = f"{traffic.host}/team/one:{pushed.tag}"
            running.ctr("images", "pull", "--plain-http", name)
            assert mounted(machine) == 2
            running.ctr("images", "mount", "--snapshotter", "remote", name, str(mount))
            before = traffic.received
            assert before < sum(one.digest.size for one in ztocs) + (64 << 10)
            try:
                assert (mount / "opt/0").read_bytes() == content(ws, large.digest, "opt/0")
                # Two spans at most.
                assert before < traffic.received < large.digest.size * 2 // 3
                for path in ("opt/149", "opt/large", "opt/noise"):
                    assert (mount / path).read_bytes() == content(ws, large.digest, path)
            finally:
                running.ctr("images", "unmount", "--rm", str(mount))
                running.ctr("images", "remove", "--sync", name)
    assert mounted(machine) == 0


def never() -> Gate:
    """Nothing is signed."""
    raise AssertionError


def content(ws: Workspace, layer: Digest, path: str) -> bytes:
    """A file of a layer."""
    with layer_tar(ws.layout.path(layer)) as entries:
        return next(b"".join(data) for member, data in entries if member.path == path)
