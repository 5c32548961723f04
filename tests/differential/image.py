"""A small image, signed for real, of which one level is changed and all that names it put in order.

Levels, from the inside out: `tar` and `gzip` of one layer, `config`, `manifest` (signed again where
any of them changed), `unsigned` (the manifest that an engine makes), `nested` (an index in the
layout, or a registry's), `index`, `marker` (oci-layout), `listing` (manifest.json), and `archive`,
the outer tar.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import random
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from differential.tars import Member, join, member, pack, split
from plinth.build.image import build_image
from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import PlinthError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.evidence.choice import Believed
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.evidence.sbom.make import make_sbom
from plinth.evidence.sign import prepare
from plinth.evidence.statement import PROVENANCE, SBOM, statement
from plinth.evidence.verify.bundle import Authentic, BundleVerifier
from plinth.evidence.verify.policy import Signers
from plinth.fetch.sources.layout import blob_name
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import CONFIG, INDEX, MANIFEST
from plinth.inspect.contents.layer import read_layer
from plinth.recipe.built import recipe_of
from plinth.recipe.recipe import Recipe
from support import small_checkout
from support.fake_registry import FakeRegistry, fake_registry
from support.forge import IDENTITY, Copy, Forger, Json, forging, link_tree, payload
from support.sessions import session_of
from support.small_checkout import SmallCheckout, wheel

IMAGE, OTHER = "small", "other"
REF, NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
Change = Callable[[random.Random, Any, Any], Any]
"""What a mutation does to a level: of the value there and the other image's, another one."""

FORMS: Mapping[str, tuple[str, ...]] = {
    "layout": ("index", "nested", "marker", "manifest", "config", "tar", "gzip"),
    "oci-archive": ("index", "nested", "marker", "archive", "tar"),
    "both": ("index", "listing", "archive", "manifest", "config", "tar", "gzip"),
    "save": ("index", "listing", "unsigned", "archive", "tar"),
    "docker-archive": ("listing", "archive", "config", "tar"),
    "registry": ("nested", "manifest", "config"),
}
"""The levels of each form. `both`: a layout with a manifest.json, as `plinth load` and engines with
containerd's store write it; `save`: the same of unpacked layers and another manifest, as other
engines of today write it; `docker-archive`: as engines wrote it up to Docker 24."""


@dataclass(frozen=True)
class Parts:
    """An image: each layer as a tar and as a blob, its config and its manifest."""

    tars: tuple[bytes, ...]
    blobs: tuple[bytes, ...]
    config: bytes
    manifest: bytes

    @classmethod
    def of(cls, copy: Copy) -> Parts:
        """The image in a layout."""
        manifest = copy.manifest()
        blobs = tuple(copy.blob(layer["digest"]) for layer in manifest["layers"])
        config = copy.blob(manifest["config"]["digest"])
        tars = tuple(map(gzip.decompress, blobs))
        return cls(tars, blobs, config, copy.blob(copy.digest.oci))


@dataclass(frozen=True)
class Made:
    """A written image: `reference` is for plinth, `path` where it is, `name` what it was asked for
    (empty: the only one), `names` all by which engines may run it; `layout` is a folder of the same
    layout, where there is one, and `bundles` what a verifier is given by hand."""

    form: str
    reference: str
    path: Path
    name: str
    names: tuple[str, ...]
    bundles: tuple[tuple[str, bytes], ...] = ()
    signed: bool = True


def wicked(parts: Parts) -> Parts:
    """The image with a config that starts something else."""
    config = json.loads(parts.config)
    config["config"] |= {"User": "0", "Entrypoint": ["/evil"], "Cmd": ["evil"], "WorkingDir": "/"}
    config["config"]["Env"] = ["PATH=/evil"]
    data, manifest = canonical_json(config), json.loads(parts.manifest)
    manifest["config"] |= descriptor(CONFIG, data)
    return replace(parts, config=data, manifest=canonical_json(manifest))


def descriptor(media_type: str, data: bytes, **more: Any) -> Json:
    """The descriptor of a blob."""
    return {"mediaType": media_type, "digest": Digest.of(data).oci, "size": len(data), **more}


class Remembering(BundleVerifier):
    """A verifier that verifies nothing again; nor what is `proven` by decree."""

    def __init__(self, believed: Believed, signers: Signers) -> None:
        super().__init__(believed, signers)
        self.proven: dict[bytes, Authentic] = {}

    def verify(self, raw: bytes, where: str) -> Authentic:
        """See `BundleVerifier`."""
        return self.proven.get(raw) or super().verify(raw, where)


