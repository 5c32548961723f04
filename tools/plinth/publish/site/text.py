"""What pages say in each language: texts, sizes and dates as its readers write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli

DATA = Path(__file__).parent / "data"
LANGUAGES = ("en", "es", "fr", "zh")
"""The languages of the original catalogue; the first is that of pages at the top."""

TAGS = {"en": "en", "es": "es", "fr": "fr", "zh": "zh-Hans"}
"""BCP 47 tags, as `lang` attributes have them."""

_COMMA = ("es", "fr")
_UNITS = {"fr": ("o", "ko", "Mo", "Go")}
_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Words:
    """The texts of one language."""

    language: str
    texts: Mapping[str, str]

    @property
    def tag(self) -> str:
        """The language's BCP 47 tag."""
        return TAGS[self.language]

    def __call__(self, key: str, **values: object) -> str:
        """The text called `key`, filled in; plain text, to be escaped by whoever shows it."""
        return self.texts[key].format(**values) if values else self.texts[key]

    def size(self, size: int) -> str:
        """`size` bytes in decimal units, as registries count."""
        units = _UNITS.get(self.language, ("B", "kB", "MB", "GB"))
        if size < 1000:
            return f"{size}{_SPACE}{units[0]}"
        power = 1
        while size / 1000**power >= 999.95 and power < len(units) - 1:
            power += 1
        text = f"{size / 1000**power:.1f}"
        if self.language in _COMMA:
            text = text.replace(".", ",")
        return f"{text}{_SPACE}{units[power]}"


def read_texts() -> Mapping[str, Mapping[str, str]]:
    """Every text by key and language."""
    found: Mapping[str, Mapping[str, str]] = tomli.loads(
        (DATA / "text.toml").read_text(encoding="utf-8")
    )
    return found


def words(language: str) -> Words:
    """The texts of `language`, one of LANGUAGES."""
    return Words(language, {key: texts[language] for key, texts in read_texts().items()})
