"""The operating system layer: packages merged into one tree, and what their scripts would make.

No maintainer script runs. What images need of their work is made here, by the packages' own
master files: users, name service, certificates, the merged /usr, the package records.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from plinth.core.errors import PackageError
from plinth.core.store import BlobStore
from plinth.formats.accounts import ACCOUNTS, GROUP, HOME, PASSWD, with_user
from plinth.formats.debian.deb import Deb, File
from plinth.formats.debian.dpkg import database, overrides
from plinth.formats.debian.merge import MERGED, Tree
from plinth.formats.debian.pam import TYPES, common_files
from plinth.formats.elf.closure import Tree as Objects
from plinth.formats.elf.ldcache import PATH, cache_bytes
from plinth.formats.elf.scan import LayerScan
from plinth.formats.layer.header import DOCKERUSER, ROOT, Owner
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter

_SHADOW = Owner(0, 42)
# What apt becomes while it downloads; the number is the one Debian reserves for it. Newer lists of
# users have it.
_APT = "_apt:*:42:65534::/nonexistent:/usr/sbin/nologin\n"
_PRIVILEGED = 0o6000
# Where the package apt has the sources that Debian's installer would write.
_APT_EXAMPLE = "usr/share/doc/apt/examples/sources.list"
# Made by the script of base-files.
_FOLDERS = ("media", "mnt", "srv", "usr/local/lib", "usr/local/sbin", "var/mail", "var/opt")
_SOURCES = "etc/apt/sources.list"
_GENERATED = frozenset(
    (
        *(*ACCOUNTS, "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid"),
        *("etc/nsswitch.conf", "etc/hosts", *(f"etc/pam.d/common-{name}" for name in TYPES)),
        *("etc/hostname", "etc/localtime", "etc/timezone", "etc/ca-certificates.conf"),
        *("etc/ssl/certs/ca-certificates.crt", "usr/bin/awk", "usr/bin/which", _SOURCES, PATH),
        *("run/lock", "tmp", "var/lock", "var/run", "var/tmp"),
        *("var/lib/dpkg/statoverride", "var/lib/dpkg/updates"),
        *(HOME, *MERGED, *_FOLDERS),
    )
)


def is_generated(path: str) -> bool:
    """Whether `path` is of what plinth makes in an operating system's layer, beside dpkg's own."""
    return path in _GENERATED


def rootfs_layer(
    store: BlobStore, debs: Mapping[str, Deb], name: str, omit: Collection[str] = ()
) -> Layer:
    """The layer of `debs` (by package name) in `store`; `omit` is as in `dpkg.database`.

    Raises:
        PackageError: two packages claim one path.
    """
    tree = Tree()
    privileged = []
    for package in sorted(debs):
        for file in debs[package].files:
            if file.kind == "file" and file.mode & _PRIVILEGED:
                # Nobody here has a password, and containers that matter run without privileges;
                # root needs no bit to become another user.
                file = replace(file, mode=file.mode & ~_PRIVILEGED)
                privileged.append(file)
            tree.add(package, file)
    for file in [*_generated(tree, debs, omit), overrides(privileged)]:
        tree.replace(file)
    tree.replace(_linker_cache(tree, name))
    with LayerWriter(store) as writer:
        tree.write(writer)
        return writer.commit(name)


def _linker_cache(tree: Tree, name: str) -> File:
    """What ldconfig would make: the linker needs it only for its own few folders, but programs
    (ctypes.util.find_library) ask it for names."""
    scan = LayerScan()
    for path, file in tree.files.items():
        if file.kind == "symlink":
            scan.links[path] = file.target
        elif file.kind == "file":
            scan.add(path, [file.data])
    cache = cache_bytes(Objects.of([(name, scan)]).cached())
    return File(PATH, "file", 0o644, ROOT, cache)


def _generated(tree: Tree, debs: Mapping[str, Deb], omit: Collection[str]) -> Iterable[File]:
    def text(path: str, content: str, mode: int = 0o644, owner: Owner = ROOT) -> File:
        return File(path, "file", mode, owner, content.encode())

    def link(path: str, target: str) -> File:
        return File(path, "symlink", 0o777, ROOT, target=target)

    for name in MERGED:
        if f"usr/{name}" in tree.files:
            yield link(name, f"usr/{name}")
    passwd = _accounts(tree, PASSWD)
    passwd += "" if re.search(r"(?m)^_apt:", passwd) else _APT
    group = _accounts(tree, GROUP)
    yield text(PASSWD, passwd.replace(":*:", ":x:"))
    yield text(GROUP, group.replace(":*:", ":x:"))
    # 1970-01-02, the earliest day that does not mean "must change": no clock in an image.
    yield text("etc/shadow", _shadow(passwd, "*:1:0:99999:7:::"), 0o640, _SHADOW)
    yield text("etc/gshadow", _shadow(group, "*::"), 0o640, _SHADOW)
    for name in ("subuid", "subgid"):
        yield text(f"etc/{name}", "")
    yield from common_files(tree.files)
    switch = tree.files.get("usr/share/libc-bin/nsswitch.conf")
    if switch is not None:
        yield File("etc/nsswitch.conf", "file", 0o644, ROOT, switch.data)
    yield text("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n")
    yield text("etc/hostname", "localhost\n")
    yield link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
    yield text("etc/timezone", "Etc/UTC\n")
    certificates = sorted(
        path
        for path in tree.files
        if path.startswith("usr/share/ca-certificates/") and path.endswith(".crt")
    )
    if certificates:
        bundle = b"".join(tree.files[path].data.rstrip(b"\n") + b"\n" for path in certificates)
        yield File("etc/ssl/certs/ca-certificates.crt", "file", 0o644, ROOT, bundle)
        listed = "".join(f"{path.split('/', 3)[3]}\n" for path in certificates)
        yield text("etc/ca-certificates.conf", listed)
    for program, provider in (("awk", "mawk"), ("which", "which.debianutils")):
        if f"usr/bin/{provider}" in tree.files:
            yield link(f"usr/bin/{program}", provider)
    for file in debs["apt"].files if "apt" in debs else ():
        if file.path == _APT_EXAMPLE:
            yield text(_SOURCES, _signed_by(file.data.decode(), tree))
    yield from database(debs, omit)
    for path in _FOLDERS:
        if path not in tree.files:
            yield File(path, "directory", 0o755, ROOT)
    yield link("var/run", "/run")
    yield link("var/lock", "/run/lock")
    yield File("run/lock", "directory", 0o1777, ROOT)
    yield File("var/tmp", "directory", 0o1777, ROOT)
    yield File("tmp", "directory", 0o1777, ROOT)
    yield File(HOME, "directory", 0o755, DOCKERUSER)


def _shadow(accounts: str, rest: str) -> str:
    """A line of `rest` for each of the `accounts` of passwd(5) or group(5)."""
    return "".join(f"{line.partition(':')[0]}:{rest}\n" for line in accounts.splitlines())


def _signed_by(sources: str, tree: Tree) -> str:
    """The lines of sources.list(5), each trusting the archive keyrings of `tree` and no other."""
    keyrings = ",".join(
        f"/{path}"
        for path in sorted(tree.files)
        if re.fullmatch(r"usr/share/keyrings/[^/]+-archive-keyring\.gpg", path)
    )
    return re.sub(r"(?m)^deb ", f"deb [signed-by={keyrings}] ", sources) if keyrings else sources


def _accounts(tree: Tree, path: str) -> str:
    """The accounts of the file at `path`: those that Debian reserves, and the image's user."""
    master = f"usr/share/base-passwd/{path.rpartition('/')[2]}.master"
    file = tree.files.get(master)
    if file is None:
        raise PackageError(
            "no list of users", where=master, remedy="put base-passwd into rootfs.packages"
        )
    return with_user(path, file.data).decode()
