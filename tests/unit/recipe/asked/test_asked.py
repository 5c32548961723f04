"""What an image's input files mean: one value for each kind, and every refusal by field."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.errors import SpecError
from plinth.recipe.asked.asked import input_files, with_inputs
from plinth.recipe.asked.pylock import MAX_PACKAGES
from plinth.recipe.base import load_base
from plinth.recipe.image import ImageSpec, Target, load_image
from support.asked_project import DATA, STANDALONE, WANTED
from support.helpers import BASE

HEAD = 'framework = "demo"\naccelerator = "cpu"\nbase = "tiny"\nsummary = "a test"\n[python]\n'
INPUTS = {
    "requirements": 'requirements-file = "requirements.txt"\n',
    "uv": 'lock = { path = "uv.lock" }\n',
    "pylock": 'lock = { path = "pylock.toml" }\n',
    "pyproject": 'pyproject = { path = "pyproject.toml" }\n',
}
PINS = tuple(f"{name}=={version}" for name, version in WANTED.items())


def read(root: Path, python: str, *, version: str = "3.7", release: str = "") -> ImageSpec:
    """The specification with `python` as its table, and what its inputs in `root` mean; on a base
    that pins the `release` of its Python, where one is given."""
    images, bases = root / "images", root / "base"
    for folder in (images, bases):
        folder.mkdir(exist_ok=True)
    (images / "demo.toml").write_text(HEAD + python)
    text = BASE.format(requirements="").replace('"3.7"', f'"{version}"')
    if release:
        pinned = STANDALONE.format(release=release, zeros="0" * 64)
        text = text.replace('kind = "found"\n', pinned)
    (bases / "tiny.toml").write_text(text)
    base = load_base(bases, "tiny")
    target = Target(version, base.glibc, base.architecture, (base,))
    return with_inputs(root, load_image(images, "demo"), target)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the data of a real project."""
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    return tmp_path


