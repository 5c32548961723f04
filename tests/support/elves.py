"""Shared objects and programs made by gcc in tests: small, real, needing what they are told."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plinth.formats.elf.scan import LayerScan
from support import needs

_FLAGS = ("-O0", "-nostdlib", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none")
# The processor's own way to end a process: such a program needs no library.
_START = 'void _start(void) { __asm__ volatile("mov $60,%eax; xor %edi,%edi; syscall"); }\n'


def shared(
    soname: str = "",
    *,
    needed: Sequence[str] = (),
    wants: Mapping[str, Sequence[str]] | None = None,
    offers: Sequence[str] = (),
    rpath: str = "",
    runpath: str = "",
    mark: str = "",
) -> bytes:
    """A shared object.

    `needed` are its DT_NEEDED, in order, `wants` symbol versions of those libraries by their
    names, `offers` symbol versions it defines, `mark` a text that makes its bytes its own.
    """
    pairs = tuple((name, tuple(versions)) for name, versions in (wants or {}).items())
    return _linked(soname, tuple(needed), pairs, tuple(offers), rpath, runpath, mark, "-shared")


def program(
    needed: Sequence[str] = (),
    *,
    wants: Mapping[str, Sequence[str]] | None = None,
    rpath: str = "",
    runpath: str = "",
) -> bytes:
    """A program that ends at once, with what `shared` says of it."""
    pairs = tuple((name, tuple(versions)) for name, versions in (wants or {}).items())
    return _linked("", tuple(needed), pairs, (), rpath, runpath, "", "-pie")


def static() -> bytes:
    """A program without a dynamic section."""
    return _linked("", (), (), (), "", "", "", "-static")


@functools.cache
def _linked(
    soname: str,
    needed: tuple[str, ...],
    wants: tuple[tuple[str, tuple[str, ...]], ...],
    offers: tuple[str, ...],
    rpath: str,
    runpath: str,
    mark: str,
    kind: str,
) -> bytes:
    needs.program("gcc")
    wanted = dict(wants)
    with tempfile.TemporaryDirectory(prefix="plinth-elves-") as name:
        folder = Path(name)
        source, script, made = folder / "a.c", folder / "versions", folder / "made"
        text = f'const char marked[] = "{mark}";\n' if kind == "-shared" else _START
        text += "".join(f"int {_symbol(version)}(void) {{ return 1; }}\n" for version in offers)
        used = [_symbol(version) for versions in wanted.values() for version in versions]
        text += "".join(f"int {symbol}(void);\n" for symbol in used)
        text += f"int use(void) {{ return 0{''.join(f' + {symbol}()' for symbol in used)}; }}\n"
        source.write_text(text)
        script.write_text("".join(f"{v} {{ global: {_symbol(v)}; }};\n" for v in offers))
        stubs = []
        for number, library in enumerate(needed):
            stubs.append(folder / f"{number}.so")
            stubs[-1].write_bytes(shared(library, offers=wanted.get(library, ())))
        options = [
            *(["-fPIC"] if kind != "-static" else ["-fno-pic"]),
            kind,
            *([f"-Wl,-soname,{soname}"] if soname else []),
            *([f"-Wl,--version-script,{script}"] if offers else []),
            *([f"-Wl,-rpath,{rpath},--disable-new-dtags"] if rpath else []),
            *([f"-Wl,-rpath,{runpath},--enable-new-dtags"] if runpath else []),
        ]
        command = ["gcc", *_FLAGS, *options, "-Wl,--no-as-needed", str(source), *map(str, stubs)]
        done = subprocess.run(
            [*command, "-o", str(made)], check=False, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return made.read_bytes()


def _symbol(version: str) -> str:
    """The name of the one function a symbol version stands for."""
    return "of_" + re.sub(r"\W", "_", version)


LOADER = Path("/lib64/ld-linux-x86-64.so.2")
_LOADED = re.compile(r"^\t(\S+) => (?:(\S+) \(0x|not found)|^\t(/\S+) \(0x", re.MULTILINE)


@dataclass
class Root:
    """A file system of objects and links in `folder`, and the same as a layer's scan."""

    folder: Path
    scan: LayerScan = field(default_factory=LayerScan)

    def put(self, path: str, data: bytes) -> None:
        """Write a file."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755)
        self.scan.add(path, [data])

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
        self.scan.links[path] = target

    def traced(self, path: str) -> tuple[dict[str, str], str]:
        """What this machine's own dynamic linker loads for the program at `path`, with this
        folder as its root: paths by name, empty where there is none; and its complaints."""
        needs.program("bwrap")
        if not debian():
            needs.skip("the dynamic linker of Debian")
        loader = self.folder / LOADER.relative_to("/")
        loader.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LOADER, loader)
        loader.chmod(0o755)
        # The linker asks /proc where the program is.
        (self.folder / "proc").mkdir(exist_ok=True)
        command = ["bwrap", "--unshare-all", "--ro-bind", str(self.folder), "/", "--proc", "/proc"]
        trace = ["--clearenv", "--setenv", "LD_TRACE_LOADED_OBJECTS", "1", f"/{path}"]
        done = subprocess.run([*command, *trace], check=False, text=True, capture_output=True)
        found = {}
        for name, place, itself in _LOADED.findall(done.stdout):
            if itself != str(LOADER):
                found[name or itself] = place or itself
        return found, done.stdout + done.stderr


@functools.cache
def debian() -> bool:
    """Whether this machine's dynamic linker searches the folders of Debian and Ubuntu."""
    try:
        done = subprocess.run([str(LOADER), "--help"], check=False, text=True, capture_output=True)
    except OSError:
        return False
    return "/lib/x86_64-linux-gnu (system search path)" in done.stdout
