"""The site as files: every page in every language, its assets, and what can be downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plinth.core.digest import Digest, canonical_json
from plinth.evidence.statement import CALLED
from plinth.publish.site.model import Image, Site
from plinth.publish.site.picture import draw
from plinth.publish.site.text import DATA, LANGUAGES, TAGS, Words, words

MANIFEST = "site.json"
"""Lists every file of a site with its SHA-256; by it a folder is known to be one."""

_ASSETS = ("site.css", "site.js", "icon.svg")
_KEYS = {"signature": "signature", "provenance": "provenance", "sbom": "signed-sbom"}


@dataclass(frozen=True)
class File:
    """Something to download: its path in the site, and what pages say of it."""

    path: str
    data: bytes
    key: str
    kind: str = ""
    damaged: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)


@dataclass(frozen=True)
class Language:
    """A page's other self: tag, own name, address relative to the page."""

    tag: str
    name: str
    href: str


def render(site: Site) -> dict[str, bytes]:
    """Every file of the site by its path, sorted: a function of `site` alone."""
    files = {f"assets/{name}": (DATA / name).read_bytes() for name in _ASSETS}
    files["assets/data.js"] = _data(site)
    for image in site.images:
        files.update((file.path, file.data) for file in downloads(image))
    for language in LANGUAGES:
        files.update((path, text.encode()) for path, text in _pages(site, words(language)))
    files = dict(sorted(files.items()))
    digests = {path: Digest.of(data).oci for path, data in files.items()}
    files[MANIFEST] = canonical_json({"files": digests})
    return files


def state(image: Image) -> str:
    """What is known of an image's signatures: `unsigned`, `attached`, `verified`, `rejected`."""
    if not image.attachments:
        return "unsigned"
    if image.checked is None:
        return "attached"
    return "rejected" if image.checked.failed else "verified"


def downloads(image: Image) -> list[File]:
    """The SBOM and every bundle attached to an image."""
    found = [File(f"files/{image.id}.cdx.json", image.sbom, "sbom")]
    for number, attached in enumerate(image.attachments):
        known = attached.called in CALLED.values()
        # The predicate type of a stranger's bundle is their text: none for a path.
        called = attached.called if known else "other"
        path = f"files/{image.id}.{number}-{called}.sigstore.json"
        key = _KEYS.get(attached.called, "other")
        found.append(File(path, attached.data, key, attached.called, bool(attached.problems)))
    return found


def _data(site: Site) -> bytes:
    """Packages and layers of all images for the script, which may load no JSON from a folder."""
    held = {(p.name, p.version, p.kind) for image in site.images for p in image.packages}
    packages = {package: number for number, package in enumerate(sorted(held))}
    layers = {digest: number for number, digest in enumerate(sorted(site.holders))}
    sizes = {layer.digest: layer.size for image in site.images for layer in image.layers}
    document = {
        "images": [
            {
                "id": image.id,
                "layers": [layers[layer.digest] for layer in image.layers],
                "packages": sorted({packages[p.name, p.version, p.kind] for p in image.packages}),
            }
            for image in site.images
        ],
        "layers": [sizes[digest] for digest in layers],
        "packages": [list(package) for package in packages],
    }
    # ASCII alone: a line separator in a name would end the line for some readers of scripts.
    return f"const PLINTH = {json.dumps(document, separators=(',', ':'))};\n".encode()


def _pages(site: Site, w: Words) -> Iterator[tuple[str, str]]:
    environment = Environment(
        loader=FileSystemLoader(DATA),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(site=site, w=w, state=state)

    def page(template: str, here: str, **values: object) -> tuple[str, str]:
        path = _path(w.language, here)
        root = "../" * path.count("/")
        values |= {"here": here, "root": root, "home": "../" * here.count("/")}
        values["languages"] = [
            Language(TAGS[one], words(one)("language"), root + _path(one, here))
            for one in LANGUAGES
        ]
        return path, environment.get_template(template).render(values)

    yield page("index.html.j2", "index.html", total=sum(image.size for image in site.images))
    units = " ".join(w.size(10 ** (3 * power)).split("\N{NO-BREAK SPACE}")[1] for power in range(4))
    comma = "," if "," in w.size(1000) else ""
    yield page("compare.html.j2", "compare.html", pair=_pair(site), units=units, comma=comma)
    for image in site.images:
        yield page(
            "image.html.j2",
            f"images/{image.id}.html",
            image=image,
            picture=draw(site, image),
            files=downloads(image),
            relatives=_relatives(site, image),
        )


def _path(language: str, here: str) -> str:
    return here if language == LANGUAGES[0] else f"{language}/{here}"


def _relatives(site: Site, image: Image) -> list[Image]:
    """All other images, those of the same framework first."""
    others = [other for other in site.images if other.id != image.id]
    return sorted(others, key=lambda other: (other.framework != image.framework, other.id))


def _pair(site: Site) -> tuple[str, str]:
    """The two images shown compared at first: neighbours of one framework, if there are any."""
    for image in site.images:
        for other in _relatives(site, image)[:1]:
            if other.framework == image.framework:
                return image.id, other.id
    return site.images[0].id, site.images[-1].id