def refused(root: Path, python: str, *, version: str = "3.7") -> tuple[str, list[str]]:
    """The file that is refused, and its problems."""
    with pytest.raises(SpecError) as raised:
        read(root, python, version=version)
    return raised.value.where, [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize("kind", ["requirements", "uv", "pylock"])
def test_the_same_pins_are_the_same_requirements_from_every_kind_of_file(
    root: Path, kind: str
) -> None:
    spec = read(root, INPUTS[kind])
    assert spec.requirements == PINS
    assert {name: pin.version for name, pin in spec.pins.items() if name in WANTED} == WANTED
    hashes = {name: pin.hashes for name, pin in spec.pins.items() if name in WANTED}
    assert hashes == {name: pin.hashes for name, pin in read(root, INPUTS["uv"]).pins.items()}
    assert spec.pins["demo-app"].where.partition(" ")[0].strip(":") in (
        "requirements.txt",
        "uv.lock",
        "pylock.toml",
    )


def test_without_input_files_a_specification_stays_as_it_is(root: Path) -> None:
    spec = read(root, 'requirements = ["Demo_App>=1", "a"]\n')
    assert spec.requirements == ("Demo_App>=1", "a")
    assert spec.pins == {}


def test_a_project_asks_for_its_dependencies_extras_and_groups(root: Path) -> None:
    text = 'pyproject = { path = "pyproject.toml", extras = ["plots"], groups = ["serve"] }\n'
    assert read(root, text).requirements == (
        "demo-app>=1",
        "demo-leaf",
        "demo-native",
        "demo-plot[fast]",
        "demo-serve>=1",
    )
    only = 'pyproject = { path = "pyproject.toml", dependencies = false, groups = ["base"] }\n'
    assert read(root, only).requirements == ("demo-leaf",)


def test_an_extra_that_names_another_of_its_project_brings_that_one(root: Path) -> None:
    path = root / "pyproject.toml"
    path.write_text(path.read_text().replace("plots =", 'all = ["Score[plots]", "x"]\nplots ='))
    text = 'pyproject = { path = "pyproject.toml", dependencies = false, extras = ["all"] }\n'
    assert read(root, text).requirements == ("demo-plot[fast]", "x")


def test_extras_and_groups_of_a_uv_lock_are_pinned(root: Path) -> None:
    text = 'lock = { path = "uv.lock", extras = ["plots"], groups = ["serve"] }\n'
    assert read(root, text).requirements == tuple(
        sorted([*PINS, "demo-plot==1.0", "demo-serve==1.5", "demo-speed==1.0"])
    )


def test_markers_are_judged_for_the_target(root: Path) -> None:
    # demo-back is for Pythons before 3.8; demo-native has another file for that one.
    for kind in ("requirements", "uv", "pylock"):
        names = [
            line.partition("=")[0] for line in read(root, INPUTS[kind], version="3.8").requirements
        ]
        assert names == ["demo-app", "demo-leaf", "demo-native"]


def test_files_and_the_specification_itself_go_together(root: Path) -> None:
    (root / "bounds.txt").write_text("demo-leaf<2.5\ndemo-win<9; sys_platform == 'win32'\n")
    text = (
        'requirements = ["Extra>=1"]\nconstraints-file = "bounds.txt"\n'
        + INPUTS["uv"]
        + '[[python.constraints]]\nrequirement = "a<1"\nreason = "b"\n'
    )
    spec = read(root, text)
    assert spec.requirements == tuple(sorted([*PINS, "extra>=1"]))
    assert [(one.requirement, one.reason) for one in spec.constraints] == [
        ("a<1", "b"),
        ("demo-leaf<2.5", "bounds.txt line 1"),
    ]


def test_all_files_that_are_read_are_inputs_of_the_image(root: Path) -> None:
    (root / "in").mkdir()
    (root / "in" / "a.txt").write_text("a\n-c ../b.txt\n")
    (root / "b.txt").write_text("b\n")
    spec = read(root, 'requirements-file = "in/a.txt"\n' + INPUTS["uv"])
    base = load_base(root / "base", "tiny")
    target = Target("3.7", base.glibc, base.architecture, (base,))
    assert input_files(root, spec, target) == ["b.txt", "in/a.txt", "uv.lock"]
    # Of one that is invalid, as far as it can be read.
    (root / "b.txt").write_text("-e .\n")
    assert input_files(root, spec, target) == ["b.txt", "in/a.txt"]


def test_two_inputs_that_pin_other_versions_are_refused(root: Path) -> None:
    (root / "a.txt").write_text(f"demo-app==1.1 --hash=sha256:{'0' * 64}\n")
    where, problems = refused(root, 'requirements-file = "a.txt"\n' + INPUTS["uv"])
    assert where == "images/demo.toml"
    assert problems == ["python: demo-app is 1.1 in a.txt line 1 and 2.0 in uv.lock: package[0]"]
    (root / "a.txt").write_text(f"demo-app==2.0 --hash=sha256:{'0' * 64}\n")
    _, problems = refused(root, 'requirements-file = "a.txt"\n' + INPUTS["uv"])
    assert "have no file of demo-app in common" in problems[0]


def test_hashes_without_a_version_are_refused(root: Path) -> None:
    (root / "a.txt").write_text(f"x\ndemo-app>=2 --hash=sha256:{'0' * 64}\n")
    where, problems = refused(root, 'requirements-file = "a.txt"\n')
    assert (where, problems) == (
        "a.txt",
        ["line 2: demo-app>=2 has hashes, so it must name one version (==)"],
    )


Change = Callable[[str], str]


def put(old: str, new: str, count: int = 1) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, count)

    return change


