"""The pages: escaped, whole, linked, translated, and the same bytes for the same images."""

from __future__ import annotations

import functools
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from plinth.core.digest import Digest
from plinth.publish.site.model import Checked, Image, Site
from plinth.publish.site.render import downloads, render, state
from plinth.publish.site.text import DATA, LANGUAGES, TAGS, read_texts, words

from .conftest import make_site

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "</title></code></pre></svg><base href=//example.org>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "../../../etc/passwd",
    "line\u2028separator\u2029</script>",
    "&lt;b&gt; & <!-- ",
]
VOID = {"meta", "link", "input"}


@dataclass
class Page(HTMLParser):
    """What a page is made of: each tag with its attributes, in order; and its text."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        """Tags and names of attributes alone."""
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]

    def values(self, name: str) -> list[str]:
        """The values of one attribute."""
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]


def parsed(data: bytes) -> Page:
    page = Page()
    page.feed(data.decode())
    page.close()
    assert page.open == []
    return page


def pages(files: Mapping[str, bytes]) -> Iterator[tuple[str, Page]]:
    return ((path, parsed(data)) for path, data in files.items() if path.endswith(".html"))


@functools.cache
def rendered(said: str = "text") -> Mapping[str, bytes]:
    """The site in which somebody else wrote `said` wherever somebody can."""
    return render(make_site(said))


@pytest.mark.parametrize("said", HOSTILE)
def test_what_packages_say_is_text_and_nothing_else(said: str) -> None:
    """The pages have the very tags and attributes that they have with harmless strings; packages
    sort otherwise."""
    harmless, hostile = dict(pages(rendered())), dict(pages(rendered(said)))
    assert hostile.keys() == harmless.keys()
    for path, page in hostile.items():
        assert sorted(page.structure) == sorted(harmless[path].structure), path
    image = hostile["images/one-1.html"]
    assert said in image.text
    assert not any(value.startswith("javascript:") for value in image.values("href"))


@pytest.mark.parametrize("said", HOSTILE)
def test_no_path_and_no_script_comes_from_what_packages_say(said: str) -> None:
    files = rendered(said)
    assert files.keys() == rendered().keys()
    script = files["assets/data.js"].decode("ascii")
    head, tail = script[: len("const PLINTH = ")], script[len("const PLINTH = ") :]
    assert head == "const PLINTH = "
    assert tail.endswith(";\n")
    assert "\n" not in tail[:-1]
    assert [said, said, "wheel"] in json.loads(tail[:-2])["packages"]


def test_the_script_knows_what_each_image_holds() -> None:
    document = json.loads(rendered()["assets/data.js"][len("const PLINTH = ") : -2])
    first, second, _ = document["images"]
    assert first["id"] == "one-1"
    held = [document["packages"][number] for number in first["packages"]]
    assert ["one", "1.4.2", "wheel"] in held
    assert ["one", "1.10.0", "wheel"] not in held
    assert [document["layers"][n] for n in second["layers"]] == [30_000_000, 1_000, 2_000_000]


def test_equal_images_give_equal_bytes(site: Site) -> None:
    files = render(site)
    assert files == rendered()
    turned = [replace(image, packages=image.packages[::-1]) for image in site.images]
    assert render(Site(tuple(turned))) == files


def test_every_file_is_listed_with_its_digest() -> None:
    files = dict(rendered())
    listed = json.loads(files.pop("site.json"))["files"]
    assert listed == {path: Digest.of(data).oci for path, data in files.items()}


def test_every_link_leads_to_a_file_of_the_site() -> None:
    files = rendered()
    ids = {path: set(page.values("id")) for path, page in pages(files)}
    for path, page in pages(files):
        assert len(page.values("id")) == len(ids[path]), path
        for link in [*page.values("href"), *page.values("src")]:
            parts = urlsplit(link)
            assert not parts.scheme, link
            assert not parts.netloc, link
            folder = posixpath.dirname(path)
            target = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
            target = target if parts.path else path
            assert target in files, (path, link)
            if parts.fragment and "=" not in parts.fragment:
                assert parts.fragment in ids[target], (path, link)
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set(page.values(name)) <= ids[path], (path, name)


def test_pages_obey_their_own_policy() -> None:
    """Nothing inline: the policy would block it in a browser."""
    for path, page in pages(rendered()):
        policies = [a["content"] for t, a in page.tags if "http-equiv" in a]
        assert policies == [
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'"
        ]
        for tag, attributes in page.tags:
            assert tag not in ("style", "iframe", "object"), path
            assert "style" not in attributes, path
            assert not any(name.startswith("on") for name in attributes), path
            assert tag != "script" or "src" in attributes, path


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_there_in_every_language(site: Site, language: str) -> None:
    files = dict(pages(rendered()))
    folder = "" if language == "en" else f"{language}/"
    own = {p for p in files if p.partition("/")[0] == language} if folder else None
    for here in ("index.html", "compare.html", "images/one-1.html", "images/other.html"):
        page = files[folder + here]
        assert page.tags[0] == (
            "html",
            {"lang": TAGS[language], "data-home": "../" * here.count("/")},
        )
        assert page.values("hreflang").count(TAGS[language]) == 2
        assert words(language)("site") in page.text
    assert own is None or own == {
        f"{folder}{here}"
        for here in ("index.html", "compare.html", *(f"images/{i.id}.html" for i in site.images))
    }


def test_every_text_is_there_in_every_language_and_is_used() -> None:
    sources = [*DATA.glob("*.j2"), DATA.parent / "render.py"]
    templates = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    built = {f"{head}{tail}" for head in ("state-", "evidence-") for tail in STATES}
    built |= {"download-signature", "download-provenance", "download-other", "download-sbom"}
    built |= {"download-signed-sbom", "at-a-glance", "from", "to", "os-packages", "python-packages"}
    for key, texts in read_texts().items():
        assert tuple(texts) == LANGUAGES, key
        assert all(text.strip() == text and text for text in texts.values()), key
        fields = {frozenset(re.findall(r"\{(\w+)\}", text)) for text in texts.values()}
        assert len(fields) == 1, key
        assert key in built or f'"{key}"' in templates, key


STATES = ("unsigned", "attached", "verified", "rejected")


def test_what_was_not_verified_is_not_called_so(site: Site) -> None:
    image = site.images[0]
    good = Checked(9, (), ("me@example.org",), "https://issuer.example.org")
    cases = {
        "unsigned": replace(image, attachments=(), checked=None),
        "attached": replace(image, checked=None),
        "verified": replace(image, checked=good),
        "rejected": replace(image, checked=replace(good, failed=("sbom",))),
    }
    assert tuple(cases) == STATES
    for expected, changed in cases.items():
        assert state(changed) == expected
        page = parsed(render(Site((changed,)))["images/one-1.html"])
        for other in STATES:
            assert (words("en")(f"state-{other}") in page.text) is (other == expected), other
        assert ("plinth verify oci:build/oci:one-1 --policy" in page.text) is (
            expected != "unsigned"
        )


def test_downloads_are_the_bytes_that_were_found(site: Site) -> None:
    image: Image = site.images[0]
    files = render(site)
    found = downloads(image)
    assert [(file.path, file.damaged) for file in found] == [
        ("files/one-1.cdx.json", False),
        ("files/one-1.0-other.sigstore.json", False),
        ("files/one-1.1-provenance.sigstore.json", True),
    ]
    assert [files[file.path] for file in found] == [b"{}", b"bundle", b"other"]
    assert "damaged" in parsed(files["images/one-1.html"]).text


def test_sizes_are_written_as_readers_write_them() -> None:
    assert words("en").size(1_500_000) == "1.5\N{NO-BREAK SPACE}MB"
    assert words("fr").size(1_500_000) == "1,5\N{NO-BREAK SPACE}Mo"
    assert words("es").size(2_500) == "2,5\N{NO-BREAK SPACE}kB"
    assert words("zh").size(999) == "999\N{NO-BREAK SPACE}B"
    assert words("en").size(999_960) == "1.0\N{NO-BREAK SPACE}MB"
    assert words("en").size(5_000_000_000_000) == "5000.0\N{NO-BREAK SPACE}GB"
