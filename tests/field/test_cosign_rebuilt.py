"""plinth attests a rebuild, by the commands of docs/provenance.md, and cosign verifies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from field.conftest import IMAGE, publish
from field.documented import Answer, commands, run
from field.test_cosign import stated
from plinth.authority.domain import init_domain
from plinth.evidence.statement import PREDICATES, REBUILT
from support.forge import IDENTITY, Copy, link_tree
from support.published import Published, export

pytestmark = pytest.mark.judge("cosign")
ATTEST, VERIFY = commands("provenance.md", "## Rebuilt")
WHO = "ann@example.org"


def test_a_rebuild_of_an_image_in_a_registry(
    registry: Callable[[], str],
    signed: Published,
    environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    """A rebuilder of their own trust domain, whom the publisher's policy waits for; pulled, and
    attached elsewhere, their statement is still there."""
    host = registry()
    link_tree(signed.ws.build, tmp_path / "build")
    title = signed.image(IMAGE).manifest()["annotations"]["org.opencontainers.image.title"]
    place = f"{host}/team/{title}@{signed.image(IMAGE).digest.oci}"
    domain = init_domain(tmp_path / "domain", WHO)
    folder = export(domain, tmp_path / "trust")
    (folder / "policy.toml").write_text(
        f'trusted-root = "{signed.root}"\nidentity = "{IDENTITY}"\nissuer = "{signed.issuer}"\n'
        f'rebuilders = 1\nrebuilder-identities = [{{ identity = "{WHO}", '
        f'issuer = "{domain.issuer}", trusted-root = "trusted_root.json" }}]\n'
    )
    mine = {
        **environment,
        "PLINTH_BUILD": str(tmp_path / "build"),
        "PLINTH_TRUST": str(domain.folder),
        "PLINTH_CONFIG": f"{signed.ws.root}-settings.toml",
    }

    def do(command: str, place: str = place) -> Answer:
        values = {
            "REF": place,
            "DIR": str(signed.ws.cache.root),
            "WHO": WHO,
            "URL": domain.issuer,
            "HOST/REPOSITORY@sha256:…": place,
        }
        return run(command, values, folder, mine)

    push = (
        f"cd {signed.ws.root} && plinth push --to {host}/team --policy {folder}/policy.toml "
        f"--no-verify {IMAGE}"
    )
    answer = do(push)
    assert answer.code == 1 and f"rebuilt: not by {WHO}" in answer.error, answer.error
    assert do(VERIFY).code == 1
    answer = do(ATTEST)
    assert answer.code == 0, answer.error
    answer = do(VERIFY)
    assert answer.code == 0, answer.error
    assert stated(answer) == {(REBUILT, signed.image(IMAGE).digest.hex)}
    answer = do(push)
    assert answer.code == 0 and ", latest\n" in answer.out, answer.error
    answer = do(f"plinth pull {place} --layout layout --policy policy.toml")
    assert answer.code == 0, answer.error
    assert {*Copy(folder / "layout", IMAGE).bundles()} == {*PREDICATES, REBUILT}
    other = publish(signed, IMAGE, f"{host}/other/{IMAGE}", {})
    answer = do(f"plinth attach oci:layout:{IMAGE} {other}")
    assert answer.code == 0, answer.error
    assert do(VERIFY, other).code == 0
    answer = do(f"plinth verify --policy policy.toml --image {IMAGE} {other}")
    assert answer.code == 0 and f"by 1 ({WHO}); the policy wants 1" in answer.out, answer.out