DIGITS = "9" * 5000
HASH = f'hash = "sha256:{"0" * 64}"'
REGISTRY = 'source = { registry = "http://127.0.0.1:33431/simple" }'
HERE, THERE = REGISTRY.removeprefix("source = "), '{ registry = "https://there" }'
VERSIONS = ('"1.0\\nevil==2"', '"2.0; a"', '"2.0,>1"', '"2.*"', '""', f'"{DIGITS}"', "2.0")
NATIVE = f'{{ name = "demo-native", source = {HERE} }}'
NATIVE_THERE = f'{{ name = "demo-native", source = {THERE} }}'
FILE = f'{{ url = "https://there/demo_native-1.0-py3-none-any.whl", {HASH} }}'
UV = [
    (put("version = 1", "version = 2"), "version: expected 1, found 2"),
    (put('requires-python = ">=3.7"', 'requires-python = ">=3.9"'), "the image has Python 3.7"),
    (put('name = "demo-app"', 'name = "Demo_App"'), "package[0].name: expected a normalized name"),
    (put("sha256:", "md5:"), "package[0] (demo-app): demo_app-2.0-py3-none-any.whl has no sha256"),
    (put("sha256:29a5", "sha256:zzzz"), "has an invalid sha256"),
    (put("cp37-cp37m-manylinux2014", "cp37-cp37m-manylinux_2_99"), "none of its files fits"),
    (put("registry =", "git ="), "its source is git; only releases can be pinned"),
    (put('{ name = "demo-leaf" }', '{ name = "demo-gone" }'), "of which there is no package"),
    (put("python_full_version < '3.8'", "python_full_version < '3.7.9'"), "does not decide it"),
    (put("python_full_version < '3.8'", "python <"), "package[0].dependencies[0].marker"),
    (put('source = { virtual = "." }', 'source = { registry = "x" }'), "known here: none"),
    (lambda text: text + text[text.index("[[package]]") : text.index("[[package]]", 90)], "twice"),
    (lambda text: "package = 1\nversion = 1\n", "package: missing; expected an array"),
    (lambda text: "version = 1\npackage = [1]\n", "package[0].name: expected a normalized name"),
    (put("dependencies = [", "dependencies = [1,"), "package[0].dependencies: expected an array"),
    (put("version = 1", "version = true"), "version: expected 1, found True"),
    (put('requires-python = ">=3.7"', "requires-python = 3"), "requires-python: expected a string"),
    (put('requires-python = ">=3.7"', f'requires-python = ">={DIGITS}"'), "requires-python: "),
    (put('name = "demo-app"', 'name = "demo-app\\n"'), "package[0].name: expected a normalized"),
    (put('name = "demo-app"', 'name = "demo-app[x]"'), "package[0].name: expected a normalized"),
    *((put('version = "2.0"', f"version = {wrong}"), "package[0].version: ") for wrong in VERSIONS),
    (put('version = "2.0"\n', ""), "package[0] (demo-app): it has no version"),
    # Of another project, another version, another kind, or no name at all.
    *(
        (put("demo_app-2.0-py3-none-any.whl", wrong), "is not a wheel of demo-app 2.0")
        for wrong in (
            *("demo_other-2.0-py3-none-any.whl", "demo_app-2.1-py3-none-any.whl"),
            *("demo_app-2.0.tar.gz", "demo%2Fapp-2.0-py3-none-any.whl", "?demo_app-2.0.whl", ""),
            f"demo_app-2.0-{'.'.join('abc')}-none-{'.'.join(['any'] * 999)}.whl",
        )
    ),
    (
        put(
            "\nwheels =", f'\nsdist = {{ url = "https://x/demo_ap-2.0.tar.gz", {HASH} }}\nwheels ='
        ),
        "'demo_ap-2.0.tar.gz' is not an sdist of demo-app 2.0",
    ),
    (
        put(
            "\nwheels =",
            f'\nsdist = {{ path = "demo_app-2.0-py3-none-any.whl", {HASH} }}\nwheels =',
        ),
        "is not an sdist of demo-app 2.0",
    ),
    (put("{ url =", '{ path = "x", url ='), "expected a file's url, path or filename"),
    (put("{ url =", "{ x ="), "expected a file's url, path or filename"),
    (put('url = "http:', 'url = "http://[::1'), "package[0] (demo-app): "),
    (put("wheels = [", "wheels = [1,"), "package[0].wheels: expected an array of tables"),
    (put("\nwheels =", "\nsdist = 1\nwheels ="), "package[0].sdist: expected an array of tables"),
    *(
        (put(REGISTRY, f"source = {wrong}"), "package[0].source: expected one of registry, git")
        for wrong in (
            *('"registry"', '["registry"]', "{}", "{ registry = 1 }", '{ registry = "" }'),
            *('{ registry = ["x"] }', '{ registry = "x", git = "y" }', '{ registri = "x" }'),
            *('{ registry = "x", subdirectory = "y" }', '{ url = "x", other = "y" }'),
        )
    ),
    (put(REGISTRY + "\n", ""), "package[0].source: expected one of registry, git"),
    (
        put(REGISTRY, 'source = { url = "https://x/y.zip", subdirectory = "z" }'),
        "its source is url; only releases can be pinned",
    ),
    (
        lambda text: text + '[[package]]\nname = "score"\nsource = { editable = "other" }\n',
        "more than one project is called score: package[8] (virtual '.') and "
        "package[9] (editable 'other')",
    ),
    (put('{ name = "demo-leaf" }', "{ name = 1 }"), "dependencies[1].name: expected a string"),
    (put('{ name = "demo-leaf" }', '{ name = "demo-leaf", version = "3" }'), "there is no package"),
    (put('{ name = "demo-leaf" }', '{ name = "demo-leaf", version = "x" }'), "not a version"),
    (put('{ name = "demo-leaf" }', '{ name = "demo-leaf", source = 1 }'), "[1].source: expected"),
    (put('{ name = "demo-leaf" }', '{ name = "demo-leaf", extra = "x" }'), "[1].extra: expected"),
    (put("python_full_version < '3.8'", f"python_version < '{DIGITS}'"), "does not decide it"),
    (put("python_full_version < '3.8'", "'x' in '3.8'"), "does not decide it"),
    (put('"python_full_version', "1 #"), "not TOML"),
    (put("\"python_full_version < '3.8'\"", "1"), "dependencies[0].marker: "),
    (
        put("python_full_version < '3.8'", "extra == 'extra-5-score-cpu'"),
        "it depends on extras that exclude each other",
    ),
    (
        lambda text: (
            text.replace('{ name = "demo-native" },', f"{NATIVE},\n{NATIVE_THERE},", 1)
            + '[[package]]\nname = "demo-native"\nversion = "1.0"\n'
            f"source = {THERE}\nwheels = [{FILE}]\n"
        ),
        "demo-native is needed at 1.0 (registry 'http://127.0.0.1:33431/simple') and "
        "1.0 (registry 'https://there')",
    ),
    (lambda text: "x" * 100, "not TOML"),
    (lambda text: "version = 1\nx = " + "[" * 5000, "not TOML"),
    (
        lambda text: "version = 1\npackage = [" + "{}," * (MAX_PACKAGES + 1) + "]",
        "at most 5000 are read",
    ),
]
TWICE = '[[packages]]\nname = "demo-leaf"\ndirectory = { path = "x" }\n'
PYLOCK = [
    (put('"1.0"', '"2.0"'), "pylock version 2.0 is not supported"),
    (
        put('requires-python = ">=3.7"', 'requires-python = ">=3.9"'),
        "requires-python: '>=3.9', and the image has Python 3.7",
    ),
    (
        put('version = "2.0"\n', 'version = "2.0"\nrequires-python = ">=3.9"\n'),
        "packages[0].requires-python (demo-app): '>=3.9', and the image has Python 3.7",
    ),
    (put('name = "demo-app"', 'name = "Demo-App"'), "not normalized"),
    (put("sha256 =", "md5 ="), "(demo-app): demo_app-2.0-py3-none-any.whl has no sha256"),
    (put('"29a5', '"zzzz'), "has an invalid sha256"),
    (put("cp37-cp37m-manylinux2014", "cp37-cp37m-manylinux_2_99"), "No wheel found matching"),
    (put("marker =", "markre ="), "packages[1].markre: unknown field"),
    (put("created-by", "createdby"), "createdby: unknown field"),
    (put("python_full_version < '3.8'", "python_full_version < '3.7.9'"), "only the patch level"),
    (put("[[packages]]", f"{TWICE}[[packages]]"), "Multiple packages"),
    (put("demo_app-2.0-py3", "demo_other-2.0-py3"), "is not consistent"),
    *(
        (put('version = "2.0"', f"version = {wrong}"), "")
        for wrong in VERSIONS
    ),
    (put('version = "2.0"\n', ""), "(demo-app): it has no version"),
    (put("demo_app-2.0-py3", "demo_app-2.1-py3"), "is not consistent"),
    (
        put("demo_app-2.0-py3-none-any", f"demo_app-2.0-py3-none-{'.'.join(['any'] * 99)}"),
        "packages[0].wheels[0]: a file name has at most 255 bytes",
    ),
    (put("marker = ", "marker = \"'x' in '3.8'\" #"), "not a valid pylock"),
    (lambda text: 'lock-version = "1.0"\ncreated-by = "x"\npackages = [1]\n', "packages"),
    (lambda text: 'lock-version = "1.0"\n', "created-by"),
    (
        lambda text: 'lock-version = "1.0"\npackages = [' + "{}," * (MAX_PACKAGES + 1) + "]",
        "at most 5000 are read",
    ),
]  # fmt: skip
PROJECT = [
    (lambda text: text.replace("[project", "[other"), "project: missing"),
    (put('dependencies = ["demo-app>=1"', 'dependencies = ["demo app"'), "project.dependencies[0]"),
    (put('"demo-native"', '"x @ https://there/x.whl"'), "a URL has no place in a lock"),
    (put('requires-python = ">=3.7"', 'requires-python = ">=3.9"'), "the image has Python 3.7"),
    (put('version = "1.0"', 'dynamic = ["dependencies"]'), "project.dynamic: only a build"),
    (put("serve = [", "other = ["), "dependency-groups.serve: "),
    (put('base = ["demo-leaf"]', 'base = [{ include-group = "serve" }]'), "include each other"),
    (put('"demo-serve>=1"', "1"), "Invalid dependency group item: 1"),
    (put("base =", "Serve ="), "dependency-groups: "),
    (put('requires-python = ">=3.7"', f'requires-python = ">={DIGITS}"'), "requires-python: "),
    (put('"demo-native"', f'"demo-native>={DIGITS}"'), "project.dependencies[1]: "),
    (put("plots =", "graphs ="), "there is no extra 'plots'; known here: graphs"),
    (put("dependencies = [", "dependencies = 1 # ["), "expected a list of strings"),
    *(
        (
            lambda text, source=source: f"{text}\n[tool.uv.sources]\nDemo_Leaf = {source}\n",
            f"tool.uv.sources.demo-leaf: dependency-groups.base has it from {kinds}, which is not "
            "read here; bind demo-leaf to an index under [python.indexes], or list it under "
            "[[python.local]], in images/demo.toml",
        )
        for source, kinds in (
            ("{ workspace = true }", "workspace"),
            ('[{ git = "x", marker = "a" }, { index = "i" }]', "git and index"),
        )
    ),
]
WHOLE = 'pyproject = { path = "pyproject.toml", extras = ["plots"], groups = ["serve"] }\n'


