"""Assembling an image: config and manifest from layers, byte for byte a function of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.oci.model import CONFIG, MANIFEST, Descriptor


@dataclass(frozen=True)
class Runtime:
    """How a container of the image starts (OCI image-spec, config.md, `config`)."""

    user: str
    working_dir: str
    environment: Mapping[str, str]
    command: Sequence[str]
    ports: Sequence[int]
    stop_signal: str


@dataclass(frozen=True)
class Image:
    """An assembled image: the descriptor of its manifest, its config and its layers."""

    manifest: Descriptor
    config: Digest
    layers: tuple[Layer, ...]


def assemble(
    store: BlobStore,
    layers: Sequence[Layer],
    *,
    architecture: str,
    created: str,
    runtime: Runtime,
    annotations: Mapping[str, str],
) -> Image:
    """Write config and manifest for `layers` (bottom first) and return the image.

    `created` is an RFC 3339 moment and must come from the inputs, never from a clock.
    `annotations` go into the manifest, and as labels into the config, where `docker inspect`
    shows them.
    """
    config = store.put(
        canonical_json(config_json(layers, architecture, created, runtime, annotations))
    )
    manifest = store.put(canonical_json(manifest_json(layers, config, annotations)))
    return Image(Descriptor(MANIFEST, manifest), config, tuple(layers))


def manifest_json(
    layers: Sequence[Layer], config: Digest, annotations: Mapping[str, str]
) -> dict[str, Json]:
    """The manifest of an image (OCI image-spec, manifest.md); the arguments are `assemble`'s."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, config).to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
        "annotations": dict(annotations),
    }


def config_json(
    layers: Sequence[Layer],
    architecture: str,
    created: str,
    runtime: Runtime,
    annotations: Mapping[str, str],
) -> dict[str, Json]:
    """The config of an image (OCI image-spec, config.md); the arguments are `assemble`'s."""
    return {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": runtime.user,
            "WorkingDir": runtime.working_dir,
            "Env": [f"{name}={value}" for name, value in runtime.environment.items()],
            "Cmd": list(runtime.command),
            "ExposedPorts": {f"{port}/tcp": {} for port in runtime.ports},
            "StopSignal": runtime.stop_signal,
            "Labels": dict(annotations),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
        "history": [
            {"created": created, "created_by": f"plinth: {layer.name}"} for layer in layers
        ],
    }
