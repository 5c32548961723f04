"""dpkg's database: what is in it, and that dpkg itself takes it for its own."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.formats.debian.deb import Deb, File, read_deb
from plinth.formats.debian.dpkg import database
from plinth.formats.layer.header import ROOT
from support import needs
from support.debs import Package, make_deb, symlink

FOLDER = "var/lib/dpkg"
NOTHING = Deb({"control": "Package: x\nVersion: 1\nArchitecture: all\nDescription: x\n"}, ())


def deb(tmp_path: Path, package: Package, **more: str) -> Deb:
    """The package as it is read, with `more` control files."""
    path = make_deb(tmp_path, package)
    found = read_deb(path, path.name)
    return replace(found, control_files={**found.control_files, **more})


def control(**fields: str) -> Deb:
    """A package without files, of these further fields."""
    text = "Package: x\nVersion: 1\nArchitecture: all\n"
    text += "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    return Deb({"control": f"{text}Description: x\n"}, ())


def made(debs: Mapping[str, Deb], omit: Iterable[str] = ()) -> dict[str, File]:
    """The files of the database, by path below its folder."""
    found: dict[str, File] = {}
    for file in database(debs, set(omit)):
        assert file.path.startswith(f"{FOLDER}/")
        assert file.owner == ROOT
        path = file.path.removeprefix(f"{FOLDER}/")
        assert path not in found
        found[path] = file
    return found


def text(debs: Mapping[str, Deb], path: str, omit: Iterable[str] = ()) -> str:
    return made(debs, omit)[path].data.decode()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_the_database_of_no_package() -> None:
    assert {path: (file.kind, file.mode, file.data) for path, file in made({}).items()} == {
        "status": ("file", 0o644, b""),
        "available": ("file", 0o644, b""),
        "info/format": ("file", 0o644, b"1\n"),
        "updates": ("directory", 0o755, b""),
        "triggers/Unincorp": ("file", 0o644, b""),
        "triggers/File": ("file", 0o644, b""),
    }


def test_a_package_is_recorded_as_installed(tmp_path: Path) -> None:
    package = Package(
        "demo",
        version="1:2.0-3",
        files={"etc/demo.conf": b"x = 1\n", "etc/gone": symlink("etc/gone", "demo.conf")},
        fields={"Depends": "libc6 (>= 2.36), other | another", "Essential": "yes"},
    )
    conffiles = "/etc/demo.conf\nremove-on-upgrade /etc/old.conf\n/etc/gone\n/etc/never\n"
    debs = {"demo": deb(tmp_path, package, conffiles=conffiles)}
    assert text(debs, "status") == (
        "Package: demo\n"
        "Status: install ok installed\n"
        "Version: 1:2.0-3\n"
        "Architecture: amd64\n"
        "Maintainer: Test <test@example.org>\n"
        "Depends: libc6 (>= 2.36), other | another\n"
        "Essential: yes\n"
        "Description: the package demo\n"
        "Conffiles:\n"
        " /etc/demo.conf 3253b41059cac6e987c5a5e9233ea5d0\n"
    )


def test_packages_are_in_order_with_a_line_between() -> None:
    stanza = NOTHING.control.replace("\nVersion", "\nStatus: install ok installed\nVersion")
    debs = dict.fromkeys(("b", "c", "a"), NOTHING)
    assert text(debs, "status") == f"{stanza}\n{stanza}\n{stanza}"
    renamed = {"b": control(Section="b"), "a": control(Section="a")}
    status = text(renamed, "status")
    assert status.index("Section: a") < status.index("Section: b")
    assert list(made(renamed)) == list(made(dict(reversed(renamed.items()))))


def test_lines_of_a_description_stay_as_they_are() -> None:
    long = control(Depends="gone").control + " First, gone.\n .\n Depends: gone\n"
    status = text({"x": Deb({"control": long}, ())}, "status", ["gone"])
    assert status.endswith("Description: x\n First, gone.\n .\n Depends: gone\n")
    assert "\nDepends: \n" in status


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("gone", ""),
        ("gone, kept", "kept"),
        ("kept, gone", "kept"),
        ("one, gone (>= 1.0), two", "one, two"),
        ("one, gone:any (>= 1.0), two", "one, two"),
        ("one, gone(>= 1.0), two", "one, two"),
        ("one, gone | other (<< 2), two", "one, two"),
        ("one, gone|other, two", "one, two"),
        ("one, other (<< 2) | gone:any, two", "one, two"),
        ("one, gone2 | not-gone, two", "one, gone2 | not-gone, two"),
        ("gone, gone-too, gone2", "gone-too, gone2"),
        ("one,gone,two", "one, two"),
        ("kept (= 1.0-1+b2), kept:any | other", "kept (= 1.0-1+b2), kept:any | other"),
    ],
)
@pytest.mark.parametrize("field", ["Depends", "Pre_Depends"])
def test_relations_to_what_is_left_out_are_not_recorded(
    field: str, before: str, after: str
) -> None:
    status = text({"x": control(**{field: before})}, "status", ["gone"])
    assert f"\n{field.replace('_', '-')}: {after}\n" in status


def test_other_relations_stay() -> None:
    fields = dict.fromkeys(
        ("Recommends", "Suggests", "Breaks", "Conflicts", "Replaces", "Provides"),
        "gone (>= 1), two",
    )
    status = text({"x": control(**fields)}, "status", ["gone"])
    for name in fields:
        assert f"\n{name}: gone (>= 1), two\n" in status


def test_control_files_and_their_modes(tmp_path: Path) -> None:
    scripts = dict.fromkeys(("config", "postinst", "postrm", "preinst", "prerm"), "#!/bin/sh\n")
    others = {"conffiles": "/etc/x\n", "shlibs": "libx 1\n", "symbols": "s\n", "templates": "t\n"}
    package = Package("demo", files={"etc/x": b"1", "usr/bin/x": b"2"})
    found = made({"demo": deb(tmp_path, package, **scripts, **others)})
    modes = {path: file.mode for path, file in found.items() if path.startswith("info/demo.")}
    assert modes == {
        **{f"info/demo.{name}": 0o755 for name in scripts},
        **{f"info/demo.{name}": 0o644 for name in (*others, "list", "md5sums")},
    }
    assert found["info/demo.postinst"].data == b"#!/bin/sh\n"
    assert found["info/demo.md5sums"].data.decode() == (
        f"{md5(b'1')}  etc/x\n{md5(b'2')}  usr/bin/x\n"
    )
    assert found["info/demo.list"].data == b"/.\n/etc\n/etc/x\n/usr\n/usr/bin\n/usr/bin/x\n"


@pytest.mark.parametrize(
    ("kind", "stem"),
    [
        ("", "libx1"),
        ("foreign", "libx1"),
        ("allowed", "libx1"),
        ("no", "libx1"),
        ("same", "libx1:amd64"),
    ],
)
def test_names_of_what_may_be_there_for_several_architectures(
    tmp_path: Path, kind: str, stem: str
) -> None:
    fields = {"Multi-Arch": kind} if kind else {}
    debs = {"libx1": deb(tmp_path, Package("libx1", files={"usr/lib/x": b""}, fields=fields))}
    info = sorted(path for path in made(debs) if path.startswith("info/libx1"))
    assert info == [f"info/{stem}.list", f"info/{stem}.md5sums"]


def test_triggers_are_known_by_who_is_interested(tmp_path: Path) -> None:
    one = (
        "# comment\ninterest-noawait /usr/share/menu\ninterest update-menus\n"
        "activate-noawait ldconfig\n\n  interest /indented\n"
    )
    two = "interest /usr/share/menu\ninterest-await  update-menus\ninterest-noawait ldconfig\n"
    debs = {
        "b": replace(NOTHING, control_files={**NOTHING.control_files, "triggers": two}),
        "a": replace(NOTHING, control_files={**NOTHING.control_files, "triggers": one}),
    }
    found = made(debs)
    files = {p: f.data for p, f in found.items() if p.startswith("triggers/") and f.data}
    assert files == {
        "triggers/File": b"/usr/share/menu a/noawait\n/usr/share/menu b\n",
        "triggers/update-menus": b"a\nb\n",
        "triggers/ldconfig": b"b/noawait\n",
    }
    # Or the first run of apt would fire them all.
    assert found["triggers/Unincorp"].data == b""
    assert found["info/a.triggers"].data == one.encode()


@pytest.mark.parametrize("field", ["Depends", "Pre_Depends"])
@pytest.mark.parametrize(("needed", "triggered"), [("gone | other, two", False), ("two", True)])
def test_a_package_without_what_its_scripts_may_call_has_no_triggers(
    field: str, needed: str, triggered: bool
) -> None:
    lacking = control(**{field: needed})
    triggers = {**lacking.control_files, "triggers": "interest-noawait /usr/bin\ninterest x\n"}
    found = made({"x": replace(lacking, control_files=triggers)}, ["gone"])
    assert found["triggers/File"].data == (b"/usr/bin x/noawait\n" if triggered else b"")
    assert ("triggers/x" in found) == triggered


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A system of four packages, files and database, as dpkg finds it."""
    needs.program("dpkg-query")
    foreign = {"Multi-Arch": "foreign"}
    native = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    same = {"Multi-Arch": "same", "Depends": "left-out (>= 1), base"}
    debs = {
        "base": deb(
            tmp_path,
            Package("base", "12.4", "all", {"etc/base.conf": b"conf"}, foreign),
            conffiles="/etc/base.conf\n",
            postinst="#!/bin/sh\n",
        ),
        "libone1": deb(
            tmp_path,
            Package("libone1", "1:1.0-1", native, {"usr/lib/libone.so.1": b"one"}, same),
            triggers="interest-noawait /usr/lib/one\nactivate-noawait ldconfig\n",
        ),
        "only": deb(tmp_path, Package("only", "2", native, fields={"Depends": "left-out"})),
        "tool": deb(
            tmp_path,
            Package(
                "tool",
                "3",
                native,
                {"usr/bin/tool": b"tool"},
                {"Pre-Depends": "left-out | other", "Depends": "libone1 (>= 1:1.0)"},
            ),
            triggers="interest ldconfig\n",
        ),
    }
    root = tmp_path / "root"
    files = [file for one in debs.values() for file in one.files]
    for file in [*files, *database(debs, {"left-out"})]:
        path = root / file.path
        if file.kind == "directory":
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
            path.chmod(file.mode)
    return root