@pytest.mark.parametrize(
    ("name", "text", "change", "message"),
    [
        *(("uv.lock", INPUTS["uv"], *row) for row in UV),
        *(("pylock.toml", INPUTS["pylock"], *row) for row in PYLOCK),
        *(("pyproject.toml", WHOLE, *row) for row in PROJECT),
    ],
)
def test_an_invalid_file_is_refused_by_its_field(
    root: Path, name: str, text: str, change: Change, message: str
) -> None:
    read(root, text)
    (root / name).write_text(change((root / name).read_text()))
    where, problems = refused(root, text)
    assert where == name
    assert any(message in problem for problem in problems), problems


def test_what_a_project_has_from_elsewhere_may_be_bound_or_count_for_nothing(root: Path) -> None:
    path = root / "pyproject.toml"
    sources = 'demo-leaf = { index = "company" }\ndemo-win = { path = "x" }\n'
    path.write_text(f"{path.read_text()}\n[tool.uv.sources]\n{sources}")
    spec = read(root, f'{WHOLE}[python.indexes]\ndemo-leaf = "company"\n')
    assert "demo-leaf" in spec.requirements


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('lock = { path = "poetry.lock" }\n', "python.lock.path: expected a uv.lock or pylock"),
        ('lock = { path = "../uv.lock" }\n', "'../uv.lock' is outside the checkout"),
        ('lock = { path = "gone/uv.lock" }\n', "there is no file 'gone/uv.lock'"),
        ('lock = { path = "uv.lock", project = "x" }\n', "no project 'x'; known here: score"),
        ('lock = { path = "uv.lock", groups = ["x"] }\n', "no group 'x'; known here: base, serve"),
        ('lock = { path = "uv.lock", extras = ["x"] }\n', "no extra 'x'; known here: plots"),
        ('lock = { path = "pylock.toml", extras = ["x"] }\n', "Undeclared extras: x"),
        ('lock = { path = "pylock.toml", project = "x" }\n', "a pylock.toml has no projects"),
        ('lock = { paht = "uv.lock" }\n', "python.lock.paht: unknown field"),
        ('lock = "uv.lock"\n', "python.lock: expected a table"),
        ("requirements-file = 1\n", "python.requirements-file: expected a string"),
        ('pyproject = { path = "x", dependencies = 1 }\n', "expected true or false"),
        ("", "python.requirements: missing"),
    ],
)
def test_what_a_specification_names_wrongly_is_refused(root: Path, text: str, message: str) -> None:
    _, problems = refused(root, text)
    assert any(message in problem for problem in problems), problems


