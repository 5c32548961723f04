"""What both front ends offer, `doit <command>:<id>` and `plinth <command> <id>`: one function each.

Heavy modules are imported inside the functions: `doit` loads this on every run, also on those
that find nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from plinth.graph.workspace import Workspace
from plinth.recipe.ids import all_images

_DATABASE = 1 << 18
"""Room that doit's memory may take (bytes)."""


def shared_inputs(root: Path, paths: Sequence[Path]) -> str:
    """A text that is another whenever one of the files at `paths`, which are below `root`, has
    other content or is somewhere else."""
    import hashlib

    state = hashlib.sha256()
    for path in paths:
        data = path.read_bytes()
        state.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode())
        state.update(data)
    return state.hexdigest()


def task_database(ws: Workspace) -> str:
    """Where doit remembers what was up to date: a file of the build folder, or memory where that
    cannot be written, for what only reads works there, and the rest says itself what is wrong.

    A damaged file is deleted: all it costs is looking at everything once more.
    """
    import json
    import sqlite3
    import tempfile
    from contextlib import closing

    path = ws.build / "doit.db"
    try:
        ws.build.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=ws.build) as room:
            room.write(bytes(_DATABASE))
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                for (data,) in connection.execute("select task_data from doit"):
                    if not isinstance(json.loads(data), dict):
                        raise ValueError("not of a task")
    except OSError:
        return ":memory:"
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        # Locked by another doit, which is no damage.
        if not isinstance(error, sqlite3.OperationalError) or "no such" in str(error):
            path.unlink(missing_ok=True)
    return str(path)


def is_built(ws: Workspace, image_id: str, base: str = "") -> bool:
    """Whether the layout names a manifest for the image that stands on `base` (empty: any).

    Says nothing about the image's inputs; those doit compares by itself.
    """
    path = ws.layout.root / "index.json"
    try:
        state = path.stat()
    except OSError:
        return False
    name = _names(path, (state.st_ino, state.st_mtime_ns, state.st_size)).get(image_id)
    # The name of a local base begins with that of its origin.
    return name is not None and (
        not base or (f"-{base}-" in name and f"-{base}-local-" not in name)
    )


