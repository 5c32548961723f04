"""Writing the site: whole, over another site, over nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import PlinthError
from plinth.publish.site.model import Site
from plinth.publish.site.render import render
from plinth.publish.site.write import write_site


def found(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_site_replaces_the_one_before(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "site"
    write_site(render(site), out)
    assert found(out) == render(site)
    smaller = render(Site(site.images[:1]))
    write_site(smaller, out)
    assert found(out) == smaller
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_an_empty_folder_is_taken(site: Site, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    write_site(render(site), tmp_path / "site")
    assert (tmp_path / "site" / "index.html").is_file()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_else_is_replaced(site: Site, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "mine"
    mine = out
    if kind == "folder":
        out.mkdir()
        mine = out / "thesis.txt"
    mine.write_text("years of work")
    with pytest.raises(PlinthError, match="this is no site"):
        write_site(render(site), out)
    assert mine.read_text() == "years of work"
