"""Today's tools of other people, and images signed by plinth for them to judge."""

from __future__ import annotations

import contextlib
import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.authority.domain import Domain, init_domain
from plinth.build.image import build_image
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.sign import sign_images
from plinth.evidence.verify.gate import Gate
from plinth.fetch.registry.referrers import attach_to_registry
from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.documents import SUBJECT
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import PREDICATE
from plinth.graph.workspace import Workspace
from plinth.publish.registry.push import push_image
from support import judges, needs, small_checkout
from support.docker_registry import docker_registry
from support.fake_registry import fake_registry
from support.forge import IDENTITY, Json, link_tree
from support.published import Published, export
from support.small_checkout import wheel

IMAGE, OTHER = "small", "other"
RELEASE = judges.pinned("cosign")
"""The cosign that the documentation names."""


def sign(ws: Workspace, domain: Domain) -> None:
    """Sign both images with the domain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLINTH_TRUST", str(domain.folder))
        # The other first, so that the log has a tree when the image comes into it.
        ids = [OTHER, IMAGE]
        sign_images(ws, ids, trust="embedded", config=Config(), progress=quiet)


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Two small images, built, and signed as `plinth sign` does it."""
    folder = tmp_path_factory.mktemp("signed")
    checkout = small_checkout.make(folder / "checkout", images=(OTHER, IMAGE))
    checkout.seed(debs=True)
    checkout.lock([wheel(checkout.wheels, "demo", "1.0")], IMAGE)
    checkout.lock([wheel(checkout.wheels, "leaf", "2.0")], OTHER)
    config = replace(Config(), files={"wheels": str(checkout.wheels)})
    for image in (OTHER, IMAGE):
        build_image(checkout.ws, image, config=config, jobs=1, progress=quiet)
    domain = init_domain(folder / "domain", IDENTITY)
    sign(checkout.ws, domain)
    return Published(checkout.ws, domain, export(domain, folder / "trust"))


@contextlib.contextmanager
def _debian(folder: Path) -> Iterator[str]:
    with docker_registry(folder) as running:
        yield running.host


@contextlib.contextmanager
def _ours(folder: Path) -> Iterator[str]:
    with fake_registry(folder) as (server, _):
        yield server.url.removeprefix("http://")


@pytest.fixture(scope="session", params=[_debian, _ours], ids=["without the API", "with the API"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    """Starts a registry, `HOST:PORT`: Debian's lacks the referrers API, ours has it."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(request.param(tmp_path_factory.mktemp("registry")))


def publish(signed: Published, image: str, repository: str, bundles: Mapping[str, bytes]) -> str:
    """Copy an image into `HOST:PORT/NAME`, attach bundles to it; its place by digest."""
    command = [needs.program("skopeo"), "copy", "--quiet", "--dest-tls-verify=false"]
    command += [f"oci:{signed.layout}:{image}", f"docker://{repository}:1"]
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    host, _, name = repository.partition("/")
    digest = signed.image(image).digest
    target = Registry(f"http://{host}", name)
    attach_to_registry(target, Descriptor(MANIFEST, digest), list(bundles.items()))
    return f"{repository}@{digest.oci}"


@pytest.fixture(scope="session")
def place(registry: Callable[[], str], signed: Published) -> str:
    """The image in a registry with its bundles, `HOST/NAME@sha256:…`."""
    return publish(signed, IMAGE, f"{registry()}/plinth/{IMAGE}", signed.image(IMAGE).bundles())


@pytest.fixture(scope="session")
def misplaced(registry: Callable[[], str], signed: Published) -> str:
    """The other image in a registry, with the bundles of the first one."""
    return publish(signed, OTHER, f"{registry()}/plinth/{OTHER}", signed.image(IMAGE).bundles())


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH with the pinned cosign and plinth on it, and a home without anything."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "cosign").symlink_to(judges.program("cosign"))
    (programs / "plinth").symlink_to(Path(sys.executable).with_name("plinth"))
    return {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)}


def attached(signed: Published) -> list[tuple[str, str, str]]:
    """Artifact type, digest and predicate type of each bundle of the image, by the layout."""
    image = signed.image(IMAGE)
    entries = [
        entry
        for entry in image.index()["manifests"]
        if entry["annotations"].get(SUBJECT) == image.digest.oci
    ]
    return listed(entries)


def listed(entries: list[Json]) -> list[tuple[str, str, str]]:
    """The same of descriptors of any tool."""
    return sorted(
        (one["artifactType"], one["digest"], one["annotations"][PREDICATE]) for one in entries
    )


@contextlib.contextmanager
def pushed(ws: Workspace, image: str, folder: Path) -> Iterator[str]:
    """An image that is not signed, pushed to today's registry; its place by digest."""

    def never() -> Gate:
        raise AssertionError("nothing is signed")

    # A push remembers in its build folder what it did.
    link_tree(ws.layout.root, folder / "build" / "oci")
    mine = Workspace(ws.root, folder / "build")
    today = datetime.date(2026, 3, 4)
    with docker_registry(folder, program=judges.program("registry")) as running:
        done = push_image(
            mine, image, running.host, config=Config(), gate=never, today=today, progress=quiet
        )
        yield f"{done.place}@{done.digest.oci}"
