"""Bearer tokens of an OIDC issuer, one refused for each reason; keys from a file and from an issuer."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from strongroom.broker import oidc
from strongroom.broker.oidc import FetchedKeys, FileKeys, OidcIssuer
from strongroom.codec import b64
from strongroom.errors import BrokerError, StrongroomError

ISSUER = "https://login.example"
AUDIENCE = "strongroom-broker"
NOW = 1_800_000_000
KEYS = {
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
}
PUBLIC = {"keys": [key.as_dict(private=False) for key in KEYS.values()]}
GOOD: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": NOW - 10, "exp": NOW + 300}


def b64_loose(text: bytes) -> bytes:
    """Decoded as some libraries do, whatever the unused bits at the end say."""
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


class Given:
    """Keys that are at hand; counts how often newer ones are asked for."""

    def __init__(self, keys: Any = PUBLIC) -> None:
        self.asked: list[bool] = []
        self._keys = KeySet.import_key_set(keys)

    def keys(self, *, again: bool = False) -> KeySet:
        self.asked.append(again)
        return self._keys


def token(claims: dict[str, Any] | None = None, *, alg: str = "ES256", key: Any = None, **header: Any) -> str:
    signer = KEYS[alg] if key is None else key
    members = {"alg": alg, "kid": signer.kid, **header}
    return jwt.encode(members, claims or GOOD, signer, algorithms=[alg])


def issuer(source: Any = None) -> OidcIssuer:
    return OidcIssuer(ISSUER, AUDIENCE, source or Given())


@pytest.mark.parametrize("alg", KEYS)
def test_a_good_token_names_its_subject(alg: str) -> None:
    source = Given()
    assert issuer(source).principal(token(alg=alg), NOW).text == "oidc:https://login.example#alice"
    assert source.asked == [False]


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE]},
        {"aud": [AUDIENCE, "other"], "azp": AUDIENCE},
        {"nbf": NOW + oidc.LEEWAY},
        {"iat": NOW + oidc.LEEWAY},
        {"exp": NOW - oidc.LEEWAY + 1},
        {"exp": NOW - 10 + oidc.MAX_AGE},
        {"iat": NOW - 0.5, "exp": NOW + 0.5},
    ],
)
def test_what_else_is_accepted(changes: dict[str, Any]) -> None:
    assert issuer().principal(token({**GOOD, **changes}), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": None},
        {"aud": {AUDIENCE: 1}},
        {"aud": [AUDIENCE, "other"]},
        {"aud": [AUDIENCE, "other"], "azp": "other"},
        {"exp": NOW - oidc.LEEWAY},
        {"exp": None},
        {"exp": True},
        {"exp": "2030-01-01"},
        {"iat": NOW + oidc.LEEWAY + 1},
        {"iat": None},
        {"nbf": NOW + oidc.LEEWAY + 1},
        {"nbf": "now"},
        {"exp": NOW - 10 + oidc.MAX_AGE + 1},
        {"sub": None},
        {"sub": 7},
    ],
)
def test_claims_that_are_refused(changes: dict[str, Any], refused) -> None:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    text = token(claims)
    with refused("admin-unauthenticated"):
        issuer().principal(text, NOW)


@pytest.mark.parametrize("subject", ["", "al ice", "x" * 256, "alic\u00e9"])
def test_a_subject_that_is_no_name(subject: str, refused) -> None:
    with refused("principal-invalid"):
        issuer().principal(token({**GOOD, "sub": subject}), NOW)


def test_a_signature_of_another_key(refused) -> None:
    stranger = ECKey.generate_key("P-256", {"kid": "ec"})
    source = Given()
    with refused("admin-unauthenticated"):
        issuer(source).principal(token(key=stranger), NOW)
    assert source.asked == [False, True], "the issuer may have a new key"


def test_a_token_without_a_signature(refused) -> None:
    def part(value: Any) -> str:
        return b64.encode_url(json.dumps(value).encode())

    for header in ({"alg": "none"}, {"alg": "none", "kid": "ec"}, {"alg": "ES256", "kid": "ec"}):
        with refused("admin-unauthenticated"):
            issuer().principal(f"{part(header)}.{part(GOOD)}.", NOW)


def test_a_public_key_is_no_shared_secret(refused) -> None:
    """The confusion of algorithms: HMAC with the bytes of a public key."""
    head, body, _ = jwt.encode({"alg": "HS256", "kid": "rsa"}, GOOD, OctKey.generate_key(256)).split(".")
    secret = KEYS["RS256"].as_pem(private=False)
    tag = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
    forged = f"{head}.{body}.{b64.encode_url(tag)}"
    with refused("admin-unauthenticated"):
        issuer().principal(forged, NOW)


def test_a_shared_secret_in_the_set_is_not_used(tmp_path: Path, refused) -> None:
    secret = OctKey.generate_key(256, {"kid": "oct"})
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [secret.as_dict(private=True), *PUBLIC["keys"]]}))
    forged = jwt.encode({"alg": "HS256", "kid": "oct"}, GOOD, secret, algorithms=["HS256"])
    with refused("admin-unauthenticated"):
        issuer(FileKeys(path)).principal(forged, NOW)


def test_a_token_that_is_too_long(refused) -> None:
    source = Given()
    with refused("admin-unauthenticated"):
        issuer(source).principal("x" * (oidc.MAX_TOKEN + 1), NOW)
    assert source.asked == []


def test_no_byte_of_a_token_can_change() -> None:
    good = token().encode()
    for at in range(len(good)):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        try:
            issuer().principal(changed.decode("latin-1"), NOW)
        except StrongroomError:
            continue
        assert b64.decode_url(good.split(b".")[2].decode()) == b64_loose(changed.split(b".")[2]), at


@given(st.text(max_size=200))
def test_any_text_is_refused_in_our_own_words(text: str) -> None:
    with pytest.raises(BrokerError):
        issuer().principal(text, NOW)


@given(st.binary(max_size=200))
def test_any_file_is_a_set_of_keys_or_not(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_bytes(data)
    with pytest.raises(BrokerError) as caught:
        FileKeys(path)
    assert caught.value.code == "oidc-unavailable"


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"keys": []},
        {"keys": {}},
        {"keys": [1]},
        {"keys": [{"kty": "oct", "k": "AAAA"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]},
        {"keys": [{**PUBLIC["keys"][0], "use": "enc"}]},
        {"keys": PUBLIC["keys"], "more": "x" * oidc.MAX_KEYS},
    ],
)
def test_files_without_usable_keys(tmp_path: Path, value: Any, refused) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(value))
    with refused("oidc-unavailable"):
        FileKeys(path).keys()
        issuer(FileKeys(path)).principal(token(), NOW)


def test_a_file_that_is_not_there(tmp_path: Path, refused) -> None:
    with refused("oidc-unavailable"):
        FileKeys(tmp_path / "none.json")


def test_keys_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(PUBLIC))
    assert issuer(FileKeys(path)).principal(token(), NOW)


class Web:
    """What an issuer serves."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {
            f"{ISSUER}/.well-known/openid-configuration": {
                "issuer": ISSUER,
                "jwks_uri": "https://keys.example/jwks",
            },
            "https://keys.example/jwks": PUBLIC,
        }
        self.asked: list[str] = []
        self.time = 1000.0

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.pages:
            raise OSError("HTTP 404")
        return json.dumps(self.pages[url]).encode()

    def source(self, name: str = ISSUER) -> FetchedKeys:
        return FetchedKeys(name, self.fetch, lambda: self.time)


