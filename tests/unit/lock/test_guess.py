"""The oldest versions that the resolver is shown at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.fetch.pypi.candidates import Candidate, candidates
from plinth.fetch.pypi.page import IndexFile
from plinth.lock.guess import floors
from plinth.recipe.image import Target

TARGET = Target("3.7", (2, 27), "amd64", ())
# Of each file, by its version, what it needs.
STOCK: Mapping[str, Mapping[str, Sequence[str]]] = {
    "app": {"1.0": ["leaf"], "2.0": ["leaf>=1", "old; python_version < '3.7'"]},
    "leaf": {"1.0": [], "2.0": [], "3.0": []},
    "bounds": {"1.0": ["leaf<3"]},
    "more": {"1.0": ["bounds; extra == 'bounded'"]},
    "early": {"1.0": [], "2.0rc1": []},
    "broken": {"1.0": ["gone"], "2.0": ["gone"]},
    "old": {"1.0": []},
}


class Index:
    """Shows a wheel of each version of `STOCK`, and one sdist."""

    def visible(self, project: str) -> list[Candidate]:
        name = canonicalize_name(project)
        if name == "gone":
            raise FetchError("nothing answers")
        names = [f"{name}-{version}-py3-none-any.whl" for version in STOCK.get(name, ())]
        if name == "source":
            names = ["source-1.0.tar.gz"]
        files = [IndexFile(n, "", Digest.of(n.encode()), "", "", False, "") for n in names]
        return list(candidates(files, TARGET))

    def metadata(self, file: IndexFile) -> bytes:
        name, version = file.name.split("-")[:2]
        lines = [f"Requires-Dist: {need}" for need in STOCK[name][version]]
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        return "\n".join([*head, *lines, ""]).encode()


@pytest.mark.parametrize(
    ("asked", "bounds", "pinned", "wanted"),
    [
        (["app"], [], {}, {"app": "2.0", "leaf": "3.0"}),
        (["app<2"], [], {}, {"app": "1.0", "leaf": "3.0"}),
        # What was chosen first, and what a later requirement leaves.
        (["app", "bounds"], [], {}, {"app": "2.0", "bounds": "1.0", "leaf": "2.0"}),
        (["app"], ["leaf<2", "bounds"], {}, {"app": "2.0", "leaf": "1.0"}),
        (["app"], [], {"app": "1.0"}, {"app": "1.0", "leaf": "3.0"}),
        (["app>1"], [], {"app": "1.0"}, {"app": "2.0", "leaf": "3.0"}),
        (["more"], [], {}, {"more": "1.0"}),
        (["more[bounded]"], [], {}, {"more": "1.0", "bounds": "1.0", "leaf": "2.0"}),
        # Whether a pre-release is chosen depends on what is below.
        (["early"], [], {}, {}),
        (["leaf>3"], [], {}, {}),
        (["Broken"], [], {}, {"broken": "2.0"}),
        (["source"], [], {}, {"source": "1.0"}),
        (["nowhere"], [], {}, {}),
    ],
)
def test_the_floor_of_each_project(
    asked: list[str], bounds: list[str], pinned: dict[str, str], wanted: dict[str, str]
) -> None:
    found = floors(Index(), asked, bounds, pinned, "3.7", sources=True)
    assert {name: str(version) for name, version in found.items()} == wanted


def test_without_sdists_a_source_has_no_floor() -> None:
    assert floors(Index(), ["source", "old"], [], {}, "3.7", sources=False).keys() == {"old"}


def test_a_project_that_is_asked_for_and_cannot_be_listed_is_an_error() -> None:
    with pytest.raises(FetchError, match="nothing answers"):
        floors(Index(), ["gone"], [], {}, "3.7", sources=True)
