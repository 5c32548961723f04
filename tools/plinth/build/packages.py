"""The base and the packages of an image, made at once: files come while the base is built, and what
is made of a wheel is begun when its file and the interpreter are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from plinth.build.base import ensure_python, ensure_system, planned_python
from plinth.build.choice import Choice, on_the_other_base
from plinth.build.closure import ensure_runs
from plinth.build.overlaps import overlaps
from plinth.build.plan import layer_order, wheel_groups
from plinth.build.sdists import build_wheel
from plinth.build.wheels import WheelFile, names_made, output_of, wheel_action, wheel_layer
from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.stopping import Threads, completed, result
from plinth.fetch.own import bring_own
from plinth.fetch.probe import forget
from plinth.fetch.wheels import Incoming
from plinth.formats.layer.model import Layer
from plinth.formats.python.place import Base, Python
from plinth.formats.wheel.admit import admit
from plinth.graph.run import known, lacking
from plinth.graph.session import Session
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.order import install_order
from plinth.recipe.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Packages:
    """The base of an image; the wheel of each package, and what the image's layers have of it, by
    the package's name."""

    base: Base
    wheels: Mapping[str, WheelFile]
    made: Mapping[str, Layer]


def ensure_packages(
    ws: Session, recipe: Recipe, choice: Choice, *, config: Config, progress: Progress
) -> Packages:
    """Fetch and make what is not made yet of the base and of every package of `recipe`; `choice` is
    that of its base.

    Raises:
        PlinthError: an input is not available or not usable, or a step fails; the first of them,
            upon which all else is stopped.
    """
    incoming = Incoming(ws, config, admit=_admit, progress=progress)
    making = _Making(ws, recipe, incoming, config, progress)
    try:
        with incoming:
            return making.all(choice)
    except PlinthError as error:
        if error in making.base_errors and recipe.base.fallback:
            # It was available when a place was asked, now or by an earlier build.
            forget(ws)
            other = on_the_other_base(ws, recipe.base, config)
            error.remedy = "; or ".join(filter(None, (error.remedy, other)))
        raise


def _admit(path: Path, package: LockedPackage) -> None:
    """Let a downloaded file into the store only if it is a sound wheel (or an sdist, which is
    checked when it is unpacked in the sandbox)."""
    if not package.is_sdist:
        admit(path, package.file.name, package.name, package.version)


