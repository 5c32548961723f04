"""Real images in Debian's registry: read by others, pushed once, and whole however often cut."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest

from plinth.core.digest import Digest, canonical_json
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.statement import PREDICATES
from plinth.evidence.verify.gate import Gate, open_gate
from plinth.evidence.verify.policy import Policy, in_force
from plinth.formats.oci.layout import references, tag
from plinth.formats.oci.model import CONFIG, MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout, referrers_name
from plinth.graph.workspace import Workspace
from plinth.publish.registry.push import push_image
from support import needs
from support.certificates import make_files
from support.docker_registry import (
    PASSWORD,
    USER,
    Running,
    docker_registry,
    logged_in,
    proxy,
)
from support.fake_registry import fake_registry
from support.published import IMAGE, OTHER, Published

DAY = datetime.date(2026, 3, 4)
CUTS = [2, pytest.param(10, marks=pytest.mark.nightly)]
NIGHT = pytest.mark.nightly
Json = dict[str, Any]


@pytest.fixture
def settings(published: Published, tmp_path: Path) -> dict[str, str]:
    """The environment of a `plinth push` that verifies by the signer's policy."""
    path = tmp_path / "config.toml"
    path.write_text(f'policy = "{published.trust / "policy.toml"}"\n')
    return {**published.environment, "PLINTH_CONFIG": str(path), "XDG_CACHE_HOME": str(tmp_path)}


def plinth(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plinth", *arguments],
        env=environment,
        check=False,
        text=True,
        capture_output=True,
    )


def repository(published: Published, image: str) -> str:
    return references(published.ws.layout)[image].image_name.partition(":")[0]


def digest(published: Published, image: str) -> str:
    return references(published.ws.layout)[image].manifest.oci


def read_by_skopeo(where: str, folder: Path, digest: str) -> None:
    """Copy the image with skopeo."""
    layout = folder / "skopeo"
    copy = [needs.program("skopeo"), "copy", "-q", "--src-cert-dir", str(folder / "certificates")]
    copy += ["--src-creds", f"{USER}:{PASSWORD}", f"docker://{where}", f"oci:{layout}:x"]
    subprocess.run(copy, check=True)
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    assert entry["digest"] == digest


def read_by_podman(where: str, folder: Path, digest: str) -> None:
    """Pull the image with podman and look into it."""
    podman = needs.program("podman")
    # It refuses paths above 50 characters.
    short = tempfile.mkdtemp(prefix="podman-")
    store = ["--root", str(folder / "podman"), "--runroot", short]
    options = [*store, "--storage-driver", "overlay", "--events-backend", "none"]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [podman, *options, *arguments], check=False, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    certificates = ["--cert-dir", str(folder / "certificates")]
    try:
        run("pull", "--quiet", "--creds", f"{USER}:{PASSWORD}", *certificates, where)
        assert run("image", "inspect", "--format", "{{.Digest}}", where) == digest
        assert run("image", "inspect", "--format", "{{.User}}", where) == "1000"
        assert (Path(run("image", "mount", where)) / "opt/python/bin/python3.7").exists()
    finally:
        run("image", "unmount", "--all")
        run("rmi", "--all", "--force")
        shutil.rmtree(short)


@pytest.mark.parametrize(
    "read_by_another", [read_by_skopeo, pytest.param(read_by_podman, marks=NIGHT)]
)
def test_pushed_with_tls_and_password_and_read_by_others(
    published: Published,
    settings: dict[str, str],
    tmp_path: Path,
    read_by_another: Callable[[str, Path, str], None],
) -> None:
    files = make_files(tmp_path)
    with docker_registry(
        tmp_path / "registry", cert=str(files.cert), key=str(files.key)
    ) as registry:
        environment = {**settings, **logged_in(tmp_path / "docker", registry.host)}
        with Path(settings["PLINTH_CONFIG"]).open("a") as config:
            config.write(f'publish = "{registry.host}/team"\n')
            config.write(f'[registries]\n"{registry.host}" = "https://{registry.host}"\n')
        refused = plinth(environment, "push", IMAGE)
        assert refused.returncode == 1
        assert f'[tls."{registry.host}"]' in refused.stderr
        with Path(settings["PLINTH_CONFIG"]).open("a") as config:
            config.write(f'[tls."{registry.host}"]\nca = "{files.ca}"\n')
        done = plinth(environment, "push", IMAGE)
        assert done.returncode == 0, done.stderr
        name = f"team/{repository(published, IMAGE)}"
        where = f"{registry.host}/{name}"
        tags = registry.tags(name)
        (dated,) = set(tags) - {"latest", f"sha256-{digest(published, IMAGE)[7:]}"}
        assert tags["latest"] == tags[dated] == digest(published, IMAGE)

        listed = plinth(environment, "tags", where, "--json")
        assert [tag["tag"] for tag in json.loads(listed.stdout)] == ["latest", dated]
        pulled = plinth(environment, "pull", f"{where}:{dated}", "--layout", str(tmp_path / "oci"))
        assert pulled.returncode == 0, pulled.stderr
        verified = plinth(environment, "verify", f"oci:{tmp_path / 'oci'}:{IMAGE}")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        (tmp_path / "certificates").mkdir()
        shutil.copy(tmp_path / "ca.pem", tmp_path / "certificates" / "ca.crt")
        read_by_another(f"{where}:latest", tmp_path, digest(published, IMAGE))


