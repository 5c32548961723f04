"""The task graph: names tasks and their inputs; what they do is in tools/plinth/commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

from doit import get_var  # noqa: E402
from doit.exceptions import TaskFailed  # noqa: E402
from doit.tools import config_changed  # noqa: E402

from plinth.commands import images as commands  # noqa: E402
from plinth.core import utf8  # noqa: E402
from plinth.core.errors import PlinthError  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.recipe.ids import all_accelerators, all_bases, all_images, files_of  # noqa: E402

utf8.start()
WS = Workspace.find(ROOT)
DOIT_CONFIG = {
    "backend": "sqlite3",
    "dep_file": commands.task_database(WS),
    "default_tasks": ["build"],
    "verbosity": 2,
    # doit list: in the order of work.
    "sort": "definition",
}

IMAGES = all_images(WS)
BASES = all_bases(WS)
SETS = all_accelerators(WS)
# The rooms whose code has a say in an image's bytes.
ROOMS = ("build", "core", "fetch", "formats", "graph", "recipe")
COMMON = [
    path
    for pattern in (
        "base/*.toml",
        "base/rootfs/**/*",
        "locks/base/*",
        *(f"tools/plinth/{room}/**/*.py" for room in ROOMS),
    )
    for path in sorted(ROOT.glob(pattern))
    if path.is_file()
]
# One text for all images: as dependencies of each, doit would look at each file for each image.
SHARED = commands.shared_inputs(ROOT, COMMON)

Task = dict[str, Any]


def action(function: Callable[..., None], *args: object, **kwargs: object) -> Any:
    """`function` as a doit action: its errors are shown as text, never as a traceback."""

    def run(**options: object) -> TaskFailed | None:
        try:
            function(*args, **kwargs, **options)
        except (PlinthError, OSError) as error:
            return TaskFailed(str(error))
        except KeyboardInterrupt:
            return TaskFailed("interrupted; nothing half-written is left, run it again")
        return None

    return run


def task_lock() -> Iterator[Task]:
    """compile hash-pinned lockfiles with pip-tools (--upgrade-package NAME lets one move)"""
    upgrade = {
        "name": "upgrade",
        "long": "upgrade-package",
        "type": list,
        "default": [],
        "help": "let this package move to its newest version (may be repeated)",
    }
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"lock the packages of {image}",
            "actions": [action(commands.lock, WS, [image])],
            "params": [upgrade],
        }
    yield {
        "name": "base",
        "doc": "lock the bases: OS packages, interpreters, digests",
        "actions": [action(commands.lock_base, WS, BASES)],
    }


def task_accelerators() -> Iterator[Task]:
    """lock an accelerator set from its archives' signed indexes"""
    for name in SETS:
        # Beside `lock` and not of it: `doit lock` must not fail where no archive is configured.
        yield {
            "basename": f"lock:{name}",
            "doc": f"lock the accelerator set {name}",
            "actions": [action(commands.lock_accelerator, WS, name)],
        }


def task_build() -> Iterator[Task]:
    """build images into the OCI layout build/oci, without a Docker daemon"""
    base, accelerator = get_var("base", ""), get_var("accelerator", "")
    jobs = int(get_var("jobs", "0"))
    download = {
        "name": "download",
        "long": "download",
        "type": str,
        "choices": [
            ("minimal", "nothing that is not read"),
            ("toplevel", "the layers of images that are built"),
            ("all", "what steps in between made, too"),
        ],
        "default": get_var("download", ""),
        "help": "what a remote cache sends (default: the settings')",
    }
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"build the image {image}",
            "actions": [
                action(commands.build, WS, image, base=base, accelerator=accelerator, jobs=jobs)
            ],
            "params": [download],
            "file_dep": [str(path) for path in files_of(WS, image)],
            "uptodate": [
                partial(commands.is_built, WS, image, base),
                not accelerator,
                config_changed(SHARED),
            ],
        }


def task_explain() -> Iterator[Task]:
    """say what changed, which layers a build would make, what a push would send"""
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"explain the next build of {image}",
            "actions": [
                action(
                    commands.explain,
                    WS,
                    [image],
                    base=get_var("base", ""),
                    accelerator=get_var("accelerator", ""),
                )
            ],
        }


def task_load() -> Iterator[Task]:
    """load images into the Docker Engine"""
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"load {image} into the Docker Engine",
            "actions": [action(commands.load, WS, image)],
            "task_dep": [f"build:{image}"],
        }


def task_test() -> Iterator[Task]:
    """start images as a user would, and score with them"""
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"run {image} and score with it",
            "actions": [action(commands.test, WS, image)],
            "task_dep": [f"load:{image}"],
        }


def task_sbom() -> Iterator[Task]:
    """write the SBOM (CycloneDX) of images to build/sbom"""
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"write the SBOM of {image}",
            "actions": [action(commands.sbom, WS, image)],
            "task_dep": [f"build:{image}"],
        }


def task_sign() -> Iterator[Task]:
    """sign images: signature, SLSA provenance and SBOM, attached in build/oci"""
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"sign {image}",
            "actions": [action(commands.sign, WS, [image], trust=get_var("trust", ""))],
            "task_dep": [f"build:{image}"],
        }


def task_verify() -> Iterator[Task]:
    """verify signed images as an auditor would (rebuild=1: build them again, too)"""
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"verify {image}",
            "actions": [
                action(
                    commands.verify,
                    WS,
                    image,
                    trust=get_var("trust", ""),
                    rebuild=get_var("rebuild", "") not in ("", "0"),
                )
            ],
        }


def task_push() -> Iterator[Task]:
    """push images and their signatures to a registry (to=HOST/PREFIX), and tag them"""
    to, trust = get_var("to", ""), get_var("trust", "")
    for image in IMAGES:
        yield {
            "name": image,
            "doc": f"push {image} to a registry",
            "actions": [action(commands.push, WS, [image], to=to, trust=trust)],
            "task_dep": [f"build:{image}"],
        }


def task_catalog() -> Task:
    """write docs/catalog.md from specifications, locks and the images built"""
    check = {
        "name": "check",
        "long": "check",
        "type": bool,
        "default": False,
        "help": "only compare, and fail on a difference",
    }
    return {
        "actions": [action(commands.catalog, WS)],
        "params": [check],
        "task_dep": ["build"],
    }


def task_site() -> Task:
    """make the catalogue site in build/site from all images built"""
    return {
        "actions": [action(commands.site, WS, trust=get_var("trust", ""))],
        "task_dep": ["build"],
    }


def task_doctor() -> Task:
    """say what this machine can do, what it lacks, and what to do about it"""
    return {"actions": [action(commands.doctor, WS)]}


def task_commands() -> Task:
    """write docs/commands.md from the help of every command"""
    return {"actions": [action(commands.handbook, WS)]}


def task_self() -> Task:
    """write docs/licences.md and build/plinth.cdx.json: what plinth itself depends on"""
    return {"actions": [action(commands.own, WS)]}


def task_validate() -> Task:
    """check build/oci against the OCI specification and its own digests"""
    return {"actions": [action(commands.validate, WS)]}
