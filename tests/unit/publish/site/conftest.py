"""A site of three small images, of which some strings can be chosen."""

from __future__ import annotations

import pytest

from plinth.publish.site.model import Attachment, Checked, Image, Layer, Package, Site

BASE = Layer("tiny system", f"sha256:{'a' * 64}", 30_000_000)
SERVER = Layer("server 1.0", f"sha256:{'b' * 64}", 1_000)
ONE = Layer("one 1.4.2", f"sha256:{'c' * 64}", 500_000_000)
TWO = Layer("two 2.0", f"sha256:{'d' * 64}", 2_000_000)


def make_image(
    image_id: str, layers: tuple[Layer, ...], said: str = "text", version: str = "1.4.2"
) -> Image:
    """An image; `said` is what its packages, layers and bundles say of themselves."""
    return Image(
        id=image_id,
        framework=image_id.partition("-")[0],
        version=version,
        accelerator="set1",
        summary=said,
        asked=((f"one=={said}", f"one {version}"),),
        name=f"azureml/{image_id}-tiny-cpu-inference:latest",
        base=said,
        wanted_base="canonical",
        missing=said,
        digest=f"sha256:{image_id.encode().hex():0<64.64}",
        manifest_size=1234,
        created="2026-10-20T00:00:00Z",
        layers=layers,
        packages=(
            Package("wheel", "two", "2.0", (said, "MIT"), "e" * 64, 1_500_000),
            Package("wheel", "one", version, (), "f" * 64, 999),
            Package("wheel", said, said, (said,)),
            Package("deb", "libc6", said, (said,), "0" * 64, 12_000_000),
            Package("system", "tiny", said),
            Package("interpreter", "cpython", "3.7.16"),
        ),
        entries=3,
        sbom=b"{}",
        attachments=(Attachment(said, b"bundle"), Attachment("provenance", b"other", ("bad",))),
        checked=Checked(9, (said,) if said != "text" else ("sbom",), (said,), said),
    )


def make_site(said: str = "text") -> Site:
    """The site; `said` is in every place that somebody else writes."""
    odd = Layer(said, f"sha256:{'9' * 64}", 1)
    images = (
        make_image("one-1", (BASE, SERVER, odd, ONE), said),
        make_image("one-2", (BASE, SERVER, TWO), said, "1.10.0"),
        make_image("other", (BASE, SERVER, TWO, odd), said),
    )
    return Site(images)


@pytest.fixture
def site() -> Site:
    return make_site()