@pytest.mark.engine
def test_an_engine_pulls_and_runs_it(
    published: Published,
    settings: dict[str, str],
    tmp_path: Path,
    engine: docker.DockerClient,
) -> None:
    files = make_files(tmp_path)
    with docker_registry(
        tmp_path / "registry", cert=str(files.cert), key=str(files.key)
    ) as registry:
        environment = {**settings, **logged_in(tmp_path / "docker", registry.host)}
        with Path(settings["PLINTH_CONFIG"]).open("a") as config:
            config.write(f'[tls."{registry.host}"]\nca = "{files.ca}"\n')
        done = plinth(environment, "push", IMAGE, "--to", registry.host)
        assert done.returncode == 0, done.stderr
        where = f"{registry.host}/{repository(published, IMAGE)}"
        login = {"username": USER, "password": PASSWORD}
        image = engine.images.pull(where, tag="latest", auth_config=login)
        try:
            assert f"{where}@{digest(published, IMAGE)}" in image.attrs["RepoDigests"]
            said = engine.containers.run(image, ["python", "-c", "print(6 * 7)"], remove=True)
            assert said == b"42\n"
        finally:
            engine.images.remove(f"{where}:latest")


def bumped(published: Published, folder: Path, package: str) -> tuple[Workspace, int]:
    """A build folder with the image `OTHER` whose layer of `package` is another of the same size,
    as one more version of it would make it; and that size."""
    ws = Workspace(published.ws.root, folder)
    ws.layout.prepare()
    for blob in published.ws.layout.blobs.iterdir():
        os.link(blob, ws.layout.blobs / blob.name)
    old = references(published.ws.layout)[OTHER]
    manifest: Json = json.loads(ws.layout.get(old.manifest))
    config: Json = json.loads((ws.layout.blobs / manifest["config"]["digest"][7:]).read_bytes())
    number = next(
        number
        for number, layer in enumerate(manifest["layers"])
        if layer["annotations"]["org.opencontainers.image.title"].startswith(f"{package} ")
    )
    size = manifest["layers"][number]["size"]
    data = random.Random(package).randbytes(size)  # noqa: S311
    manifest["layers"][number]["digest"] = ws.layout.put(data).oci
    config["rootfs"]["diff_ids"][number] = f"sha256:{hashlib.sha256(data).hexdigest()}"
    written = ws.layout.put(canonical_json(config))
    manifest["config"] = Descriptor(CONFIG, written).to_json()
    made = Descriptor(MANIFEST, ws.layout.put(canonical_json(manifest)))
    tag(ws.layout, OTHER, made, image_name=old.image_name, architecture="amd64")
    return ws, size


def said_of(subject: Digest, published: Published, called: str) -> bytes:
    """A bundle of the image `OTHER` with `subject` for its digest: as long as one that is really
    of it, and nobody looks at the signature where no policy is."""
    bundle: Json = json.loads(published.bundle(called, OTHER).read_bytes())
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    old = digest(published, OTHER).removeprefix("sha256:").encode()
    envelope["payload"] = base64.b64encode(payload.replace(old, subject.hex.encode())).decode()
    return json.dumps(bundle, separators=(",", ":")).encode()


# Of a signed image the bundles are sent, too, which name every package and carry every file of the
# contract: see docs/publish.md.
@pytest.mark.parametrize(
    ("package", "signed", "most"),
    [
        pytest.param("azureml-inference-server-http", False, 100_000, marks=NIGHT),
        pytest.param("joblib", False, 100_000, marks=NIGHT),
        ("numpy", False, 100_000),
        ("joblib", True, 550_000),
        pytest.param("numpy", True, 100_000, marks=NIGHT),
    ],
)
def test_one_package_more_costs_its_layer(
    published: Published, tmp_path: Path, package: str, signed: bool, most: int
) -> None:
    ws, size = bumped(published, tmp_path / "build", package)
    if signed:
        subject = Descriptor(MANIFEST, references(ws.layout)[OTHER].manifest)
        bundles = [
            (kind, said_of(subject.digest, published, called))
            for kind, called in PREDICATES.items()
        ]
        attach_to_layout(ws.layout, subject, bundles)
    with docker_registry(tmp_path / "registry") as registry, proxy(registry.host) as traffic:

        def push(which: Workspace) -> int:
            before = traffic.sent
            push_image(
                which,
                OTHER,
                traffic.host,
                config=Config(),
                gate=lambda: open_gate(in_force(Config(), Policy())),
                today=DAY,
                progress=quiet,
            )
            return traffic.sent - before

        push(published.ws)
        # Every byte counts, headers and questions too.
        sent = push(ws)
        print(package, "signed" if signed else "unsigned", size, sent, sent - size)
        assert sent <= 1.1 * size + most