def test_groups_that_fan_out_are_read_once(root: Path) -> None:
    lines = [
        f'g{n} = [{{ include-group = "g{n + 1}" }}, {{ include-group = "g{n + 1}" }}]'
        for n in range(60)
    ]
    text = "[dependency-groups]\n" + "\n".join([*lines, 'g60 = ["x"]']) + "\n"
    (root / "pyproject.toml").write_text(text)
    asked = 'pyproject = { path = "pyproject.toml", dependencies = false, groups = ["g0"] }\n'
    assert read(root, asked).requirements == ("x",)


def test_markers_without_end_are_refused(root: Path) -> None:
    nested = "(" * 20_000 + "os_name == 'posix'" + ")" * 20_000
    (root / "a.txt").write_text(f"x; {nested}\n")
    where, problems = refused(root, 'requirements-file = "a.txt"\n')
    assert where == "a.txt"
    assert problems[0].startswith("line 1: not a PEP 508 requirement: ")
    assert len(problems[0]) < 200


@pytest.mark.parametrize(
    "wrong", [f"===foo --hash=sha256:{'0' * 64}", f"=={DIGITS}", f"==1!{DIGITS}", f">={DIGITS}"]
)
def test_a_requirement_of_what_is_not_a_version_is_refused_by_its_line(
    root: Path, wrong: str
) -> None:
    (root / "a.txt").write_text(f"x\ndemo-app{wrong}\n")
    where, problems = refused(root, 'requirements-file = "a.txt"\n')
    assert where == "a.txt"
    assert [problem.partition(":")[0] for problem in problems] == ["line 2"]