def test_keys_are_fetched_once_an_hour() -> None:
    web = Web()
    source = web.source()
    for _ in range(3):
        assert issuer(source).principal(token(), NOW)
    assert len(web.asked) == 2
    web.time += 3599
    source.keys()
    assert len(web.asked) == 2
    web.time += 2
    source.keys()
    assert len(web.asked) == 4


def test_an_issuer_that_is_down_is_not_asked_for_every_unknown_key(refused) -> None:
    """Whoever sends forged tokens must not make us ask, nor wait for, an issuer that does not answer."""
    web = Web()
    source = web.source()
    source.keys()
    web.pages.clear()
    web.time += 100
    with refused("oidc-unavailable"):
        source.keys(again=True)
    asked = len(web.asked)
    for _ in range(10):
        assert source.keys(again=True)  # what is kept still holds
    assert len(web.asked) == asked


def test_keys_that_are_old_do_not_outlive_an_issuer_that_is_down(refused) -> None:
    web = Web()
    source = web.source()
    source.keys()
    web.pages.clear()
    web.time += 3601
    for _ in range(2):
        with refused("oidc-unavailable"):
            source.keys()


def test_a_new_key_of_the_issuer_is_found_but_not_asked_for_all_the_time(refused) -> None:
    web = Web()
    source = web.source()
    source.keys()
    new = ECKey.generate_key("P-256", {"kid": "new"})
    web.pages["https://keys.example/jwks"] = {"keys": [new.as_dict(private=False)]}
    for _ in range(3):
        with refused("admin-unauthenticated"):
            issuer(source).principal(token(key=new), NOW)
    assert len(web.asked) == 2
    web.time += 61
    assert issuer(source).principal(token(key=new), NOW)
    assert len(web.asked) == 4