def wanted_state(
    settings: Mapping[str, str], folder: Path, images: tuple[str, ...]
) -> tuple[dict[str, dict[str, str]], dict[str, set[str]], set[str]]:
    """What pushing without any mishap leads to."""
    with docker_registry(folder) as registry:
        for image in images:
            done = plinth(settings, "push", image, "--to", registry.host)
            assert done.returncode == 0, done.stderr
        return registry.state()


def check_latest(registry: Running) -> None:
    """`latest` of every repository names an image that is all there and signed."""
    for name in registry.repositories():
        tags = registry.tags(name)
        for given in set(tags) - {one for one in tags if one.startswith("sha256-")}:
            manifest = registry.get(f"{name}/manifests/{given}").json()
            blobs = {part["digest"] for part in [manifest["config"], *manifest["layers"]]}
            assert blobs <= registry.held(name)
            if given == "latest":
                subject = Digest(tags["latest"].removeprefix("sha256:"), 0)
                listed = registry.get(f"{name}/manifests/{referrers_name(subject)}").json()
                assert len(listed["manifests"]) == 3
                for entry in listed["manifests"]:
                    bundle = registry.get(f"{name}/manifests/{entry['digest']}").json()
                    assert bundle["layers"][0]["digest"] in registry.held(name)


@pytest.mark.parametrize("cuts", CUTS)
def test_killed_pushes_end_in_the_same_state(
    published: Published, settings: dict[str, str], tmp_path: Path, cuts: int
) -> None:
    # The moments are drawn anew on every run; the seed is printed, to try the same ones again.
    seed = random.randrange(2**32)  # noqa: S311
    print("seed", seed)
    moments = random.Random(seed)  # noqa: S311
    started = time.monotonic()
    wanted = wanted_state(settings, tmp_path / "whole", (IMAGE,))
    whole = time.monotonic() - started
    shutil.rmtree(published.ws.build / "publish")
    with docker_registry(tmp_path / "registry") as registry:
        for _ in range(cuts):
            process = subprocess.Popen(
                [sys.executable, "-m", "plinth", "push", IMAGE, "--to", registry.host],
                env=settings,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(moments.uniform(0.2, whole))
            process.send_signal(signal.SIGKILL)
            process.wait()
            check_latest(registry)
        done = plinth(settings, "push", IMAGE, "--to", registry.host)
        assert done.returncode == 0, done.stderr
        assert registry.state() == wanted
        check_latest(registry)


@pytest.mark.parametrize("cuts", CUTS)
def test_dropped_connections_end_in_the_same_state(
    published: Published, settings: dict[str, str], tmp_path: Path, cuts: int
) -> None:
    seed = random.randrange(2**32)  # noqa: S311
    print("seed", seed)
    wanted = wanted_state(settings, tmp_path / "whole", (IMAGE, OTHER))
    total = sum(
        layer["size"]
        for image in (IMAGE, OTHER)
        for layer in json.loads(
            published.ws.layout.get(references(published.ws.layout)[image].manifest)
        )["layers"]
    )
    with docker_registry(tmp_path / "registry") as registry, proxy(registry.host) as traffic:
        # Much of the second image is mounted, so not all bytes are sent.
        chance = random.Random(seed)  # noqa: S311
        traffic.cuts = sorted(chance.randrange(1, total * 2 // 3) for _ in range(cuts))
        for _ in range(cuts + 1):
            done = [
                plinth(settings, "push", image, "--to", traffic.host) for image in (IMAGE, OTHER)
            ]
            check_latest(registry)
            if not any(one.returncode for one in done):
                break
        assert len(traffic.cuts) <= cuts // 2
        assert registry.state() == wanted


def test_no_moment_has_a_latest_that_is_not_whole_and_signed(
    published: Published, tmp_path: Path
) -> None:
    policy = Config(policy=str(published.trust / "policy.toml"))
    with fake_registry(tmp_path) as (server, state):
        host = server.url.removeprefix("http://")
        name = repository(published, IMAGE)
        moments = []

        def watch() -> None:
            latest = state.tags.get(name, {}).get("latest")
            moments.append(latest)
            if latest:
                about = [json.loads(data) for _, data in state.manifests.values()]
                signed = [one for one in about if one.get("subject", {}).get("digest") == latest]
                assert len(signed) == 3
                assert any(key.startswith("2026") for key in state.tags[name])

        def push(gate: Config) -> bool:
            def opened() -> Gate:
                return open_gate(in_force(gate, Policy()))

            return push_image(
                published.ws,
                IMAGE,
                host,
                config=Config(),
                gate=opened,
                today=DAY,
                progress=quiet,
            ).latest

        state.watch = watch
        # Signed, and nobody here believes the signer: then it is not latest.
        assert not push(Config())
        assert set(state.tags[name]) == {"20260304.v1"}
        assert push(policy)
        assert state.tags[name] == dict.fromkeys(
            ["20260304.v1", "latest"], digest(published, IMAGE)
        )
        # Manifest, bundles and dated tag came before it.
        assert moments[:5] == [None] * 5
        assert moments[-1] == digest(published, IMAGE)
