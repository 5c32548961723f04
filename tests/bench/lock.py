"""`plinth lock` from nothing against `uv pip compile` of the same requirements.

    python tests/bench/lock.py UV [IMAGE | all [ROUNDS]]

UV is the program. Both ask the configured index; both have the resolver itself installed, with its
bytecode, and no page, no metadata and no lock. uv knows no platform of glibc 2.27, so it has that
of 2.17; of all images it locks one after the other, as one run of it has one lock. In turn, so that
a busy machine or index is so for both. Medians: seconds by the clock and of the processors.
Nothing in the checkout changes.
"""

from __future__ import annotations

import compileall
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.process import medians, spent  # noqa: E402
from plinth.core.pip_settings import pip_settings  # noqa: E402
from plinth.core.settings import load  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.recipe.image import load_image, load_target  # noqa: E402
from support.helpers import checkout_files  # noqa: E402


def checkout(root: Path) -> None:
    """A copy of the checkout at `root`, compiled as an installation is."""
    for name in checkout_files(ROOT):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    compileall.compile_dir(root / "tools", quiet=2)


def ours(root: Path, images: Sequence[str], tools: Path) -> tuple[float, float]:
    """Lock `images` in the copy at `root`, which then knows nothing of them."""
    for image in images:
        shutil.rmtree(root / "locks" / image, ignore_errors=True)
    shutil.rmtree(root / "build", ignore_errors=True)
    (root / "build" / "cache").mkdir(parents=True)
    (root / "build" / "cache" / "tools").symlink_to(tools)
    environment = {**os.environ, "PYTHONPATH": str(root / "tools")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return spent([sys.executable, "-m", "plinth", "lock", *images], environment, cwd=root)


def theirs(work: Path, image: str, uv: str, environment: Mapping[str, str]) -> tuple[float, float]:
    ws = Workspace(ROOT, ROOT / "build")
    spec = load_image(ws.images, image)
    target = load_target(ws.bases, spec.base)
    with tempfile.TemporaryDirectory(dir=work) as name:
        source = Path(name) / "in.txt"
        source.write_text("\n".join([*spec.requirements, *target.requirements]) + "\n")
        command = [uv, "pip", "compile", "--generate-hashes", "--no-header", "--quiet", str(source)]
        command += [f"--python-version={target.python}", f"--cache-dir={name}/cache"]
        command += [
            "--python-platform=x86_64-manylinux_2_17",
            f"--output-file={name}/o",
        ]
        if spec.as_of:
            command.append(f"--exclude-newer={spec.as_of.isoformat()}")
        return spent(command, environment)


def main() -> None:
    uv = sys.argv[1]
    what = sys.argv[2] if len(sys.argv) > 2 else "sklearn-0.24.1"
    images = sorted(path.stem for path in (ROOT / "images").glob("*.toml"))
    images = images if what == "all" else [what]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    tools = ROOT / "build" / "cache" / "tools"
    if not any(tools.glob("pip-tools-*")):
        sys.exit(
            "lock an image once, so that the resolver is there: plinth lock --dry-run --upgrade"
        )
    index = load().index_url or pip_settings().index_url
    environment = {**os.environ, "UV_DEFAULT_INDEX": index, "UV_NO_CONFIG": "1"}
    if cert := pip_settings().cert:
        environment["SSL_CERT_FILE"] = cert
    found: dict[str, list[tuple[float, float]]] = {"plinth lock": [], "uv pip compile": []}
    with tempfile.TemporaryDirectory(prefix="plinth-bench-") as name:
        root = Path(name) / "checkout"
        checkout(root)
        for _ in range(rounds):
            found["plinth lock"].append(ours(root, images, tools))
            each = [theirs(Path(name), image, uv, environment) for image in images]
            wall, cpu = (sum(column) for column in zip(*each, strict=True))
            found["uv pip compile"].append((wall, cpu))
    print(f"| {what}, nothing known | seconds | CPU seconds |\n|---|---|---|")
    for who, times in found.items():
        wall, cpu = medians(times)
        print(f"| {who} | {wall:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
