"""`plinth lock` of one image from nothing against `uv pip compile` of the same requirements.

    python tests/bench/lock.py UV [IMAGE [ROUNDS]]

UV is the program. Both ask the configured index; both have the resolver itself installed and no
page, no metadata and no lock. uv knows no platform of glibc 2.27, so it has that of 2.17. In turn,
so that a busy machine or index is so for both. Medians: seconds by the clock and of the processors.
Nothing in the checkout changes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.process import spent  # noqa: E402
from plinth.core.pip_settings import pip_settings  # noqa: E402
from plinth.core.settings import load  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.recipe.image import load_image, load_target  # noqa: E402
from support.helpers import checkout_files  # noqa: E402


def checkout(root: Path, image: str, tools: Path) -> None:
    """A copy of the checkout at `root` without the image's lock, and with nothing fetched."""
    for name in checkout_files(ROOT):
        if not name.startswith(f"locks/{image}/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    (root / "build" / "cache").mkdir(parents=True)
    (root / "build" / "cache" / "tools").symlink_to(tools)


def ours(work: Path, image: str, tools: Path) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(dir=work) as name:
        root = Path(name) / "checkout"
        checkout(root, image, tools)
        python = "import sys; from plinth.commands.main import main; sys.exit(main())"
        command = [sys.executable, "-c", f"import os; os.chdir({str(root)!r}); {python}"]
        environment = {**os.environ, "PYTHONPATH": str(root / "tools")}
        return spent([*command, "lock", image], environment)


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
    image = sys.argv[2] if len(sys.argv) > 2 else "sklearn-0.24.1"
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
        for _ in range(rounds):
            found["plinth lock"].append(ours(Path(name), image, tools))
            found["uv pip compile"].append(theirs(Path(name), image, uv, environment))
    print(f"| {image}, nothing known | seconds | CPU seconds |\n|---|---|---|")
    for what, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {what} | {wall:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