@dataclass(frozen=True)
class Workshop:
    """What mutants are made of: two signed images, their checkout and their signer, a registry."""

    checkout: SmallCheckout
    forger: Forger
    host: str
    held: FakeRegistry
    ours: Parts
    other: Parts
    predicates: Mapping[str, Json]
    bundles: Mapping[str, bytes]
    recipe: Recipe
    verifier: Remembering

    @property
    def title(self) -> str:
        """The name that the image is published as."""
        return str(json.loads(self.ours.manifest)["annotations"]["org.opencontainers.image.title"])

    def make(
        self,
        folder: Path,
        form: str,
        changes: Mapping[str, Change],
        rng: random.Random,
        *,
        sign: bool = True,
    ) -> Made:
        """The image in `folder`, in a form, with levels of it changed; unless `sign`, new bundles
        are not signed, and believed all the same."""

        def changed(level: str, value: Any, other: Any) -> Any:
            # Not every draw changes anything.
            for _ in range(10 if level in changes else 0):
                if (made := changes[level](rng, value, other)) != value:
                    return made
            return value

        parts = self.changed(changed, rng)
        bundles = self.bundles if parts == self.ours else self.stated(parts, sign=sign)
        if form == "registry":
            nested = "nested" in changes
            made = self.pushed(folder.name, parts, bundles, changed, rng, nested=nested)
            return replace(made, signed=sign or parts == self.ours)
        copy = Copy(folder / "oci", IMAGE)
        link_tree(self.checkout.ws.layout.root, copy.root)
        alone = rng.random() < 0.5 and "index" not in changes
        self.write(copy, parts, bundles, form, changed, alone=alone)
        index = copy.index()
        evil = {**index, "manifests": [self.evil(copy, entry) for entry in index["manifests"]]}
        if "nested" in changes:
            self.nest(copy, index, evil, changed)
        copy.write("index.json", changed("index", canonical_json(index), canonical_json(evil)))
        copy.write(
            "oci-layout", changed("marker", copy.root.joinpath("oci-layout").read_bytes(), b"{}")
        )
        by_title = f"{self.title}:latest"
        name = by_title if form in ("save", "docker-archive") else IMAGE
        if changes and alone and rng.random() < 0.7:
            name = ""
        path = folder / ("oci" if form == "layout" else "image.tar")
        given = tuple(bundles.items()) if form in ("save", "docker-archive") else ()
        if form != "layout":
            files = self.files(copy, parts, form, changed, canonical_json(evil))
            path.write_bytes(files)
        kind = {"layout": "oci", "docker-archive": "docker-archive"}.get(form, "oci-archive")
        reference = f"{kind}:{path}{f':{name}' if name else ''}"
        names = (by_title, *filter(None, [name]))
        return Made(form, reference, path, name, names, given, sign or parts == self.ours)

    def changed(self, change: Callable[[str, Any, Any], Any], rng: random.Random) -> Parts:
        """The image with its inner levels changed, and their digests in order."""
        tars, blobs = [*self.ours.tars], [*self.ours.blobs]
        number = rng.randrange(len(tars))
        members, other = split(tars[number]), split(rng.choice(self.other.tars))
        made = change("tar", members, other)
        if made is not members:
            tars[number], blobs[number] = join(made), pack(made)
        blobs[number] = change("gzip", blobs[number], tars[number])
        config, manifest = json.loads(self.ours.config), json.loads(self.ours.manifest)
        config["rootfs"]["diff_ids"] = [Digest.of(tar).oci for tar in tars]
        data = change("config", canonical_json(config), self.other.config)
        manifest["config"] |= descriptor(CONFIG, data)
        for layer, blob in zip(manifest["layers"], blobs, strict=True):
            layer |= descriptor(layer["mediaType"], blob)
        signed = change("manifest", canonical_json(manifest), self.other.manifest)
        return Parts(tuple(tars), tuple(blobs), data, signed)

    def stated(self, parts: Parts, *, sign: bool) -> Mapping[str, bytes]:
        """The bundles of a builder with the right key, who signs whatever this is."""
        found = {}
        for kind, predicate in self.claimed(parts).items():
            data = statement(self.title, Digest.of(parts.manifest), kind, predicate)
            if sign:
                found[kind] = self.forger.sign(data)
                continue
            bundle = json.loads(self.bundles[kind])
            bundle["dsseEnvelope"]["payload"] = base64.b64encode(data).decode()
            found[kind] = canonical_json(bundle)
            proven = self.verifier.proven
            proven[found[kind]] = replace(proven[self.bundles[kind]], payload=data)
        return found

    def claimed(self, parts: Parts) -> dict[str, Json]:
        """The predicates, by plinth's own means as far as they go."""
        predicates: dict[str, Json] = json.loads(json.dumps(self.predicates))
        digest = Digest.of(parts.manifest)
        (carried,) = predicates[PROVENANCE]["runDetails"]["byproducts"]
        carried |= {"content": base64.b64encode(parts.manifest).decode()}
        carried["digest"] = {"sha256": digest.hex}
        try:
            if parts.blobs == self.ours.blobs:
                raise PlinthError("the layers are as they were")
            # A builder's plinth would do it: what the layers hold is stated as it is.
            read = parse_manifest(parts.manifest)
            held = [read_layer(partial(io.BytesIO, blob)) for blob in parts.blobs]
            predicates[SBOM] = json.loads(make_sbom(SbomInputs(read, held, self.recipe)))
        except (PlinthError, ValueError, KeyError, AttributeError, TypeError, StopIteration):
            text = json.dumps(predicates[SBOM])
            pairs = zip(self.ours.tars + self.ours.blobs, parts.tars + parts.blobs, strict=True)
            for old, new in pairs:
                text = text.replace(Digest.of(old).hex, Digest.of(new).hex)
            text = text.replace(Digest.of(self.ours.manifest).hex, digest.hex)
            predicates[SBOM] = json.loads(text)
            for one in predicates[SBOM]["metadata"]["component"]["properties"]:
                if one["name"] == "dev.plinth:manifest.bytes":
                    one["value"] = str(digest.size)
            predicates[SBOM]["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, digest.oci).urn
        return predicates

    def write(
        self,
        copy: Copy,
        parts: Parts,
        bundles: Mapping[str, bytes],
        form: str,
        change: Callable[[str, Any, Any], Any],
        *,
        alone: bool,
    ) -> None:
        """Write the layout: with the other image and what is attached to it, or without."""
        for blob in (*parts.blobs, parts.config, self.other.config, self.other.manifest):
            copy.put("", blob)
        manifest = parts.manifest
        if form == "save":
            # Such engines unpack layers, and make a manifest of their own.
            made = json.loads(self.ours.manifest)
            made["config"] = descriptor(CONFIG, parts.config)
            made["layers"] = [copy.put(PLAIN, tar) for tar in parts.tars]
            del made["annotations"]
            manifest = change("unsigned", canonical_json(made), self.other.manifest)
        made = copy.put(MANIFEST, manifest)
        if parts.manifest != self.ours.manifest or form == "save":
            copy.detach()
            copy.edit_entry(digest=made["digest"], size=made["size"])
            copy.attach(bundles)
        if alone:
            entries = [copy.entry(), *copy.attached()]
            copy.write_index({**copy.index(), "manifests": entries})

    def evil(self, copy: Copy, entry: Json) -> Json:
        """An entry of the index, the image's as if it were the other's."""
        if entry["annotations"].get(REF) != IMAGE:
            return entry
        return {**entry, **descriptor(MANIFEST, self.other.manifest)}

    def nest(
        self, copy: Copy, index: Json, evil: Json, change: Callable[[str, Any, Any], Any]
    ) -> None:
        """Let the name be of an index, which lists the image."""
        at = next(n for n, e in enumerate(index["manifests"]) if e["annotations"].get(REF) == IMAGE)
        ours, other = (_index([one["manifests"][at]]) for one in (index, evil))
        data = change("nested", ours, other)
        noted = index["manifests"][at]["annotations"]
        index["manifests"][at] = {**copy.put(INDEX, data), "annotations": noted}

    def files(
        self,
        copy: Copy,
        parts: Parts,
        form: str,
        change: Callable[[str, Any, Any], Any],
        evil: bytes,
    ) -> bytes:
        """The layout in a tar, with a manifest.json where the form has one."""
        found: dict[str, bytes] = {}
        if form != "docker-archive":
            for path in ("oci-layout", "index.json"):
                found[path] = (copy.root / path).read_bytes()
        tag = [f"{self.title}:latest"]
        ours = self.listed(parts, form, found, tag)
        other = self.listed(self.other, form, found, tag)
        if form != "oci-archive":
            found["manifest.json"] = change(
                "listing", canonical_json([ours]), canonical_json([other])
            )
        if form != "docker-archive":
            for blob in sorted((copy.root / "blobs" / "sha256").iterdir()):
                found[f"blobs/sha256/{blob.name}"] = blob.read_bytes()
        tar = [member(name, data) for name, data in found.items()] + [Member(bytes(1024))]
        wicked = [member("index.json", evil), member("manifest.json", canonical_json([other]))]
        return join(change("archive", tar, wicked))

    def listed(self, parts: Parts, form: str, files: dict[str, bytes], tags: list[str]) -> Json:
        """An image in manifest.json, and its blobs among the files."""
        made = {}
        for data in (parts.config, *(parts.blobs if form == "both" else parts.tars)):
            digest = Digest.of(data)
            name = blob_name(digest)
            if form == "docker-archive":
                name = f"{digest.hex}/layer.tar" if data in parts.tars else f"{digest.hex}.json"
            made[name] = data
        files |= made
        config, *layers = made
        return {"Config": config, "RepoTags": tags, "Layers": layers}

    def pushed(
        self,
        repository: str,
        parts: Parts,
        bundles: Mapping[str, bytes],
        change: Callable[[str, Any, Any], Any],
        rng: random.Random,
        *,
        nested: bool,
    ) -> Made:
        """The image in the registry, under a tag, alone or in an index."""
        held, place = self.held, f"{repository}/{IMAGE}"
        for one in (parts, self.other):
            for blob in (*one.blobs, one.config):
                held.put_blob(place, blob)
            held.put(place, MANIFEST, one.manifest)
        empty = b"{}"
        held.put_blob(place, empty)
        listed = []
        for kind, bundle in bundles.items():
            held.put_blob(place, bundle)
            media = "application/vnd.dev.sigstore.bundle.v0.3+json"
            attached: Json = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": media,
                "config": descriptor("application/vnd.oci.empty.v1+json", empty),
                "layers": [descriptor(media, bundle)],
                "subject": descriptor(MANIFEST, parts.manifest),
                "annotations": {
                    "dev.sigstore.bundle.content": "dsse-envelope",
                    "dev.sigstore.bundle.predicateType": kind,
                },
            }
            data = canonical_json(attached)
            held.put(place, MANIFEST, data)
            more = {"artifactType": media, "annotations": attached["annotations"]}
            listed.append(descriptor(MANIFEST, data, **more))
        index: Json = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        held.put(place, INDEX, canonical_json(index), f"sha256-{Digest.of(parts.manifest).hex}")
        tagged, media_type = parts.manifest, MANIFEST
        if nested:
            here = {"platform": {"architecture": "amd64", "os": "linux"}}
            both = (
                _index([descriptor(MANIFEST, one.manifest, **here)]) for one in (parts, self.other)
            )
            tagged, media_type = change("nested", *both), INDEX
        digest = held.put(place, media_type, tagged, "1")
        where = f"{self.host}/{place}" + rng.choice([":1", ":1", f"@{digest}"])
        return Made("registry", where, Path(), "", (where,))

    def emptied(self, made: Made, folder: Path) -> None:
        """Remove a mutant, and forget its bundles."""
        for bundle in self.verifier.proven.keys() - {*self.bundles.values()}:
            del self.verifier.proven[bundle]
        shutil.rmtree(folder, ignore_errors=True)
        if made.form == "registry":
            for store in (self.held.held, self.held.tags):
                store.pop(f"{folder.name}/{IMAGE}", None)