def test_a_requirement_of_a_version_without_end_is_refused_by_its_field(root: Path) -> None:
    with pytest.raises(SpecError, match=r"python.requirements\[0\]: not a PEP 508 requirement"):
        read(root, f'requirements = ["demo-app=={DIGITS}"]\n')


UNDECIDED = (
    "'x' in '3.8'",
    "platform_release >= '5'",
    "python_full_version >= '3.7.5'",
    "implementation_version < '3.7.16'",
    # The first and the last release agree, and those between do not.
    "python_full_version == '3.7.5'",
    "python_full_version > '3.7.5' and python_full_version < '3.7.7'",
)


@pytest.mark.parametrize("marker", UNDECIDED)
def test_a_marker_that_the_target_does_not_decide_is_refused_by_its_place(
    root: Path, marker: str
) -> None:
    """Else the machine would that locks: its Python's patch level, its kernel."""
    line = f"demo-app; {marker}"
    places = {
        "a.txt": ("line 2", 'requirements-file = "a.txt"\n', f"demo-leaf\n{line}\n"),
        "b.txt": ("line 1", 'requirements = []\nconstraints-file = "b.txt"\n', line),
        "p.toml": (
            "project.dependencies[0]",
            'pyproject = { path = "p.toml" }\n',
            f'[project]\nname = "p"\ndependencies = ["{line}"]\n',
        ),
        "images/demo.toml": ("python.requirements[1]", f'requirements = ["a", "{line}"]\n', ""),
    }
    for file, (at, python, text) in places.items():
        if text:
            (root / file).write_text(text)
        where, problems = refused(root, python)
        assert where == file
        assert [problem.partition(": ")[0] for problem in problems] == [at]
        assert "the target does not decide it" in problems[0]


def test_a_release_that_nobody_runs_does_not_decide(root: Path) -> None:
    # As `poetry export` writes every line of a project whose Python is ">=3.7.1".
    (root / "a.txt").write_text(
        'a==1 ; python_full_version >= "3.7.1" and python_version < "4.0"\n'
    )
    (found,) = read(root, 'requirements-file = "a.txt"\n').requirements
    assert found.startswith("a==1")


def test_a_marker_about_a_machine_that_something_else_excludes_is_decided(root: Path) -> None:
    text = "a; sys_platform == 'darwin' and '17' in platform_version\nb\n"
    (root / "a.txt").write_text(text)
    assert read(root, 'requirements-file = "a.txt"\n').requirements == ("b",)


def test_a_marker_that_a_base_s_release_decides_counts(root: Path) -> None:
    (root / "a.txt").write_text(
        "a; python_full_version >= '3.7.5'\nb; python_full_version >= '3.7.10'\n"
        "c; implementation_version < '3.7.10'\n"
    )
    text = 'requirements-file = "a.txt"\n'
    assert read(root, text, release="3.7.9").requirements == ("a", "c")
    lines = "requirements = [\"a; python_full_version >= '3.7.5'\"]\n"
    assert read(root, lines, release="3.7.9").requirements == ("a; python_full_version >= '3.7.5'",)


