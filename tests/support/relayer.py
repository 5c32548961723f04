"""An image whose layers somebody changed who holds the key: written by plinth's own writers, and
signed with a provenance and an SBOM that agree with it in all they can."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

from plinth.core.digest import Digest
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.evidence.sbom.make import make_sbom
from plinth.evidence.statement import PROVENANCE, SBOM
from plinth.formats.debian.deb import File
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer.header import Owner
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import TITLE
from plinth.inspect.contents.layer import read_layer
from plinth.recipe.recipe import Recipe
from support.forge import Copy, Forger, Json, payload
from support.layer_files import write_layer
from support.small_checkout import SmallCheckout

Files = dict[str, File]
_KINDS = {"directory": "directory", "symlink": "symlink", "file": "file"}


@dataclass
class Image:
    """The image in `copy` with its layers as files, bottom first: title and files of each that was
    changed, title and descriptor of the others."""

    copy: Copy
    titles: list[str] = field(default_factory=list)
    blobs: list[tuple[Json, str]] = field(default_factory=list)

    @classmethod
    def of(cls, copy: Copy) -> Image:
        manifest, config = copy.manifest(), copy.config()
        layers = manifest["layers"]
        return cls(
            copy,
            [one["annotations"][TITLE] for one in layers],
            list(zip(layers, config["rootfs"]["diff_ids"], strict=True)),
        )

    def number(self, title: str) -> int:
        return next(n for n, one in enumerate(self.titles) if one.startswith(title))

    def files(self, number: int) -> Files:
        path = self.copy.root / self.copy.path(self.blobs[number][0]["digest"])
        with gunzipped_tar(path) as entries:
            return {
                member.path: File(
                    member.path,
                    _KINDS[member.kind],
                    member.mode,
                    Owner(member.uid, member.gid),
                    b"".join(content),
                    member.target,
                )
                for member, content in entries
            }

    def edit(self, title: str, change: Callable[[Files], Files]) -> None:
        """Change the files of a layer."""
        number = self.number(title)
        self.blobs[number] = self._written(self.titles[number], change(self.files(number)))

    def add(self, number: int, title: str, files: Files) -> None:
        """Put a layer more at that place."""
        self.titles.insert(number, title)
        self.blobs.insert(number, self._written(title, files))

    def remove(self, title: str) -> None:
        number = self.number(title)
        del self.titles[number], self.blobs[number]

    def swap(self, one: str, other: str) -> None:
        a, b = self.number(one), self.number(other)
        self.titles[a], self.titles[b] = self.titles[b], self.titles[a]
        self.blobs[a], self.blobs[b] = self.blobs[b], self.blobs[a]

    def _written(self, title: str, files: Files) -> tuple[Json, str]:
        layer = write_layer(self.copy.store.root, title, files)
        return json.loads(json.dumps(layer.descriptor.to_json())), f"sha256:{layer.diff_id}"

    def sign(self, forger: Forger, checkout: SmallCheckout) -> None:
        """Let the copy be this image, with statements about it that agree with it."""
        copy = self.copy
        predicates = {kind: payload(b)["predicate"] for kind, b in copy.bundles().items()}
        manifest, config = copy.manifest(), copy.config()
        manifest["layers"] = [descriptor for descriptor, _ in self.blobs]
        config["rootfs"]["diff_ids"] = [diff_id for _, diff_id in self.blobs]
        created = config["created"]
        config["history"] = [
            {"created": created, "created_by": f"plinth: {title}"} for title in self.titles
        ]
        copy.become(manifest, config)
        data = copy.store.get(copy.digest)
        entry = predicates[PROVENANCE]["runDetails"]["byproducts"][0]
        entry["content"] = base64.b64encode(data).decode()
        entry["digest"]["sha256"] = Digest.of(data).hex
        predicates[SBOM] = self._sbom(data, checkout)
        copy.attach({kind: forger.state(copy, kind, one) for kind, one in predicates.items()})

    def _sbom(self, data: bytes, checkout: SmallCheckout) -> Json:
        """The SBOM that plinth would make if it compared nothing."""
        manifest = parse_manifest(data)
        recipe = Recipe.load(checkout.ws, self.copy.name)
        paths = [self.copy.store.path(layer.digest) for layer in manifest.layers]
        contents = [
            read_layer(lambda path=path: path.open("rb"), layer.digest)  # type: ignore[misc]
            for path, layer in zip(paths, manifest.layers, strict=True)
        ]
        with mock.patch("plinth.evidence.sbom.make.compare", return_value=[]):
            made: Json = json.loads(make_sbom(SbomInputs(manifest, contents, recipe)))
        return made
