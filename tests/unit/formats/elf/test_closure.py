"""The ELF closure: paths through layers, the linker's search, and what is refused in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plinth.formats.elf.closure import Rules, Tree, _Checker, check
from plinth.formats.elf.ldcache import cache_bytes
from plinth.formats.elf.read import ElfFile
from plinth.formats.elf.scan import LayerScan
from support.elves import Root, program, shared

LIB = "usr/lib/x86_64-linux-gnu"
A, B = ElfFile("liba.so.1", identity="a"), ElfFile("libb.so.1", identity="b")


def layer(
    objects: Mapping[str, ElfFile] | None = None,
    links: Mapping[str, str] | None = None,
    settings: str = "",
) -> LayerScan:
    there = {"etc/ld.so.conf.d/x.conf": settings} if settings else {}
    return LayerScan(dict(objects or {}), dict(links or {}), there)


def needs(*names: str, rpath: str = "", runpath: str = "") -> ElfFile:
    return ElfFile(needed=names, rpath=rpath, runpath=runpath, identity="needs")


def problems(*layers: LayerScan, rules: Rules | None = None, frameworks: str = "") -> list[str]:
    """What is wrong with layers called `one`, `two`, …, bottom first."""
    named = list(zip(["one", "two", "three"], layers, strict=False))
    found, _ = check(named, rules or Rules(), frozenset(frameworks.split()))
    return [str(finding) for finding in found]


# Paths and layers.


def test_an_upper_layers_link_replaces_an_object_and_an_object_a_link() -> None:
    lower = layer({"usr/lib/liba.so.1": A, "usr/lib/libb.so.1": B}, {"usr/lib/x": "liba.so.1"})
    upper = layer({"usr/lib/x": B}, {"usr/lib/liba.so.1": "libb.so.1"})
    tree = Tree.of([("lower", lower), ("upper", upper)])
    assert tree.objects == {"usr/lib/libb.so.1": B, "usr/lib/x": B}
    assert tree.links == {"usr/lib/liba.so.1": "libb.so.1"}
    assert tree.layer_of["usr/lib/x"] == tree.layer_of["usr/lib/liba.so.1"] == "upper"
    assert tree.layer_of["usr/lib/libb.so.1"] == "lower"
    again = Tree.of([("upper", upper), ("lower", lower)])
    assert again.objects == {"usr/lib/liba.so.1": A, "usr/lib/libb.so.1": B}
    assert again.links == {"usr/lib/x": "liba.so.1"}


def test_what_a_replaced_object_needed_is_needed_no_more() -> None:
    lower = layer({"usr/lib/liba.so.1": needs("libgone.so")})
    assert problems(lower) == [
        "usr/lib/liba.so.1 (one): needs libgone.so, which is not in the image"
    ]
    assert problems(lower, layer({"usr/lib/liba.so.1": A})) == []
    assert problems(lower, layer({"opt/liba.so": A}, {"usr/lib/liba.so.1": "/opt/liba.so"})) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("lib/x", "usr/lib/x"),
        ("/lib/./x", "usr/lib/x"),
        ("usr/lib/../lib/x", "usr/lib/x"),
        ("../../lib/x", "usr/lib/x"),
        ("opt/relative/y", "usr/share/y"),
        ("opt/absolute/y", "usr/share/y"),
        ("opt/chain/y", "usr/share/y"),
        ("opt/chain/../y", "usr/y"),
        ("opt/outside/y", "y"),
        ("opt/nowhere/y", "gone/y"),
        ("opt/circle/y", ""),
        ("opt/self", ""),
        ("", ""),
    ],
)
def test_links_are_followed_as_the_kernel_does(path: str, expected: str) -> None:
    links = {
        "lib": "usr/lib",
        "opt/relative": "../usr/share",
        "opt/absolute": "/usr//share/",
        "opt/chain": "relative/../share/.",
        "opt/outside": "../../../..",
        "opt/nowhere": "/gone",
        "opt/circle": "elcric",
        "opt/elcric": "../opt/circle",
        "opt/self": "self/self",
    }
    assert Tree(links=links).real(path) == expected


NAMES = st.sampled_from(["a", "b", "c", "."])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.one_of(PATHS, PATHS.map("/{}".format))), PATHS)
def test_a_real_path_has_no_links_left(links: dict[str, str], path: str) -> None:
    tree = Tree(links=links)
    real = tree.real(path)
    assert tree.real(real) == real
    assert not any(real == link or real.startswith(f"{link}/") for link in links)


# Settings, names and what the cache lists.


def test_folders_of_the_settings_come_first_and_once_in_order_of_files() -> None:
    tree = Tree(
        settings={
            "etc/ld.so.conf.d/b.conf": "/opt/b  # why\nrelative\n\n/usr/lib\n",
            "etc/ld.so.conf.d/a.conf": "# a\n/opt/a/\n/opt/b\n",
            "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
        }
    )
    assert tree.folders() == [
        "opt/a",
        "opt/b",
        "usr/lib",
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "lib",
    ]


def test_the_cache_lists_sonames_and_development_links_only() -> None:
    tree = Tree.of(
        [
            (
                "one",
                layer(
                    {
                        f"{LIB}/liba.so.1.2": A,
                        f"{LIB}/libplain.so.3": ElfFile(identity="c"),
                        f"{LIB}/notes.txt": B,
                    },
                    {
                        "lib": "usr/lib",
                        f"{LIB}/liba.so.1": "liba.so.1.2",
                        f"{LIB}/liba.so": "liba.so.1",
                        f"{LIB}/liba.so.0": "liba.so.1",
                        f"{LIB}/libgone.so": "libgone.so.1",
                    },
                ),
            )
        ]
    )
    assert tree.cached() == [
        ("liba.so", "lib/x86_64-linux-gnu/liba.so"),
        ("liba.so.1", "lib/x86_64-linux-gnu/liba.so.1"),
        ("libplain.so.3", "lib/x86_64-linux-gnu/libplain.so.3"),
    ]
    assert {name for name, _ in tree.libraries()} - {name for name, _ in tree.cached()} == {
        "liba.so.0",
        "liba.so.1.2",
    }


# The linker's search, as this machine's own linker does it.

PROGRAM = "app/bin/program"


def compared(root: Root, *, cached: bool = True) -> dict[str, str]:
    """Where each library of `root` comes from, by the linker and by us, which must be the same;
    empty where it is not found."""
    tree = Tree.of([("one", root.scan)])
    if cached:
        place = root.folder / "etc" / "ld.so.cache"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(cache_bytes(tree.cached()))
    loaded, _ = root.traced(PROGRAM)
    checker = _Checker(tree, Rules())
    missing = {finding.what for finding in checker.problems()}
    ours = {name: "".join(providers) for name, providers in checker.chosen.items()}
    ours |= {name: "" for name in loaded if f"needs {name}, which is not in the image" in missing}
    assert ours == {name: tree.real(path) for name, path in loaded.items()}
    return ours


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")


def test_rpath_is_inherited_by_what_is_loaded(root: Root) -> None:
    root.put(PROGRAM, program(["liba.so"], rpath="/one"))
    root.put("one/liba.so", shared("liba.so", needed=["libb.so"]))
    root.put("one/libb.so", shared("libb.so", needed=["libc.so"], rpath="/two"))
    # The object's own comes before what it inherits.
    root.put("one/libc.so", shared("libc.so", mark="one"))
    root.put("two/libc.so", shared("libc.so", mark="two"))
    assert compared(root) == {
        "liba.so": "one/liba.so",
        "libb.so": "one/libb.so",
        "libc.so": "two/libc.so",
    }


def test_runpath_is_not_inherited(root: Root) -> None:
    root.put(PROGRAM, program(["liba.so"], runpath="/one"))
    root.put("one/liba.so", shared("liba.so", needed=["libb.so"]))
    root.put("one/libb.so", shared("libb.so"))
    assert compared(root) == {"liba.so": "one/liba.so", "libb.so": ""}


def test_an_object_with_runpath_ignores_every_rpath_but_hands_on_what_it_inherited(
    root: Root,
) -> None:
    root.put(PROGRAM, program(["liba.so"], rpath="/one"))
    root.put("one/liba.so", shared("liba.so", needed=["libb.so", "libc.so"], runpath="/two"))
    root.put("two/libb.so", shared("libb.so", needed=["libd.so"]))
    # Only in what the program's RPATH names: not for liba, but for libb, which has no RUNPATH.
    root.put("one/libc.so", shared("libc.so"))
    root.put("one/libd.so", shared("libd.so"))
    assert compared(root) == {
        "liba.so": "one/liba.so",
        "libb.so": "two/libb.so",
        "libc.so": "",
        "libd.so": "one/libd.so",
    }


def test_origin_is_where_the_object_is(root: Root) -> None:
    root.put(PROGRAM, program(["liba.so", "libb.so"], runpath="$ORIGIN/../lib:/gone:${ORIGIN}/b"))
    root.put("app/lib/liba.so", shared("liba.so", needed=["libc.so"], runpath="$ORIGIN/deep"))
    root.put("app/lib/deep/libc.so", shared("libc.so"))
    root.put("app/bin/b/libb.so", shared("libb.so"))
    assert compared(root) == {
        "liba.so": "app/lib/liba.so",
        "libb.so": "app/bin/b/libb.so",
        "libc.so": "app/lib/deep/libc.so",
    }


def test_origin_of_a_program_called_by_a_link_is_where_it_really_is(root: Root) -> None:
    root.put("app/real/program", program(["liba.so"], runpath="$ORIGIN/lib"))
    root.link(PROGRAM, "../real/program")
    root.put("app/real/lib/liba.so", shared("liba.so"))
    assert compared(root) == {"liba.so": "app/real/lib/liba.so"}


def test_origin_of_a_library_found_by_a_link_is_where_the_link_is(root: Root) -> None:
    root.put(PROGRAM, program(["liba.so"], runpath="/links"))
    root.link("links/liba.so", "../real/liba.so.1")
    root.put("real/liba.so.1", shared("liba.so", needed=["libb.so"], runpath="$ORIGIN"))
    root.put("links/libb.so", shared("libb.so", mark="links"))
    assert compared(root) == {"liba.so": "real/liba.so.1", "libb.so": "links/libb.so"}


def test_lib_stands_for_debians_folder(root: Root) -> None:
    root.put(PROGRAM, program(["liba.so", "libb.so"], runpath="/opt/$LIB:/srv/${LIB}"))
    root.put("opt/lib/x86_64-linux-gnu/liba.so", shared("liba.so"))
    root.put("srv/lib/x86_64-linux-gnu/libb.so", shared("libb.so"))
    assert compared(root) == {
        "liba.so": "opt/lib/x86_64-linux-gnu/liba.so",
        "libb.so": "srv/lib/x86_64-linux-gnu/libb.so",
    }


DEFAULTS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib")


@pytest.mark.parametrize("cached", [True, False])
def test_the_linkers_own_folders_are_searched_in_its_order(root: Root, cached: bool) -> None:
    names = ["libw.so", "libx.so", "liby.so", "libz.so"]
    root.put(PROGRAM, program(names))
    for number, folder in enumerate(DEFAULTS):
        for name in names[: number + 1]:
            root.put(f"{folder}/{name}", shared(name, mark=folder))
    assert compared(root, cached=cached) == {
        "libw.so": "lib/x86_64-linux-gnu/libw.so",
        "libx.so": "usr/lib/x86_64-linux-gnu/libx.so",
        "liby.so": "lib/liby.so",
        "libz.so": "usr/lib/libz.so",
    }


def test_folders_of_other_systems_are_not_searched(root: Root) -> None:
    root.put(PROGRAM, program(["liba.so", "libb.so", "libc.so"]))
    root.put("lib64/liba.so", shared("liba.so"))
    root.put("usr/lib64/libb.so", shared("libb.so"))
    root.put("usr/local/lib/libc.so", shared("libc.so"))
    assert compared(root) == {"liba.so": "", "libb.so": "", "libc.so": ""}


def test_folders_of_the_settings_come_before_the_linkers_own(root: Root) -> None:
    root.put("etc/ld.so.conf.d/z.conf", b"/opt/z\n/opt/y\n")
    root.put(PROGRAM, program(["liba.so", "libb.so", "libc.so"], rpath="/first"))
    root.put("opt/z/liba.so", shared("liba.so", mark="z"))
    root.put("opt/y/liba.so", shared("liba.so", mark="y"))
    root.put(f"{LIB}/liba.so", shared("liba.so", mark="default"))
    root.put("opt/y/libb.so", shared("libb.so"))
    root.put("opt/y/libc.so", shared("libc.so", mark="y"))
    root.put("first/libc.so", shared("libc.so", mark="first"))
    assert compared(root) == {
        "liba.so": "opt/z/liba.so",
        "libb.so": "opt/y/libb.so",
        "libc.so": "first/libc.so",
    }


def test_a_name_the_cache_does_not_list_is_found_in_the_linkers_own_folders_only(
    root: Root,
) -> None:
    root.put("etc/ld.so.conf.d/z.conf", b"/opt/z\n")
    root.put(PROGRAM, program(["liba.so.0", "libb.so.0"]))
    root.put("opt/z/liba.so.1", shared("liba.so.1"))
    root.link("opt/z/liba.so.0", "liba.so.1")
    root.put("opt/z/libb.so.1", shared("libb.so.1", mark="z"))
    root.link("opt/z/libb.so.0", "libb.so.1")
    root.put("usr/lib/libb.so.1", shared("libb.so.1", mark="lib"))
    root.link("usr/lib/libb.so.0", "libb.so.1")
    assert compared(root) == {"liba.so.0": "", "libb.so.0": "usr/lib/libb.so.1"}


def test_a_merged_usr_and_links_to_sonames(root: Root) -> None:
    root.link("lib", "usr/lib")
    root.put(PROGRAM, program(["liba.so.1", "libb.so.2"]))
    root.put(f"{LIB}/liba.so.1.2.3", shared("liba.so.1"))
    root.link(f"{LIB}/liba.so.1", "liba.so.1.2.3")
    root.put("etc/alternatives/b/libb-one.so", shared("libb.so.2"))
    root.link("usr/lib/libb.so.2", "/etc/alternatives/b/libb-one.so")
    assert compared(root) == {
        "liba.so.1": f"{LIB}/liba.so.1.2.3",
        "libb.so.2": "etc/alternatives/b/libb-one.so",
    }


def test_a_needed_path_is_taken_as_it_is(root: Root) -> None:
    root.put(PROGRAM, program(["/opt/liba.so", "/opt/libb.so"], runpath="/other"))
    root.put("opt/liba.so", shared("liba.so"))
    root.put("other/libb.so", shared("libb.so"))
    assert compared(root) == {"/opt/liba.so": "opt/liba.so", "/opt/libb.so": ""}


def test_a_missing_symbol_version_is_what_the_linker_complains_of(root: Root) -> None:
    wants = {"liba.so": ["A_1", "A_2"], "libb.so": ["B_1"]}
    root.put(PROGRAM, program(["liba.so", "libb.so"], wants=wants))
    root.put(f"{LIB}/liba.so", shared("liba.so", offers=["A_1"]))
    # One that offers no versions at all is taken, with a warning.
    root.put(f"{LIB}/libb.so", shared("libb.so"))
    _, complaints = root.traced(PROGRAM)
    assert "liba.so: version `A_2' not found (required by /app/bin/program)" in complaints
    assert "version `A_1' not found" not in complaints
    assert "libb.so: no version information available" in complaints
    assert problems(root.scan) == [
        f"{PROGRAM} (one): needs A_2, which /{LIB}/liba.so does not offer"
    ]


# What is refused, and what is not.


def test_every_missing_library_is_named_with_its_file_and_layer() -> None:
    found = problems(
        layer({"usr/bin/one": needs("libgone.so", "liba.so.1"), f"{LIB}/liba.so.1": A}),
        layer({"usr/bin/two": needs("libgone.so", "liblost.so")}),
    )
    assert found == [
        "usr/bin/one (one): needs libgone.so, which is not in the image",
        "usr/bin/two (two): needs libgone.so, which is not in the image",
        "usr/bin/two (two): needs liblost.so, which is not in the image",
    ]


def test_objects_that_need_each_other_in_a_circle_are_checked_too() -> None:
    found = problems(
        layer(
            {
                "usr/lib/liba.so": needs("libb.so"),
                "usr/lib/libb.so": needs("liba.so", "libgone.so"),
            }
        )
    )
    assert found == ["usr/lib/libb.so (one): needs libgone.so, which is not in the image"]


def test_a_relative_search_path_finds_nothing() -> None:
    objects = {"app/run": needs("liba.so.1", runpath="lib:"), "app/lib/liba.so.1": A}
    assert problems(layer(objects)) == ["app/run (one): needs liba.so.1, which is not in the image"]


def test_names_of_the_host_may_be_missing() -> None:
    rules = Rules(dlopen=("libcuda.so.1",), host=frozenset({"libcuda.so.1"}))
    scan = layer({"usr/bin/run": needs("libcuda.so.1")})
    assert problems(scan, rules=rules) == []
    assert len(problems(scan)) == 1


def test_names_the_framework_opens_must_be_where_the_linker_finds_them() -> None:
    rules = Rules(dlopen=("liba.so.1", "libb.so.1", "libb.so.0"))
    links = {"usr/lib/libb.so.0": "/opt/y/libb.so.1"}
    scan = layer({"opt/x/liba.so.1": A, "opt/y/libb.so.1": B}, links, settings="/opt/x\n")
    assert problems(scan, rules=rules) == [
        "libb.so.1, which the framework opens, is not in the image"
    ]


COPY = ElfFile("liba.so.1", identity="another")


def asked_twice(name: str, one: ElfFile, other: ElfFile) -> Sequence[LayerScan]:
    """Two layers, each with a program and a library of its own called `name`."""
    return (
        layer({"x/run": needs(name, rpath="$ORIGIN"), f"x/{name}": one}),
        layer({"y/run": needs(name, rpath="$ORIGIN"), f"y/{name}": other}),
    )


def test_two_different_copies_of_a_library_are_refused() -> None:
    assert problems(*asked_twice("liba.so.1", A, COPY)) == [
        "several copies of liba.so.1 would be loaded: /x/liba.so.1 for one, /y/liba.so.1 for two"
    ]


def test_two_equal_copies_are_one_library() -> None:
    assert problems(*asked_twice("liba.so.1", A, A)) == []


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("liba-0123abcd.so.1", True),
        ("liba-0123abcd.so.1.2.3", True),
        ("liba-0123abc.so.1", False),
        ("liba-0123ABCD.so.1", False),
        ("liba-0123abcd.1", False),
    ],
)
def test_copies_that_auditwheel_named_by_their_content_are_allowed(
    name: str, allowed: bool
) -> None:
    found = problems(*asked_twice(name, A, COPY))
    assert (found == []) is allowed
    assert allowed or f"several copies of {name}" in found[0]


GPU = ("libcudart.so.11.0", "libcublasLt.so.11", "libcudnn_ops_infer.so.8", "libnccl-0a1b2c3d.so.2")


@pytest.mark.parametrize("name", GPU)
def test_a_gpus_library_is_refused_in_an_image_for_the_cpu(name: str) -> None:
    scan = layer({f"opt/{name}": A, "opt/libother.so": B})
    assert problems(scan) == [f"one holds libraries of a GPU: {name}"]
    assert problems(scan, rules=Rules(gpu=True)) == []


@pytest.mark.parametrize("name", ["libcudax.so", "libcudart.a", "cudart.so", "libnvidia.so"])
def test_names_that_only_look_alike_are_not_refused(name: str) -> None:
    assert problems(layer({f"opt/{name}": A})) == []


def test_a_framework_may_bring_libraries_of_a_gpu_and_a_note_says_so() -> None:
    scans = [
        ("torch 1.7", layer({"opt/libcudart.so.11.0": A, "opt/libnvToolsExt-24de1d56.so.1": B})),
        ("other 2.0", layer({"opt/libcublas.so.11": A})),
    ]
    found, notes = check(scans, Rules(), frozenset({"torch 1.7"}))
    assert [str(finding) for finding in found] == [
        "other 2.0 holds libraries of a GPU: libcublas.so.11"
    ]
    assert notes == [
        "torch 1.7 carries libraries of a GPU: libcudart.so.11.0, libnvToolsExt-24de1d56.so.1"
    ]