@pytest.mark.parametrize("kind", ["uv", "pylock", "pyproject"])
@pytest.mark.parametrize(
    ("wanted", "release", "fits"),
    [
        *((">=3.7.1", one, True) for one in ("", "3.7.9")),
        *((">=3.7.50", one, one == "") for one in ("", "3.7.9")),
        *(("<=3.7.9", one, one == "3.7.9") for one in ("", "3.7.9")),
        ("==3.7.*", "3.7.9", True),
    ],
)
def test_requires_python_is_judged_by_the_releases_of_the_bases(
    root: Path, kind: str, wanted: str, release: str, fits: bool
) -> None:
    path = root / INPUTS[kind].partition('"')[2].partition('"')[0]
    path.write_text(path.read_text().replace(">=3.7", wanted, 1))
    if fits:
        assert read(root, INPUTS[kind], release=release).requirements
        return
    with pytest.raises(SpecError) as raised:
        read(root, INPUTS[kind], release=release)
    (problem,) = raised.value.problems
    assert problem.path.endswith("requires-python")
    assert problem.message == f"{wanted!r}, and the image has Python {release or '3.7'}"


OWN = """\
[project]
name = "Score"
version = "1.0"
dependencies = ["demo-app", "score[fast]", "score"]
[project.optional-dependencies]
plots = ["demo-plot"]
fast = ["demo-speed"]
old = ["demo-old"]
most = ["score[old]; python_version < '3.6'", "score[plots]==1.*"]
[dependency-groups]
serve = ["score[plots]", "demo-serve"]
all = ["SCORE[most]"]
"""


def test_a_project_that_names_itself_gets_its_own_extras_and_is_not_asked_for(root: Path) -> None:
    (root / "own.toml").write_text(OWN)

    def meant(more: str) -> tuple[str, ...]:
        return read(root, f'pyproject = {{ path = "own.toml", {more} }}\n').requirements

    assert meant("extras = []") == ("demo-app", "demo-speed")
    alone = "dependencies = false, "
    # A group that names the project brings what it depends on.
    whole = ("demo-app", "demo-plot", "demo-serve", "demo-speed")
    assert meant(alone + 'groups = ["serve"]') == whole
    # The marker of an extra's own reference counts; a version that it is at does no harm.
    assert meant(alone + 'groups = ["all"]') == ("demo-app", "demo-plot", "demo-speed")
    assert meant(alone + 'extras = ["most"]') == ("demo-plot",)


def test_what_only_a_build_could_tell_matters_where_it_is_asked_for(root: Path) -> None:
    path = root / "own.toml"
    path.write_text(
        '[project]\nname = "score"\ndynamic = ["version", "optional-dependencies"]\n'
        'dependencies = ["demo-app"]\n[dependency-groups]\nserve = ["demo-serve"]\n'
    )
    assert read(root, 'pyproject = { path = "own.toml" }\n').requirements == ("demo-app",)
    message = "project.dynamic: only a build could tell the optional-dependencies; list them"
    extra = 'pyproject = { path = "own.toml", extras = ["x"] }\n'
    assert refused(root, extra) == ("own.toml", [message])
    path.write_text(path.read_text().replace('"optional-', '"'))
    group = 'pyproject = { path = "own.toml", dependencies = false, groups = ["serve"] }\n'
    assert read(root, group).requirements == ("demo-serve",)


def test_an_own_project_without_the_standard_s_table_is_not_asked_for(root: Path) -> None:
    (root / "own.toml").write_text(
        '[tool.poetry]\nname = "score"\n[dependency-groups]\nserve = ["score[plots]", "a"]\n'
    )
    text = 'pyproject = { path = "own.toml", dependencies = false, groups = ["serve"] }\n'
    assert "there is no extra 'plots'" in refused(root, text)[1][0]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("score[plots]>=2", "dependency-groups.serve: it asks for score[plots]>=2, and is itself"),
        ("score[nope]", "dependency-groups.serve: there is no extra 'nope'; known here: fast"),
        ("score[plots]; platform_release >= '5'", "serve: the target does not decide it"),
        ("score[plots] @ https://there/x.whl", "serve: a URL has no place in a lock"),
    ],
)
def test_an_own_reference_that_cannot_hold_is_refused(root: Path, named: str, message: str) -> None:
    (root / "own.toml").write_text(OWN.replace('"score[plots]", ', f'"{named}", '))
    _, problems = refused(root, 'pyproject = { path = "own.toml", groups = ["serve"] }\n')
    assert message in problems[0]


