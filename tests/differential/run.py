"""Draws mutants, has plinth judge each in a process with bounds, and holds that against what other
tools take."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from differential.engines import ENGINES
from differential.image import FORMS, IMAGE, Change, Made, Workshop, workshop
from differential.mutations import BENIGN, MUTATIONS
from differential.readers import Engines, Reader, RefusedError, Taken, Tree, line, starts, whole
from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.core.settings import Config
from plinth.evidence.verify.image import verify_image
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.request import RawBundle, Request
from plinth.fetch.sources.source import open_source
from plinth.inspect.contents.inflate import Plain
from plinth.inspect.contents.layer import list_files

SECONDS, MEMORY = 20, 512 << 20
"""What a verdict may take: of the CPU, and more memory than is loaded."""

PATIENCE = 600
"""Seconds by the clock: other processes run beside it."""


@dataclass(frozen=True)
class Drawn:
    """A mutant: its form, and levels and names of its mutations; none where it is untouched."""

    number: int
    form: str
    mutations: tuple[tuple[str, str], ...]

    @property
    def benign(self) -> bool:
        """Whether it must verify."""
        return all(one in BENIGN for one in self.mutations)


def drawing(seed: int, what: object) -> random.Random:
    """What one thing of a seed is drawn from."""
    return random.Random(f"{seed} {what}")  # noqa: S311


def draw(seed: int, number: int) -> Drawn:
    """Mutant `number`; the first are the untouched forms, and the benign mutations of each."""
    cells = [(f, level, name) for f in FORMS for level in FORMS[f] for name in MUTATIONS[level]]
    first: list[tuple[str, tuple[tuple[str, str], ...]]] = [(form, ()) for form in FORMS]
    first += [(form, ((level, name),)) for form, level, name in cells if (level, name) in BENIGN]
    if number < len(first):
        return Drawn(number, *first[number])
    turn, at = divmod(number, len(cells))
    drawing(seed, f"turn {turn}").shuffle(cells)
    form, level, name = cells[at]
    rng = drawing(seed, number)
    chosen = {level: name}
    if rng.random() < 0.1:
        level = rng.choice(FORMS[form])
        chosen.setdefault(level, rng.choice([*MUTATIONS[level]]))
    return Drawn(number, form, tuple(chosen.items()))


@dataclass
class Result:
    """What came of a mutant: `end` is verified, refused, crashed, slow or large; `text` why; what
    each reader takes otherwise, or why it refuses; `seconds` of the CPU and `peak` in bytes."""

    number: int
    form: str
    mutations: list[list[str]]
    benign: bool
    end: str = ""
    text: str = ""
    seconds: float = 0
    peak: int = 0
    differ: dict[str, str] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)


def verdict(workshop: Workshop, made: Made) -> dict[str, Any]:
    """plinth's verdict, as the verb gives it, told by `--image` which image is meant where the
    reference does not say; and, where the image is verified, what it holds."""
    with open_source(made.reference, Config()) as source:
        bundles = tuple(RawBundle(kind, data) for kind, data in made.bundles)
        request = Request(expected=source.asked or IMAGE, bundles=bundles)
        found = verify_image(source, workshop.verifier, Policy(), request)
        if not found.passed:
            wrong = [f"{check.name}: {p}" for check in found.checks for p in check.problems]
            return {"end": "refused", "text": "\n".join(wrong)}
        plain = []
        for layer in source.layers():
            with layer.open() as stream, Plain(stream) as one:
                while one.piece(1 << 20):
                    pass
                plain.append(one.finish()[1])
        listed = [list_files(layer.open()) for layer in source.layers()]
        config = source.config()
    tree: Tree = {}
    for entries in listed:
        for path, entry in entries.items():
            what = entry.target or entry.sha256
            tree[path] = line(entry.kind, entry.mode, entry.uid, entry.gid, what)
    return {
        "end": "verified",
        "taken": [Digest.of(config).hex, whole(tree), plain, starts(json.loads(config)["config"])],
    }


def _attempt(workshop: Workshop, made: Made) -> dict[str, Any]:
    began = time.process_time()
    try:
        found = verdict(workshop, made)
    except (PlinthError, OSError) as error:
        found = {"end": "refused", "text": f"error: {error}"}
    except MemoryError:
        found = {"end": "large", "text": traceback.format_exc()[-2000:]}
    except BaseException:
        found = {"end": "crashed", "text": traceback.format_exc()[-2000:]}
    return {"seconds": time.process_time() - began, **found}


def judged(workshop: Workshop, made: Made) -> dict[str, Any]:
    """plinth's verdict, given in a fork of this process with bounds."""
    reading, writing = os.pipe()
    loaded = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reading)
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
            data = json.dumps(_attempt(workshop, made)).encode()
            with os.fdopen(writing, "wb") as stream:
                stream.write(data)
        os._exit(0)
    os.close(writing)
    said = b""
    deadline = time.monotonic() + PATIENCE
    while select.select([reading], [], [], max(0, deadline - time.monotonic()))[0]:
        piece = os.read(reading, 1 << 16)
        if not piece:
            break
        said += piece
    else:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status, used = os.wait4(child, 0)
    peak = max(0, (used.ru_maxrss << 10) - loaded)
    slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError:
        end = "slow" if slow else "crashed"
        found = {"end": end, "text": f"died with status {status}", "seconds": used.ru_utime}
    if found["end"] in ("verified", "refused") and peak > MEMORY:
        found["end"] = "large"
    return {**found, "peak": peak}


