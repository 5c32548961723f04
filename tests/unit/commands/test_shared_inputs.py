"""What doit takes for the inputs that all images have: their content and their places."""

from __future__ import annotations

from pathlib import Path

from plinth.commands.memory import shared_inputs


def text(root: Path, files: dict[str, str]) -> str:
    paths = []
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        paths.append(path)
    return shared_inputs(root, paths)


def test_content_and_place_count_and_the_checkout_does_not(tmp_path: Path) -> None:
    first = text(tmp_path / "one", {"base/a/f": "x", "base/b/g": "y"})
    assert text(tmp_path / "other", {"base/a/f": "x", "base/b/g": "y"}) == first
    others = [
        {"base/a/f": "z", "base/b/g": "y"},
        {"base/c/f": "x", "base/b/g": "y"},
        {"base/a/f": "x"},
        {"base/a/f": "", "base/b/g": "xy"},
    ]
    found = {text(tmp_path / f"changed-{n}", files) for n, files in enumerate(others)}
    assert len(found) == len(others)
    assert first not in found