@pytest.mark.parametrize("source", ["virtual", "editable"])
def test_a_uv_lock_whose_group_names_an_own_extra_is_followed(root: Path, source: str) -> None:
    path = root / "uv.lock"
    text = path.read_text().replace('{ virtual = "." }', f'{{ {source} = "." }}')
    # As uv writes it for the group `serve = ["score[plots]"]`.
    path.write_text(
        text.replace("serve = [\n", 'serve = [\n{ name = "score", extra = ["plots"] },\n')
    )
    spec = read(root, 'lock = { path = "uv.lock", groups = ["serve"] }\n')
    assert {"demo-plot==1.0", "demo-speed==1.0", "demo-serve==1.5"} <= {*spec.requirements}
    assert "score" not in spec.pins
    # Another member of a workspace is no release, and is one's own.
    member = '[[package]]\nname = "member"\nversion = "1"\nsource = { editable = "m" }\n'
    path.write_text(text.replace("serve = [\n", 'serve = [\n{ name = "member" },\n') + member)
    _, problems = refused(
        root, 'lock = { path = "uv.lock", project = "score", groups = ["serve"] }'
    )
    assert "(member): its source is editable; only releases can be pinned" in problems[0]
    assert "[[python.local]]" in problems[0]


def test_a_version_is_pinned_in_its_normal_form(root: Path) -> None:
    path = root / "uv.lock"
    path.write_text(path.read_text().replace('version = "2.0"', 'version = "v2.0-POST1"', 1))
    path.write_text(path.read_text().replace("demo_app-2.0-", "demo_app-2.0.post1-"))
    spec = read(root, INPUTS["uv"])
    assert "demo-app==2.0.post1" in spec.requirements
    assert spec.pins["demo-app"].names == ("demo_app-2.0.post1-py3-none-any.whl",)


def test_versions_that_differ_in_zeros_alone_are_one(root: Path) -> None:
    path = root / "uv.lock"
    path.write_text(path.read_text().replace("demo_app-2.0-py3", "demo_app-2-py3"))
    digest = "29a5a1571b617ef09509dd1422011e1bf51fbf46cca0a5ab1a47320faf0aaa2b"
    (root / "a.txt").write_text(f"demo-app==2.0.0 --hash=sha256:{digest}\n")
    pin = read(root, 'requirements-file = "a.txt"\n' + INPUTS["uv"]).pins["demo-app"]
    assert pin.allows("2", digest)
    assert not pin.allows("2.0.1", digest)


def test_files_whose_urls_are_encoded_and_sdists_of_every_kind_are_read(root: Path) -> None:
    path = root / "uv.lock"
    text = path.read_text().replace('version = "2.0"', 'version = "2.0+cpu"', 1)
    text = text.replace(
        "demo_app-2.0-py3-none-any.whl", "demo_app-2.0%2Bcpu-py3-none-any.whl?a=b/c"
    )
    sdist = f'sdist = {{ path = "../there/demo-app-2.0+cpu.tar.bz2", {HASH} }}'
    path.write_text(text.replace("\nwheels =", f"\n{sdist}\nwheels =", 1))
    pin = read(root, INPUTS["uv"]).pins["demo-app"]
    assert pin.names == ("demo_app-2.0+cpu-py3-none-any.whl", "demo-app-2.0+cpu.tar.bz2")
    assert pin.version == "2.0+cpu"


def test_many_dependencies_on_a_name_with_many_entries_are_read_in_time(root: Path) -> None:
    sources = "".join(
        f'[[package]]\nname = "a"\nversion = "1"\nsource = {{ git = "{n}" }}\n'
        for n in range(MAX_PACKAGES - 2)
    )
    needs = '{ name = "a", version = "1" },\n' * 40_000
    (root / "uv.lock").write_text(
        'version = 1\n[[package]]\nname = "score"\nsource = { virtual = "." }\n'
        f"dependencies = [\n{needs}]\n{sources}"
    )
    began = time.process_time()
    _, problems = refused(root, INPUTS["uv"])
    # Seconds, most of them tomli's; of 200 million comparisons it would be minutes.
    assert time.process_time() - began < 10
    assert len(problems) == 40_000
    assert problems[0].endswith("needs a, of which there is more than one package")


def test_a_pylock_whose_versions_hang_on_the_patch_level_is_refused(root: Path) -> None:
    path = root / "pylock.toml"
    text = path.read_text()
    entry = text[text.index("[[packages]]") : text.index("[[packages]]", text.index("demo_app"))]
    marked = entry.replace(
        'version = "2.0"', 'version = "2.0"\nmarker = "python_full_version < \'3.7.9\'"'
    )
    other = marked.replace("<", ">=").replace("2.0", "2.1")
    path.write_text(text.replace(entry, marked + other))
    _, problems = refused(root, INPUTS["pylock"])
    assert problems == ["packages: only the patch level of Python decides on demo-app"]