def run(root: Path, *command: str) -> str:
    """What dpkg says about the system; it must have nothing to complain about."""
    done = subprocess.run(
        [command[0], f"--root={root}", *command[1:]],
        check=False,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_dpkg_lists_exactly_the_packages(system: Path) -> None:
    shown = run(
        system, "dpkg-query", "-W", "-f", "${binary:Package} ${Version} ${db:Status-Abbrev}\n"
    )
    lines = [line.split() for line in shown.splitlines()]
    assert [(name.partition(":")[0], version, status) for name, version, status in lines] == [
        ("base", "12.4", "ii"),
        ("libone1", "1:1.0-1", "ii"),
        ("only", "2", "ii"),
        ("tool", "3", "ii"),
    ]


def test_dpkg_finds_nothing_to_repair(system: Path) -> None:
    assert run(system, "dpkg", "--audit") == ""
    # Nothing waits to be configured, and no trigger to be run.
    assert run(system, "dpkg", "--no-act", "--configure", "--pending") == ""
    assert run(system, "dpkg", "--no-act", "--triggers-only", "--pending") == ""


def test_dpkg_knows_whose_a_file_is(system: Path) -> None:
    assert (
        run(system, "dpkg-query", "-L", "libone1") == "/.\n/usr\n/usr/lib\n/usr/lib/libone.so.1\n"
    )
    owner = run(system, "dpkg-query", "-S", "/usr/bin/tool")
    assert owner == "tool: /usr/bin/tool\n"
    assert run(system, "dpkg-query", "--control-list", "base") == "md5sums\npostinst\n"
    shown = run(system, "dpkg-query", "-W", "-f", "${Conffiles}\n", "base")
    assert shown == f" /etc/base.conf {md5(b'conf')}\n"


def test_dpkg_verifies_every_file(system: Path) -> None:
    assert run(system, "dpkg", "--verify") == ""
    (system / "usr/bin/tool").write_bytes(b"fool")
    (system / "etc/base.conf").write_bytes(b"fonc")
    changed = run(system, "dpkg", "--verify")
    assert changed.splitlines() == ["??5?????? c /etc/base.conf", "??5??????   /usr/bin/tool"]


def test_dpkg_sees_dependencies_met_and_guards_them(system: Path) -> None:
    shown = run(system, "dpkg-query", "-W", "-f", "[${Pre-Depends}] [${Depends}]\n")
    assert shown.splitlines() == ["[] []", "[] [base]", "[] []", "[] [libone1 (>= 1:1.0)]"]
    done = subprocess.run(
        ["dpkg", f"--root={system}", "--no-act", "--remove", "libone1"],
        check=False,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode != 0
    assert "tool depends on libone1 (>= 1:1.0)" in done.stderr