def spoil(change: Callable[[dict[str, Any]], None]) -> Web:
    web = Web()
    change(web.pages)
    return web


@pytest.mark.parametrize(
    "change",
    [
        lambda pages: pages.clear(),
        lambda pages: pages.pop("https://keys.example/jwks"),
        lambda pages: pages[f"{ISSUER}/.well-known/openid-configuration"].update(
            issuer="https://evil.example"
        ),
        lambda pages: pages[f"{ISSUER}/.well-known/openid-configuration"].pop("jwks_uri"),
        lambda pages: pages[f"{ISSUER}/.well-known/openid-configuration"].update(
            jwks_uri="http://a.example/"
        ),
        lambda pages: pages[f"{ISSUER}/.well-known/openid-configuration"].update(jwks_uri="file:///etc/keys"),
        lambda pages: pages.update({"https://keys.example/jwks": []}),
    ],
)
def test_an_issuer_that_gives_no_keys(change, refused) -> None:
    with refused("oidc-unavailable"):
        spoil(change).source().keys()


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, Any]]]:
    """A web server of an issuer: path to body, or to an address to go to instead."""
    pages: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            if isinstance(page, str):
                self.send_response(302)
                self.send_header("Location", page)
            else:
                self.send_response(404 if page is None else 200)
            self.end_headers()
            if isinstance(page, bytes):
                self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", pages
        server.shutdown()


def test_what_is_fetched(served) -> None:
    url, pages = served
    pages["/good"] = b"{}"
    pages["/large"] = b"x" * (2 * oidc.MAX_KEYS)
    pages["/elsewhere"] = f"{url}/good"
    assert oidc.fetch(f"{url}/good") == b"{}"
    assert len(oidc.fetch(f"{url}/large")) == oidc.MAX_KEYS + 1
    for bad in (f"{url}/none", f"{url}/elsewhere", "http://127.0.0.1:1/", "http://[", "x"):
        with pytest.raises(OSError):  # noqa: PT011 -- each has another text
            oidc.fetch(bad, timeout=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_provider_of_others(served, refused) -> None:
    """Tokens of an OpenID provider that somebody else wrote."""
    mock = pytest.importorskip("oidc_provider_mock")
    httpx = pytest.importorskip("httpx")
    with mock.run_server_in_thread() as server:
        name = f"http://localhost:{server.server_port}"
        httpx.put(f"{name}/users/alice", json={"claims": {}}).raise_for_status()
        location = httpx.post(
            f"{name}/oauth2/authorize",
            params={
                "client_id": AUDIENCE,
                "response_type": "code",
                "redirect_uri": "https://client.example/",
                "scope": "openid",
            },
            data={"sub": "alice"},
        ).headers["Location"]
        code = httpx.URL(location).params["code"]
        answer = httpx.post(
            f"{name}/oauth2/token",
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": "https://client.example/",
            },
            auth=(AUDIENCE, "any"),
        ).json()
        discovered = httpx.get(f"{name}/.well-known/openid-configuration").json()["issuer"]
        source = FetchedKeys(discovered, oidc.fetch, time.monotonic)
        found = OidcIssuer(discovered, AUDIENCE, source).principal(answer["id_token"], time.time())
        assert found.text == f"oidc:{discovered}#alice"
        with refused("admin-unauthenticated"):
            OidcIssuer(discovered, "others", source).principal(answer["id_token"], time.time())