class _Making:
    """The packages of one recipe while they are made. `base_errors` are why the base cannot be: its
    two layers may fail at the same moment."""

    def __init__(
        self, ws: Session, recipe: Recipe, incoming: Incoming, config: Config, progress: Progress
    ) -> None:
        self._ws, self._recipe, self._incoming = ws, recipe, incoming
        self._config, self._progress = config, progress
        self.base_errors: list[PlinthError] = []
        self._groups = wheel_groups(recipe)
        self._output = {one.name: output_of(group) for group in self._groups for one in group}

    def all(self, choice: Choice) -> Packages:
        packages = layer_order(self._recipe)
        # Wheels go their way while the main thread builds sdists, one after the other: an interrupt
        # is the main thread's, and ends at once whatever that does.
        with Threads(1, "wheels") as aside, self._ws.pool("layer") as pool:
            for ahead in self._fetch_ahead(packages):
                pool.ended_by(ahead)
            config, progress = self._config, self._progress
            first = pool.submit(self._of_base, ensure_python, config=config, progress=progress)
            system = pool.submit(self._of_base, ensure_system, config=config, progress=progress)
            python = result(first)
            coming = pool.ended_by(aside.submit(self._begin, pool, packages, python))
            layers = (result(system), python.layer)
            base = Base(self._recipe.base.name, layers, python.interpreter)
            if choice.local is not None and choice.local.tree is not None:
                ensure_runs(self._ws, base)
            wheels, begun = self._sdists(pool, packages, base)
            wheels |= {one.name: _wheel(one) for one in packages if not one.is_sdist}
            others = result(coming)
            begun |= others
            made = {package.name: result(begun[package.name]) for package in packages}
            self._settle_overlaps(packages, wheels, made, python)
        return Packages(base, wheels, made)

    def _fetch_ahead(self, packages: Sequence[LockedPackage]) -> Iterable[Future[None]]:
        """Begin to fetch what is needed for certain, and return its ways: what has no layer yet
        can be known only with the interpreter's, but of a package that had none at all it is known
        now."""
        if self._ws.remote is not None or self._of_base(planned_python) is not None:
            return ()
        here = names_made(self._ws) | {one.name for one in self._recipe.spec.own.values()}
        wanted = (package for package in packages if package.name not in here)
        return self._incoming.begin(wanted).values()

    def _of_base(self, work: Callable[..., T], **options: object) -> T:
        """What `work`, a function of `plinth.build.base`, returns of the base."""
        try:
            return work(self._ws, self._recipe.base, self._recipe.base_lock, **options)
        except PlinthError as error:
            self.base_errors.append(error)
            raise

    def _begin(
        self, pool: Threads, packages: Sequence[LockedPackage], python: Python
    ) -> dict[str, Future[Layer]]:
        """Begin with the layer of each wheel among `packages`, by name, as soon as its file is
        here, where that is needed."""
        begun = {}
        arriving = self._arriving([package for package in packages if not package.is_sdist], python)
        for arrived in completed(arriving):
            arrived.result()
            for package in arriving[arrived]:
                begun[package.name] = pool.submit(self._layer, package, _wheel(package), python)
        return begun

    def _arriving(
        self, wheels: Sequence[LockedPackage], python: Python
    ) -> dict[Future[None], list[LockedPackage]]:
        """The `wheels` by what has to end before they are used: the way of their file, where it is
        needed and not here; the largest first."""

        def is_known(package: LockedPackage) -> bool:
            action = wheel_action(_wheel(package), python, self._output[package.name])
            return known(self._ws, action)

        # Not among the steps: of those, one may be all that is done at once.
        with Threads(self._ws.at_once, "look") as looking:
            held = [*looking.map(is_known, wheels)]
        to_do = [package for package, there in zip(wheels, held, strict=True) if not there]
        absent = lacking(self._ws, [package.file.digest for package in to_do])
        coming = self._fetch([package for package in to_do if package.file.digest in absent])
        here: Future[None] = Future()
        here.set_result(None)
        found: dict[Future[None], list[LockedPackage]] = {}
        for package in sorted(wheels, key=lambda package: -package.file.digest.size):
            found.setdefault(coming.get(package.file.digest, here), []).append(package)
        return found

    def _fetch(self, packages: Sequence[LockedPackage]) -> dict[Digest, Future[None]]:
        """Begin to bring the files of `packages`; those on their way, by digest."""
        names = [package.name for package in packages]
        bring_own(self._ws, self._recipe.spec, names, self._progress)
        return self._incoming.begin(packages)

    def _bring(self, package: LockedPackage) -> None:
        self._fetch([package])
        self._incoming.wait([package])

    def _sdists(
        self, pool: Threads, packages: Sequence[LockedPackage], base: Base
    ) -> tuple[dict[str, WheelFile], dict[str, Future[Layer]]]:
        """Build the sdists among `packages`, and begin with the layers of their wheels, by name."""
        wheels, begun = {}, {}
        for package in packages:
            if not package.is_sdist:
                continue
            settings = self._recipe.base.sdists.get(package.name)
            wheel = build_wheel(
                self._ws,
                package,
                base,
                environment=settings.environment if settings else {},
                progress=self._progress,
                fetch=partial(self._bring, package),
            )
            wheels[package.name] = wheel
            begun[package.name] = pool.submit(self._layer, package, wheel, base.python)
        return wheels, begun

    def _settle_overlaps(
        self,
        packages: Sequence[LockedPackage],
        wheels: Mapping[str, WheelFile],
        made: dict[str, Layer],
        python: Python,
    ) -> None:
        """Make anew what of `made` has files that others leave in place."""
        parts = [[made[package.name] for package in group] for group in self._groups]
        without, shared = overlaps(self._ws.cache, parts, install_order(self._recipe.wheels))
        for note in shared:
            self._progress(f"note: {note}")
        for package in packages:
            if files := without.get(package.name):
                made[package.name] = self._layer(package, wheels[package.name], python, files)

    def _layer(
        self,
        package: LockedPackage,
        wheel: WheelFile,
        python: Python,
        without: Sequence[str] = (),
    ) -> Layer:
        """What the layers have of `package`; `without` is as in `wheel_action`."""

        def bring() -> None:
            # The wheel of an sdist is the output of an action, and nowhere else.
            if not package.is_sdist:
                self._bring(package)

        return wheel_layer(self._ws, wheel, python, self._output[package.name], bring, without)


def _wheel(package: LockedPackage) -> WheelFile:
    return WheelFile(package.name, package.version, package.file.name, package.file.digest)
