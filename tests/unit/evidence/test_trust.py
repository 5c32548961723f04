"""Which trust is used: the one that was chosen, said by name, and no other in its place."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
from sigstore.models import ClientTrustConfig

from plinth.authority.domain import Domain, init_domain
from plinth.authority.server import serving
from plinth.core.errors import AttestationError, TrustError
from plinth.core.report import quiet
from plinth.evidence.choice import SigningTrust, believed, signing_trust
from plinth.evidence.identity import VARIABLE, identity_token


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ambient identity and no trust domain, whatever the machine has."""
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE", "SIGSTORE_ID_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLINTH_TRUST", str(tmp_path / "trust"))


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return init_domain(tmp_path / "trust", "me@example.org")


@pytest.fixture
def config(domain: Domain) -> Iterator[str]:
    with serving(domain) as running:
        yield running.trust_config


def test_nothing_chosen_is_an_error_that_tells_the_choices() -> None:
    for verb, remedy in (("sign", "--trust TRUST"), ("root", "--trusted-root FILE")):
        with pytest.raises(AttestationError, match=verb) as caught:
            if verb == "sign":
                with signing_trust(""):
                    pass
            else:
                believed("")
        assert remedy in caught.value.remedy
        assert "embedded: a trust domain on this machine" in caught.value.remedy


def test_embedded_without_a_domain_says_how_to_make_one() -> None:
    with (
        pytest.raises(TrustError, match="no trust domain here") as caught,
        signing_trust("embedded"),
    ):
        pass
    assert "plinth trust init" in caught.value.remedy
    with pytest.raises(TrustError, match="no trust domain here"):
        believed("embedded")


def test_embedded_brings_its_own_identity(domain: Domain) -> None:
    with signing_trust("embedded") as where:
        assert where.shown == f"the embedded trust domain {domain.folder}"
        told: list[str] = []
        token = identity_token(where, "", progress=told.append, environment={})
        assert token.identity == "me@example.org"
        assert told == [f"signing as me@example.org ({domain.issuer}); token from {where.shown}"]


def test_embedded_is_believed_for_its_own_identity(domain: Domain) -> None:
    found = believed("embedded")
    assert (found.identity, found.issuer) == ("me@example.org", domain.issuer)
    assert str(domain.folder) in found.shown


def test_an_encrypted_domain_is_believed_without_its_passphrase(tmp_path: Path) -> None:
    domain = init_domain(tmp_path / "trust", "me@example.org", "secret")
    assert believed("embedded").issuer == domain.issuer


def test_a_private_instance_by_its_file(config: str, tmp_path: Path) -> None:
    path = tmp_path / "private.json"
    path.write_text(config, encoding="utf-8")
    with signing_trust(str(path)) as where:
        assert where.shown == f"the instance of {path}"
        assert where.token == ""
    assert believed(str(path)).identity == ""


