"""The catalogue site in headless Chromium: what a reader sees, finds and can reach."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import build
from plinth.core.report import quiet
from plinth.formats.oci.layout import editing, entry_name, read_index
from plinth.graph.workspace import Workspace
from plinth.publish.site.text import LANGUAGES, TAGS, words
from plinth.publish.site.write import make_site
from support import needs
from support.forge import IDENTITY, link_tree
from support.published import Published

SCRIPTS = Path(__file__).resolve().parents[1] / "third_party"
CHROMIUM = Path("/usr/bin/chromium")
SHOWN = ("minimal", "onnxruntime-1.6", "sklearn-0.24.1", "xgboost-0.9")
"""Small images of the catalogue: two of them signed, with two versions of pandas."""


@pytest.fixture(scope="module")
def ws(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A layout with the images shown, and what is attached to them."""
    ready = build(*SHOWN).ws
    found = Workspace(ready.root, tmp_path_factory.mktemp("site") / "build")
    for name in ("oci", "cache/actions", "cache/blobs"):
        link_tree(ready.build / name, found.build / name)
    # What is attached has no name.
    signed = [e for e in read_index(published.ws.layout)["manifests"] if entry_name(e) is None]
    for blob in published.ws.layout.blobs.iterdir():
        if not (found.layout.blobs / blob.name).exists():
            os.link(blob, found.layout.blobs / blob.name)
    with editing(found.layout) as entries:
        entries[:] = [*(e for e in entries if entry_name(e) in SHOWN), *signed]
    return found