def _index(entries: list[Json]) -> bytes:
    listed = [{k: v for k, v in entry.items() if k != "annotations"} for entry in entries]
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})


@contextlib.contextmanager
def workshop(folder: Path) -> Iterator[Workshop]:
    """Two images, built and signed in `folder`; services run while the block does."""
    made = small_checkout.make(folder / "checkout", images=(OTHER, IMAGE))
    made.seed(debs=True)
    wheels = [wheel(made.wheels, name, "1.0", modules=1, data=64) for name in ("demo", "leaf")]
    made.lock(wheels, IMAGE)
    made.lock([*wheels, wheel(made.wheels, "more", "1.0", modules=1, data=64)], OTHER)
    config = replace(Config(), files={"wheels": str(made.wheels)})
    with forging(folder / "trust") as forger, fake_registry(folder, api=False) as (server, held):
        # The other first, so that the log has a tree when the image comes into it.
        for image in (OTHER, IMAGE):
            build_image(made.ws, image, config=config, jobs=1, progress=quiet)
            copy = Copy(made.ws.layout.root, image)
            prepared = prepare(session_of(made.ws), image, Config())
            copy.attach({kind: forger.sign(data) for kind, data in prepared.statements})
        bundles = copy.bundles()
        predicates = {kind: payload(one)["predicate"] for kind, one in bundles.items()}
        ours, other = Parts.of(copy), Parts.of(Copy(copy.root, OTHER))
        host = server.url.removeprefix("http://")
        recipe = recipe_of(made.ws, references(made.ws.layout)[IMAGE])
        verifier = Remembering(forger.believed, Signers((IDENTITY,), forger.domain.issuer))
        verifier.proven |= {one: verifier.verify(one, kind) for kind, one in bundles.items()}
        parts = (ours, wicked(other), predicates, bundles)
        yield Workshop(made, forger, host, held, *parts, recipe, verifier)