@lru_cache(maxsize=1)
def _names(path: Path, state: tuple[int, ...]) -> Mapping[str, str]:
    """Published names by id, as the index at `path` has them while its `state` is the same: doit
    asks for each image of a matrix."""
    import json

    try:
        pairs = [
            (named.get("org.opencontainers.image.ref.name"), named.get("io.containerd.image.name"))
            for entry in json.loads(path.read_bytes())["manifests"]
            for named in [entry.get("annotations", {})]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {str(image_id): str(name) for image_id, name in pairs if image_id and name}


def lock(ws: Workspace, ids: Sequence[str], *, upgrade: Sequence[str] = ()) -> None:
    """Compile the locks of the images `ids`; see `plinth.lock.image.lock_images`."""
    from plinth.core import settings as config
    from plinth.core.report import to_stderr
    from plinth.lock.image import lock_images

    lock_images(ws, ids, config=config.load(), upgrade=upgrade, progress=to_stderr)


def lock_base(ws: Workspace, names: Sequence[str]) -> None:
    """Lock the bases `names`; see `plinth.lock.base.lock_base`."""
    from plinth.core import settings as config
    from plinth.core.report import to_stderr
    from plinth.lock.base import lock_base as lock_one

    for name in names:
        lock_one(ws, name, config=config.load(), progress=to_stderr)


def lock_accelerator(ws: Workspace, name: str) -> None:
    """Lock the accelerator set `name`; see `plinth.lock.accelerator.lock_accelerator`."""
    from plinth.core import settings as config
    from plinth.core.report import to_stderr
    from plinth.lock.accelerator import lock_accelerator as lock_one

    lock_one(ws, name, config=config.load(), progress=to_stderr)


def build(
    ws: Workspace,
    image_id: str,
    *,
    base: str = "",
    accelerator: str = "",
    jobs: int = 0,
    download: str = "",
) -> None:
    """Build one image and show its layers; see `plinth.build.image.build_image`."""
    from plinth.build.image import build_image
    from plinth.commands.show import show_layers
    from plinth.core import settings as config
    from plinth.core.lease import adding
    from plinth.core.report import human_size, working
    from plinth.graph.session import default_jobs

    with adding(ws.build), working(f"building {image_id}") as progress:
        built = build_image(
            ws,
            image_id,
            config=config.load(),
            base=base,
            accelerator=accelerator,
            jobs=jobs or default_jobs(),
            download=download,
            progress=progress,
        )
    layers = built.image.layers
    new = sum(layer.built for layer in layers)
    show_layers(layers)
    print(
        f"{image_id}: {len(layers)} layers, {new} built, "
        f"{human_size(sum(layer.digest.size for layer in layers))}, on {built.base}\n"
        f"  name      {built.name}:latest\n"
        f"  manifest  {built.image.manifest.digest.oci}"
    )


def explain(
    ws: Workspace,
    image_ids: Sequence[str],
    *,
    base: str = "",
    accelerator: str = "",
    as_json: bool = False,
) -> None:
    """Say what changed since the last builds and which layers the next will build."""
    import json

    from plinth.build.explain import explain_image
    from plinth.core import settings as config

    settings = config.load()
    found = [
        explain_image(ws, image_id, config=settings, base=base, accelerator=accelerator)
        for image_id in image_ids
    ]
    if as_json:
        print(json.dumps([one.to_json() for one in found], indent=1))
        return
    for one in found:
        print(one.text())


def extend(
    ws: Workspace,
    image_id: str,
    name: str,
    *,
    requirements: str = "",
    packages: Sequence[str] = (),
    base: str = "",
) -> None:
    """Derive the image `name` from `image_id`: write its specification, lock it, build it.

    `requirements` is the path of a requirements.txt, `packages` are OS packages.
    """
    from plinth.build.extend import read_requirements, write_extension

    asked = read_requirements(Path(requirements)) if requirements else []
    write_extension(ws, image_id, name, requirements=asked, packages=packages)
    lock(ws, [image_id, name])
    build(ws, name, base=base)


def _bring(ws: Workspace, ids: Sequence[str]) -> None:
    """Fetch what a build left at the remote cache of the images `ids`."""
    from plinth.core import settings as config

    settings = config.load()
    if settings.remote is not None:
        from plinth.fetch.remote_layers import bring_image

        for image_id in ids:
            bring_image(ws, image_id, settings)


def load(ws: Workspace, image_id: str) -> None:
    """Load a built image into the Docker Engine."""
    from plinth.publish.engine.load import load as load_one

    _bring(ws, [image_id])
    loaded = load_one(ws, image_id)
    print(f"{'loaded' if loaded.sent else 'already loaded:'} {loaded.name}, {loaded.id}")


def test(ws: Workspace, image_id: str) -> None:
    """Start a built image as a user would, and score with it."""
    from plinth.core.report import to_stderr
    from plinth.publish.engine.smoke import test_image
    from plinth.recipe.image import load_image

    test_image(ws, load_image(ws.images, image_id), progress=to_stderr)


def catalog(ws: Workspace, *, check: bool = False) -> None:
    """Write docs/catalog.md, or with `check` fail where it is not up to date."""
    from plinth.publish.catalog import write_catalog

    changed = write_catalog(ws, check=check)
    print(f"docs/catalog.md: {'written' if changed else 'up to date'}")


def site(ws: Workspace, *, out: str = "", policy: str = "", trust: str = "") -> None:
    """Make the catalogue site in the folder `out` (default: build/site)."""
    from plinth.core.report import to_stderr
    from plinth.publish.site.write import make_site

    _bring(ws, all_images(ws))
    folder = Path(out) if out else ws.build / "site"
    count = make_site(ws, folder, policy=policy, trust=trust, progress=to_stderr)
    print(f"{folder}: {count} files; open {folder / 'index.html'}")


def doctor(ws: Workspace) -> None:
    """Say what this machine can do; see `plinth.commands.doctor`.

    Raises:
        PlinthError: images cannot be built here; what is said is printed already.
    """
    from plinth.commands.look import show_findings
    from plinth.core.errors import PlinthError

    if show_findings(ws):
        raise PlinthError("images cannot be built here", remedy="see above")


def handbook(ws: Workspace) -> None:
    """Write docs/commands.md."""
    from plinth.commands.handbook import write_handbook

    changed = write_handbook(ws.root)
    print(f"docs/commands.md: {'written' if changed else 'up to date'}")


def own(ws: Workspace) -> None:
    """Write docs/licences.md and the SBOM of what plinth itself depends on."""
    import plinth
    from plinth.evidence.sbom.own import LIST, SBOM, write_own

    changed = write_own(ws.root, ws.build, plinth.__version__)
    print(f"{LIST}: {'written' if changed else 'up to date'}; wrote {ws.build / SBOM}")


def validate(ws: Workspace, *, as_json: bool = False) -> None:
    """Check the layout against the OCI specification and its own digests; `as_json` prints every
    problem for programs, beside the error for people."""
    import json

    from plinth.core.errors import ProblemsError
    from plinth.formats.oci.layout import references
    from plinth.formats.oci.validate import validate as problems_of

    problems = problems_of(ws.layout.root)
    if as_json:
        listed = [{"path": one.path, "message": one.message} for one in problems]
        print(json.dumps({"layout": str(ws.layout.root), "problems": listed}, indent=1))
    if problems:
        raise ProblemsError(str(ws.layout.root), problems)
    if not as_json:
        print(f"{ws.layout.root}: valid, {len(references(ws.layout))} images")


def sbom(ws: Workspace, image_id: str) -> None:
    """Write the SBOM of a built image to build/sbom/<id>.cdx.json."""
    from plinth.commands.sbom import write_sbom

    _bring(ws, [image_id])
    print(f"wrote {write_sbom(ws, image_id)}")


def sign(ws: Workspace, ids: Sequence[str], *, trust: str = "", token: str = "") -> None:
    """Sign built images; see `plinth.evidence.sign.sign_images`."""
    from plinth.core import settings as config
    from plinth.core.lease import adding
    from plinth.core.report import to_stderr
    from plinth.evidence.sign import sign_images

    with adding(ws.build):
        _bring(ws, ids)
        signed = sign_images(
            ws, ids, trust=trust, token=token, config=config.load(), progress=to_stderr
        )
    for one in signed:
        entries = ", ".join(map(str, one.log_indexes))
        print(f"{one.id}: signed {one.image.manifest.oci}, log entries {entries}")


def verify(ws: Workspace, image_id: str, *, trust: str = "", rebuild: bool = False) -> None:
    """Verify a built image as an auditor would; see `plinth.commands.verify`.

    Raises:
        VerificationError: a check failed, or could not be made; what is said is printed already.
    """
    from plinth.commands.main import main
    from plinth.core.errors import VerificationError

    _bring(ws, [image_id])
    arguments = ["verify", f"oci:{ws.layout.root}:{image_id}", "--checkout", str(ws.root)]
    arguments += ["--inputs", str(ws.cache.root)]
    arguments += ["--trust", trust] if trust else []
    code = main([*arguments, *(["--rebuild"] if rebuild else [])])
    if code:
        raise VerificationError(f"{image_id} is not verified", remedy="see above")


def push(
    ws: Workspace,
    ids: Sequence[str],
    *,
    to: str = "",
    policy: str = "",
    trust: str = "",
    mounts: Sequence[str] = (),
    jobs: int = 4,
) -> None:
    """Push built images to a registry; see `plinth.commands.push.push_images`."""
    from plinth.commands.push import push_images
    from plinth.core.report import to_stderr

    push_images(
        ws, ids, to=to, policy=policy, trust=trust, mounts=mounts, jobs=jobs, progress=to_stderr
    )
