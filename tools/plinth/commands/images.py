"""Verbs on the images of a checkout: lock, build, load, test, sign and their like.

Heavy modules are imported inside the functions: a verb loads only what it needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from plinth.commands.reference import bring
from plinth.commands.verbs import ALL_BASES, INTERPRETER
from plinth.core import settings as config
from plinth.core.document import no_such
from plinth.core.report import counted, human_size, on_terminal, to_stderr, working
from plinth.formats.layer.model import Layer
from plinth.graph.workspace import Workspace
from plinth.recipe.ids import all_accelerators, all_bases, all_images


def lock(
    ws: Workspace,
    names: Sequence[str],
    *,
    upgrade: bool = False,
    upgrade_package: Sequence[str] = (),
    dry_run: bool = False,
    as_json: bool = False,
) -> None:
    """Lock what is named: images (see `plinth.lock.image.lock_images`), bases or their
    interpreters, accelerator sets; show which packages of images moved.

    Without names all images and all bases: an accelerator set needs its vendor's archive.
    """
    from plinth.lock import moves

    ids = [name for name in names or all_images(ws) if name in all_images(ws)]
    before = moves.read_locked(ws, ids)
    with moves.scratch(ws) if dry_run else nullcontext(ws) as place:
        written = _lock(place, names, upgrade, upgrade_package)
        # All of a first lock is new, which its number of packages tells well enough.
        known = [image_id for image_id in ids if dry_run or before[image_id]]
        found = moves.moves(before, moves.read_locked(place, known))
    if as_json:
        listed = [one.to_json() for one in found]
        print(json.dumps({"dry-run": dry_run, "written": written, "moves": listed}, indent=1))
    elif found or upgrade or upgrade_package or dry_run:
        print(moves.table(found))
        if upgrade and not found:
            print("what was uploaded after `as-of` of a specification is not seen; plinth outdated")
        if dry_run:
            print("dry run: no lock was written")


def _lock(
    ws: Workspace, names: Sequence[str], upgrade: bool, upgrade_package: Sequence[str]
) -> list[str]:
    """Lock what is named, and return those whose lock was written."""
    from plinth.lock.accelerator import lock_accelerator
    from plinth.lock.base import lock_base, lock_interpreter
    from plinth.lock.image import lock_images

    settings = config.load()
    images, bases, sets = all_images(ws), all_bases(ws), all_accelerators(ws)
    chosen = names or [*images, ALL_BASES]
    others = {*bases, *sets, ALL_BASES, INTERPRETER}.difference(images)
    ids = [name for name in chosen if name not in others]
    for name in ids:
        if name not in images:
            raise no_such(f"images/{name}.toml", name, {*images, *others})
    written: list[str] = []
    with working("locking") as progress:
        if ids:
            written += lock_images(
                ws,
                ids,
                config=settings,
                upgrade=upgrade_package,
                upgrade_all=upgrade,
                progress=progress,
            )
        for name in chosen:
            if name in sets and name in others:
                if lock_accelerator(ws, name, config=settings, progress=progress):
                    written.append(name)
            elif name in others:
                lock_one = lock_interpreter if name == INTERPRETER else lock_base
                for base in bases if name in (ALL_BASES, INTERPRETER) else [name]:
                    if lock_one(ws, base, config=settings, progress=progress):
                        written.append(base)
    return written


def outdated(ws: Workspace, ids: Sequence[str], *, as_json: bool) -> None:
    """Show which packages of images have newer releases; see `plinth.lock.outdated`."""
    from plinth.lock.outdated import outdated as find
    from plinth.lock.outdated import table

    found = find(ws, ids or all_images(ws), config.load())
    listed = [one.to_json() for one in found]
    print(json.dumps(listed, indent=1) if as_json else table(found))


def build(
    ws: Workspace,
    ids: Sequence[str],
    *,
    base: str = "",
    accelerator: str = "",
    jobs: int = 0,
    download: str = "",
) -> None:
    """Build images (default: all) and show their layers; see `plinth.build.image.build_image`."""
    from plinth.build.image import build_image
    from plinth.core.lease import adding
    from plinth.graph.session import default_jobs

    for image_id in ids or all_images(ws):
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
        show_layers(layers)
        print(
            f"{built.id}: {len(layers)} layers, {sum(layer.built for layer in layers)} built, "
            f"{human_size(sum(layer.digest.size for layer in layers))}, on {built.base}\n"
            f"  name      {built.name}:{built.tag}\n"
            f"  manifest  {built.image.manifest.digest.oci}"
        )


def layer_table(layers: Sequence[Layer]) -> str:
    """One line a layer, bottom first: name, compressed size, `built` or `hit`."""
    width = max((len(layer.name) for layer in layers), default=0)
    return "\n".join(
        f"  {layer.name:<{width}}  {human_size(layer.digest.size):>9}  "
        f"{'built' if layer.built else 'hit'}"
        for layer in layers
    )


def show_layers(layers: Sequence[Layer]) -> None:
    """Print `layer_table`; on a terminal what was built stands out."""
    text = layer_table(layers)
    if not on_terminal(sys.stdout):
        print(text)
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line, layer in zip(text.splitlines(), layers, strict=True):
        style = "green" if layer.built else "dim"
        console.print(line, style=style, markup=False, soft_wrap=True)


def explain(
    ws: Workspace, ids: Sequence[str], *, base: str, accelerator: str, as_json: bool
) -> None:
    """Show what changed since the last builds and which layers the next will build."""
    from plinth.build.explain import explain_image

    settings = config.load()
    found = [
        explain_image(ws, image_id, config=settings, base=base, accelerator=accelerator)
        for image_id in ids
    ]
    if as_json:
        print(json.dumps([one.to_json() for one in found], indent=1))
        return
    for one in found:
        print(one.text())


def extend(
    ws: Workspace,
    image: str,
    *,
    requirements: str,
    conda_file: str,
    apt: Sequence[str],
    bind: Sequence[str],
    name: str,
    base: str,
) -> None:
    """Derive the image `name` from `image`: write its specification, lock it, build it. Where that
    fails, nothing is left of a specification that was not there before.

    `requirements` is the path of a requirements.txt, `conda_file` of a conda environment file,
    `apt` are OS packages; `bind` are projects with the named index they come from
    (`PROJECT=INDEX`).
    """
    from plinth.build.extend import (
        read_bindings,
        read_conda_file,
        read_requirements,
        undone_on_failure,
        write_extension,
    )

    new = name or f"{image}-extended"
    asked = read_requirements(Path(requirements)) if requirements else []
    if conda_file:
        asked += read_conda_file(ws, image, Path(conda_file), to_stderr)
    wrote = write_extension(
        ws, image, new, requirements=asked, packages=apt, indexes=read_bindings(bind)
    )
    with undone_on_failure(ws, new, to_stderr) if wrote else nullcontext():
        lock(ws, [image, new])
        build(ws, [new], base=base)


def load(ws: Workspace, ids: Sequence[str], *, no_verify: bool) -> None:
    """Load built images into the Docker Engine, verified where a policy is set."""
    from plinth.evidence.verify.gate import required, state
    from plinth.publish.engine.load import load as load_one

    settings = config.load()
    gate = required(settings, no_verify=no_verify)
    for image_id in ids:
        bring(ws, [image_id])
        loaded = load_one(ws, image_id, gate=gate, config=settings)
        how = "loaded" if loaded.sent else "already loaded:"
        print(f"{how} {loaded.name}, {loaded.id}, {state(gate)}")


def test(ws: Workspace, ids: Sequence[str]) -> None:
    """Start built images as a user would, and score with them."""
    from plinth.publish.engine.smoke import test_image
    from plinth.recipe.forms import split
    from plinth.recipe.image import load_image

    for name in ids:
        image_id, _ = split(name)
        test_image(ws, load_image(ws.images, image_id), name, progress=to_stderr)


def sbom(ws: Workspace, ids: Sequence[str]) -> None:
    """Write the SBOMs of built images to build/sbom/<id>.cdx.json."""
    from plinth.core.store import atomic_write
    from plinth.evidence.sbom.make import sbom_of

    for image_id in ids:
        bring(ws, [image_id])
        data = sbom_of(ws, image_id)
        target = ws.build / "sbom" / f"{image_id}.cdx.json"
        with atomic_write(target) as path:
            path.write_bytes(data)
        print(f"wrote {target}")


def sign(ws: Workspace, ids: Sequence[str], *, trust: str, identity_token: str) -> None:
    """Sign built images; see `plinth.evidence.sign.sign_images`."""
    from plinth.core.lease import adding
    from plinth.evidence.sign import sign_images

    with adding(ws.build):
        bring(ws, ids)
        signed = sign_images(
            ws, ids, trust=trust, token=identity_token, config=config.load(), progress=to_stderr
        )
    for one in signed:
        entries = ", ".join(map(str, one.log_indexes))
        print(f"{one.id}: signed {one.image.manifest.oci}, log entries {entries}")


def validate(ws: Workspace, *, as_json: bool) -> None:
    """Check the layout against the OCI specification and its own digests; `as_json` prints every
    problem for programs, beside the error for people."""
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
        print(f"{ws.layout.root}: valid, {counted(len(references(ws.layout)), 'image')}")


def catalog(ws: Workspace, *, check: bool) -> None:
    """Write docs/catalog.md, or with `check` fail where it is not up to date."""
    from plinth.publish.catalog import write_catalog

    _wrote("docs/catalog.md", write_catalog(ws, check=check))


def site(ws: Workspace, *, out: str, policy: str, trust: str) -> None:
    """Make the catalogue site in the folder `out` (default: build/site)."""
    from plinth.publish.site.write import make_site

    bring(ws, all_images(ws))
    folder = Path(out) if out else ws.build / "site"
    count = make_site(ws, folder, policy=policy, trust=trust, progress=to_stderr)
    print(f"{folder}: {count} files; open {folder / 'index.html'}")


def commands(ws: Workspace) -> None:
    """Write docs/commands.md."""
    from plinth.commands.handbook import write_handbook

    _wrote("docs/commands.md", write_handbook(ws.root))


def own(ws: Workspace, *, sign: bool, trust: str, identity_token: str) -> None:
    """Write docs/licences.md, and plinth's own wheel with its SBOM; sign them where told to."""
    from plinth.evidence.sbom.own import LIST, write_licences
    from plinth.publish.own import make_own, sign_own

    _wrote(LIST, write_licences(ws.root))
    made = make_own(ws.root, ws.build / "self")
    if sign:
        made = sign_own(
            ws.root,
            made,
            trust=trust,
            token=identity_token,
            config=config.load(),
            progress=to_stderr,
        )
    for path in (made.wheel, made.sbom, *made.bundles):
        print(f"wrote {path}")
    print(made.digest.oci)


def _wrote(name: str, changed: bool) -> None:
    print(f"{name}: {'written' if changed else 'up to date'}")