def test_a_trusted_root_comes_before_the_choice(domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "trusted_root.json"
    path.write_text(domain.trusted_root(), encoding="utf-8")
    found = believed("embedded", trusted_root=str(path))
    assert found.shown == f"the trusted root {path}"
    # A root alone says nothing of whose signatures are wanted.
    assert found.identity == ""


@pytest.mark.parametrize("text", ["", "{}", "null", "[]", "\x00", '{"mediaType": "x"}'])
def test_what_is_no_root_and_no_config(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AttestationError, match="not a trusted root") as caught:
        believed("", trusted_root=str(path))
    assert caught.value.where == str(path)
    with pytest.raises(AttestationError, match="not a client trust config"):
        believed(str(path))


def test_root_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with large.open("wb") as stream:
        stream.truncate(1 << 40)
    for choice, trusted_root in (("", str(large)), (str(large), "")):
        with pytest.raises(AttestationError, match="that can be used") as raised:
            believed(choice, trusted_root=trusted_root)
        assert raised.value.found == "larger than 1048576 bytes"


def test_a_choice_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(AttestationError, match="no such trust") as caught:
        believed(str(tmp_path / "nothing.json"))
    assert "public: Sigstore's own" in caught.value.remedy
    with pytest.raises(AttestationError, match="not a trusted root"):
        believed("", trusted_root=str(tmp_path / "nothing.json"))


def raw_token(**claims: object) -> str:
    now = int(time.time())
    whole = {
        "iss": "https://issuer.example.org",
        "sub": "someone",
        "aud": "sigstore",
        "iat": now,
        # Some are made when tests are collected, long before they run.
        "exp": now + 10_000,
        **claims,
    }
    return jwt.encode(whole, "k" * 32, algorithm="HS256")


@pytest.fixture
def where(config: str) -> SigningTrust:
    return SigningTrust("a test", ClientTrustConfig.from_json(config))


def test_a_token_in_a_file_comes_first(where: SigningTrust, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(raw_token(sub="file") + "\n", encoding="utf-8")
    environment = {VARIABLE: raw_token(sub="environment")}
    found = identity_token(where, str(path), progress=quiet, environment=environment)
    assert found.identity == "file"
    assert identity_token(where, "", progress=quiet, environment=environment).identity == (
        "environment"
    )


def test_a_token_of_standard_input(where: SigningTrust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(raw_token(sub="stdin")))
    assert identity_token(where, "-", progress=quiet, environment={}).identity == "stdin"


def test_no_identity_anywhere(where: SigningTrust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(AttestationError, match="no identity to sign with") as caught:
        identity_token(where, "", progress=quiet, environment={})
    assert "--identity-token" in caught.value.remedy


def without(claim: str) -> str:
    claims = jwt.decode(raw_token(), options={"verify_signature": False})
    del claims[claim]
    return jwt.encode(claims, "k" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("x", "not a JSON Web Token"),
        ("a.b.c", "not a JSON Web Token"),
        (json.dumps({}), "not a JSON Web Token"),
        (raw_token()[:-50].rpartition(".")[0], "not a JSON Web Token"),
        (raw_token(aud="other"), "for the audience 'other'"),
        (raw_token(aud=["one", "two"]), "for the audience ['one', 'two']"),
        (raw_token(exp=1), "expired at 1970-01-01 00:00:01 UTC"),
        (raw_token(exp="soon"), "integer"),
        (raw_token(nbf=int(time.time()) + 9_000), "not valid before"),
        *((without(claim), f"no claim '{claim}'") for claim in ("exp", "iss", "sub", "iat", "aud")),
    ],
)
def test_a_token_that_cannot_be_used(where: SigningTrust, raw: str, found: str) -> None:
    with pytest.raises(AttestationError, match="identity token cannot be used") as caught:
        identity_token(where, "", progress=quiet, environment={VARIABLE: raw})
    assert caught.value.where == f"${VARIABLE}"
    assert found in caught.value.found
    # Tokens are secrets, also those that are none.
    assert raw not in str(caught.value) or len(raw) < 3


def test_a_provider_that_is_down_is_an_error(
    where: SigningTrust, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's errors of the network have no words of their own."""
    services = where.config._inner.signing_config
    services.oidc_urls.append(services.ca_urls[0].model_copy(update={"url": "http://127.0.0.1:1"}))
    provided = SigningTrust("a test", ClientTrustConfig(where.config._inner))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(AttestationError, match="identity token cannot be used") as caught:
        identity_token(provided, "", progress=quiet, environment={})
    assert caught.value.where == "the browser"
    assert "Connection refused" in caught.value.found
    assert caught.value.found == "Connection refused"


def test_a_token_file_that_is_not_there(where: SigningTrust, tmp_path: Path) -> None:
    with pytest.raises(AttestationError, match="cannot be read"):
        identity_token(where, str(tmp_path / "x"), progress=quiet, environment={})


class _Provider(BaseHTTPRequestHandler):
    """Hands out one token: as GitHub's runners do, and as an OIDC provider after a login."""

    def _send(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        host = f"http://{self.headers['Host']}"
        if self.path == "/.well-known/openid-configuration":
            self._send(
                {"authorization_endpoint": f"{host}/auth", "token_endpoint": f"{host}/token"}
            )
        else:
            assert self.headers["Authorization"] == "bearer of the runner"
            self._send({"value": raw_token(sub="a workflow")})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        assert form["code"] == ["the code"]
        self._send({"access_token": raw_token(sub="somebody")})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_ambient_token_of_a_ci_system(
    where: SigningTrust, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of the runner")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{provider}/token?api=1")
    told: list[str] = []
    found = identity_token(where, "", progress=told.append, environment={})
    assert found.identity == "a workflow"
    who = "a workflow (https://issuer.example.org)"
    assert told == [f"signing as {who}; token from the CI system"]


def test_a_ci_system_without_permission_for_tokens(
    where: SigningTrust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for name in ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AttestationError, match="identity token cannot be used") as caught:
        identity_token(where, "", progress=quiet, environment={})
    assert "ACTIONS_ID_TOKEN_REQUEST_TOKEN" in caught.value.found


# The library leaves its redirect server open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_login_in_the_browser(
    config: str, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole flow of the library, with somebody who types the code."""
    document = json.loads(config)
    document["signingConfig"]["oidcUrls"] = [
        {**document["signingConfig"]["caUrls"][0], "url": provider}
    ]
    where = SigningTrust("a test", ClientTrustConfig.from_json(json.dumps(document)))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    monkeypatch.setattr("builtins.input", lambda prompt: "the code")
    told: list[str] = []
    found = identity_token(where, "", progress=told.append, environment={})
    assert found.identity == "somebody"
    assert told[0].endswith("token from the browser")