def difference(ours: Taken, theirs: Taken) -> str:
    """How another reader's image differs from plinth's; empty where it does not."""
    if ours.config != theirs.config:
        return f"config {theirs.config}, verified {ours.config}"
    if theirs.starts and theirs.starts != ours.starts:
        return f"starts {theirs.starts}, verified {ours.starts}"
    if theirs.tree is None:
        return "" if theirs.layers == ours.layers else "other layers"
    assert ours.tree is not None
    paths = sorted({*ours.tree, *theirs.tree})
    changed = [path for path in paths if ours.tree.get(path) != theirs.tree.get(path)]
    if not changed:
        return ""
    first = changed[0]
    pair = f"{theirs.tree.get(first)}, verified {ours.tree.get(first)}"
    return f"{len(changed)} paths, first {first}: {pair}"


@dataclass(frozen=True)
class Campaign:
    """What a run is asked for: mutants `numbers` of a seed, read by `readers`; of the refused those
    whose number is a multiple of `sample`."""

    seed: int
    numbers: Sequence[int]
    readers: Mapping[str, Reader]
    engines: Engines
    sample: int = 0
    keep: Path | None = None


def as_taken(found: Mapping[str, Any]) -> Taken:
    """What plinth takes for an image that it verified."""
    config, tree, plain, command = found["taken"]
    return Taken(config, tree, tuple(plain), tuple(command))


def one(
    workshop: Workshop, campaign: Campaign, number: int, folder: Path, untouched: Taken
) -> Result:
    """Make, judge and read a mutant."""
    engines = replace(campaign.engines, registry=workshop.host)
    drawn = draw(campaign.seed, number)
    changes: dict[str, Change] = {level: MUTATIONS[level][name] for level, name in drawn.mutations}
    # What is refused for other reasons need not be signed: that is what takes the longest.
    for sign in (False, True):
        folder.mkdir()
        rng = drawing(campaign.seed, f"{number} bytes")
        made = workshop.make(folder, drawn.form, changes, rng, sign=sign)
        found = judged(workshop, made)
        if found["end"] != "verified" or made.signed:
            break
        shutil.rmtree(folder)
    mutations = [list(pair) for pair in drawn.mutations]
    result = Result(number, drawn.form, mutations, drawn.benign, str(found["end"]))
    result.text = str(found.get("text", ""))
    result.seconds, result.peak = found["seconds"], found["peak"]
    verified = result.end == "verified"
    if verified or (campaign.sample and number % campaign.sample == 0):
        ours = as_taken(found) if verified else untouched
        for name, reader in campaign.readers.items():
            # An engine holds one image at a time.
            with (campaign.engines.folder / f"{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX if name in ENGINES else fcntl.LOCK_UN)
                read(result, ours, name, partial(reader, made, engines), folder)
    if campaign.keep:
        shutil.copytree(folder, campaign.keep / str(number), symlinks=True, dirs_exist_ok=True)
    workshop.emptied(made, folder)
    return result


def read(
    result: Result, ours: Taken, name: str, reader: Callable[[Path], list[Taken]], folder: Path
) -> None:
    """Note what a reader takes."""
    work = folder / f"read-{name}"
    work.mkdir()
    try:
        found = reader(work)
    except RefusedError as error:
        result.refuse[name] = str(error)[-300:]
        return
    except Exception as error:
        # It takes something, of which we cannot tell what.
        result.differ[name] = f"cannot be compared: {error!r}"
        return
    wrong = [text for text in (difference(ours, theirs) for theirs in found) if text]
    if wrong:
        result.differ[name] = "; ".join(wrong)
    else:
        result.same.append(name)


def work(campaign: Campaign, share: int, of: int) -> Iterator[Result]:
    """Every `of`-th mutant of a campaign, from the `share`-th on."""
    with tempfile.TemporaryDirectory(prefix="differential-") as name:
        folder = Path(name)
        with workshop(folder) as made:
            (folder / "m").mkdir()
            # All that a verdict loads is loaded once.
            for form in FORMS:
                untouched = as_taken(
                    verdict(made, made.make(folder / "m", form, {}, drawing(1, "untouched")))
                )
                shutil.rmtree(folder / "m" / "oci", ignore_errors=True)
            for number in campaign.numbers[share::of]:
                yield one(made, campaign, number, folder / f"m{number}", untouched)


def campaign(campaign: Campaign, jobs: int) -> Iterator[Result]:
    """The results of all mutants, as they come, from `jobs` processes."""
    pipes: dict[int, int] = {}
    for share in range(jobs):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reading)
                with os.fdopen(writing, "w", buffering=1) as stream:
                    for result in work(campaign, share, jobs):
                        stream.write(json.dumps(asdict(result)) + "\n")
                code = 0
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
        os.close(writing)
        pipes[reading] = child
    held = dict.fromkeys(pipes, b"")
    failed = False
    while pipes:
        for reading in select.select([*pipes], [], [])[0]:
            piece = os.read(reading, 1 << 16)
            *lines, held[reading] = (held[reading] + piece).split(b"\n")
            yield from (Result(**json.loads(text)) for text in lines)
            if not piece:
                os.close(reading)
                _, status = os.waitpid(pipes.pop(reading), 0)
                failed = failed or bool(status)
    if failed:
        raise RuntimeError("a process of the campaign failed, see above")