@pytest.fixture(scope="module")
def policy(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(
        f'identity = "{IDENTITY}"\nissuer = "{published.issuer}"\n'
        f'trusted-root = "{published.root}"\n'
    )
    return path


@pytest.fixture(scope="module")
def folder(ws: Workspace, policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, verified on the way."""
    out = tmp_path_factory.mktemp("site") / "site"
    make_site(ws, out, policy=str(policy), progress=quiet)
    return out


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        pass


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Seen:
    """What the browser saw, as `site.cjs` tells it."""

    document: dict[str, Any]
    address: str
    folder: Path

    def __getitem__(self, key: str) -> Any:
        return self.document[key]


@pytest.fixture(scope="module")
def seen(address: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    needs.program("npm")
    if not CHROMIUM.exists():
        needs.skip("chromium")
    work = tmp_path_factory.mktemp("browser")
    scripts = work / "third_party"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=scripts, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    command = ["node", "site.cjs", address, str(folder), str(work / "profile")]
    done = subprocess.run(command, cwd=scripts, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return Seen(json.loads(done.stdout), address, folder)


def test_the_site_is_the_same_when_made_again(
    ws: Workspace, policy: Path, folder: Path, tmp_path: Path
) -> None:
    make_site(ws, tmp_path / "again", policy=str(policy), progress=quiet)
    first, second = ((at / "site.json").read_bytes() for at in (folder, tmp_path / "again"))
    assert first == second
    for path in (tmp_path / "again").rglob("*.html"):
        assert str(ws.root) not in path.read_text(encoding="utf-8")


def test_signatures_are_shown_as_they_were_found(folder: Path) -> None:
    w = words("en")
    expected = dict.fromkeys(SHOWN, "state-unsigned")
    expected |= {"minimal": "state-verified", "sklearn-0.24.1": "state-verified"}
    for image, state in expected.items():
        page = (folder / "images" / f"{image}.html").read_text(encoding="utf-8")
        assert f">{w(state)}</span>" in page, image
    bundles = {path.name for path in (folder / "files").glob("minimal.*")}
    assert {name.split(".")[1].partition("-")[2] for name in bundles} == {
        "",
        "provenance",
        "sbom",
        "signature",
    }


def test_somebody_elses_signatures_are_rejected(
    ws: Workspace, published: Published, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'identity = "you@example.org"\nissuer = "{published.issuer}"\n'
        f'trusted-root = "{published.root}"\n'
    )
    make_site(ws, tmp_path / "site", policy=str(policy), progress=quiet)
    page = (tmp_path / "site" / "images" / "minimal.html").read_text(encoding="utf-8")
    assert words("en")("state-rejected") in page
    assert words("en")("state-verified") not in page
    assert "signed provenance" in page


@pytest.mark.network
def test_the_console_is_silent_and_nobody_else_is_asked(seen: Seen) -> None:
    assert seen["console"] == []
    allowed = (seen.address, seen.folder.as_uri())
    assert [url for url in seen["requests"] if not url.startswith(allowed)] == []
    assert len(seen["requests"]) > 50


@pytest.mark.network
def test_search_finds_which_images_hold_a_package(seen: Seen) -> None:
    asked = seen["search"]["asked"]
    newer = [["pandas", "1.1.5", "onnxruntime-1.6, sklearn-0.24.1"]]
    assert asked["pandas 1.1.5"] == {"rows": newer, "status": "Packages found: 1"}
    assert asked["which images hold pandas 1.1.5?"]["rows"] == newer
    assert asked["pandas==0.25.1"]["rows"] == [["pandas", "0.25.1", "xgboost-0.9"]]
    for question in ("pandas 9.9", "pandas 1.1.50", "no-such-package"):
        assert asked[question] == {"rows": [], "status": "No image holds that."}
    assert asked[""] == {"rows": [], "status": ""}
    names = [row[0] for row in asked["lib"]["rows"]]
    assert names[0].startswith("lib")
    assert all("lib" in name for name in names)


@pytest.mark.network
def test_a_search_has_an_address_and_its_results_are_links(seen: Seen) -> None:
    search = seen["search"]
    assert search["hash"] == "#q=pandas+1.1.5"
    assert search["reloaded"] == search["asked"]["pandas 1.1.5"]["rows"]
    assert search["followed"]["url"] == f"{seen.address}images/onnxruntime-1.6.html"
    assert search["followed"]["heading"] == "onnxruntime-1.6"
    assert search["back"] == f"{seen.address}index.html"


@pytest.mark.network
def test_languages_lead_to_the_same_page(seen: Seen) -> None:
    here = "images/sklearn-0.24.1.html"
    for language in LANGUAGES:
        found, w = seen["languages"][TAGS[language]], words(language)
        assert found["url"] == seen.address + ("" if language == "en" else f"{language}/") + here
        assert found["lang"] == TAGS[language]
        assert found["current"] == w("language")
        assert w("layers") in found["headings"]
        assert w("deploy") in found["headings"]


@pytest.mark.network
def test_two_images_are_compared(seen: Seen) -> None:
    compare = seen["compare"]
    assert compare["chosen"] == ["sklearn-0.24.1", "minimal"]
    rows = {name: (before, after) for name, before, after in compare["rows"]}
    assert rows["pandas"] == ("0.25.1", "1.1.5")
    assert rows["scikit-learn"] == ("0.23.2", "0.24.1")
    assert rows["xgboost"] == ("0.90", "-")
    assert "flask" not in rows
    assert compare["status"].startswith("Size ")
    assert f"Packages that differ: {len(rows)}" in compare["status"]
    assert compare["command"] == "plinth diff xgboost-0.9 sklearn-0.24.1"
    same = {"rows": [], "status": "Every package and every layer is the same."}
    assert compare["same"] == same
    assert compare["skipped"] == ["sklearn-0.24.1", "sklearn-0.24.1"]


@pytest.mark.network
def test_the_keyboard_reaches_the_search(seen: Seen) -> None:
    keyboard = seen["keyboard"]
    assert keyboard["first"] == "skip"
    assert keyboard["main"] == "main"
    assert keyboard["field"] == {"id": "q", "outline": "solid"}
    assert keyboard["rows"] == [["scikit-learn", "0.24.1", "sklearn-0.24.1"]]
    assert keyboard["skipped"] == "scikit-learn 0.24"


@pytest.mark.network
def test_narrow_screens_do_not_scroll_sideways(seen: Seen) -> None:
    assert len(seen["overflow"]) == 8
    assert {page: by for page, by in seen["overflow"].items() if by > 0} == {}


@pytest.mark.network
def test_axe_finds_nothing_on_any_kind_of_page(seen: Seen) -> None:
    assert len(seen["axe"]) == 11
    for page, found in seen["axe"].items():
        assert found["violations"] == [], page
        assert found["checked"] > 30, page


@pytest.mark.network
def test_the_site_works_from_a_folder_and_reads_without_scripts(seen: Seen) -> None:
    assert seen["folder"] == [["pandas", "1.1.5", "onnxruntime-1.6, sklearn-0.24.1"]]
    assert seen["styled"] == "solid"
    assert seen["plain"]["form"] is False
    for image in SHOWN:
        assert image in seen["plain"]["text"]
    assert words("en")("needs-script") in seen["plain"]["text"]
