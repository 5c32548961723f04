"""Files and folders that a person names on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.commands.reference import Named, locked_files, read_bundles
from plinth.core.errors import PlinthError
from plinth.graph.workspace import Workspace


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(PlinthError, match="there is no such file or folder") as raised:
        read_bundles([missing])
    assert raised.value.where == str(missing)


def test_locked_files_come_from_the_folder_named_or_the_checkout(tmp_path: Path) -> None:
    here = Named("oci:x:y", "y", Workspace(tmp_path, tmp_path / "build"))
    found = locked_files("", here)
    assert found is not None and found.root == tmp_path / "build" / "cache"
    assert locked_files("", Named("oci:x:y")) is None
    found = locked_files(str(tmp_path), here)
    assert found is not None and found.root == tmp_path
    with pytest.raises(PlinthError, match="there is no such folder") as raised:
        locked_files(str(tmp_path / "missing"), here)
    assert raised.value.where == str(tmp_path / "missing")
