"""Administration over real TLS: who is let in, as whom, and what the client makes of it."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from strongroom.broker import admin_server
from strongroom.broker.admin_auth import Authenticator, of_certificate
from strongroom.broker.admin_client import ADMIN_PATH, AdminClient
from strongroom.broker.admin_consent import set_tenant
from strongroom.broker.admin_requests import MAX_REQUEST, ListRequest, RotateRequest, TenantRequest
from strongroom.config import AdminConfig, OidcConfig
from tls_files import Authority, Files

ISSUER = "https://login.example"
KEY = ECKey.generate_key("P-256", {"kid": "one"})


def token(subject: str = "bob", seconds: int = 300) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "broker", "sub": subject, "iat": now, "exp": now + seconds}
    return jwt.encode({"alg": "ES256", "kid": "one"}, claims, KEY)


class Site:
    """A served store, and what clients need."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server = self.authority.issue("broker", server=True)
        self.alice = self.authority.issue("alice")
        self.refusals: Counter[str] = Counter()
        jwks = folder / "jwks.json"
        jwks.write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}))
        self.oidc = OidcConfig(ISSUER, "broker", str(jwks))
        self.url = ""

    def config(self, **changes: Any) -> AdminConfig:
        settings = {
            "listen": "127.0.0.1:0",
            "certificate": str(self.server.certificate),
            "key": str(self.server.key),
            "client_ca": str(self.authority.file),
            "oidc": (self.oidc,),
        }
        return AdminConfig(**(settings | changes))

    def client(self, files: Files | None = None, **changes: Any) -> AdminClient:
        own = {} if files is None else {"certificate": files.certificate, "key": files.key}
        return AdminClient(self.url, **({"ca": self.authority.file} | own | changes))


@pytest.fixture
def site(rig, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "tls")
    with admin_server.serving(rig.store, made.config(), lambda code: made.refusals.update([code])) as where:
        made.url = f"https://{where}"
        yield made


def test_the_holder_of_a_certificate(rig, site: Site) -> None:
    with site.client(site.alice) as client:
        assert client.perform(ListRequest())["you"] == of_certificate(site.alice.der).text
        set_tenant(rig.store, "default", [of_certificate(site.alice.der).text])
        assert client.perform(RotateRequest("pictures"))["epoch"] == 2


def test_a_new_certificate_of_the_same_key_is_the_same_person(site: Site) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    one, two = (site.authority.issue(name, key=key) for name in ("carol", "carol-next-year"))
    assert one.der != two.der
    assert of_certificate(one.der) == of_certificate(two.der)
    impostor = site.authority.issue("alice")
    assert of_certificate(impostor.der) != of_certificate(one.der)


def test_the_holder_of_a_token(site: Site) -> None:
    with site.client(token=token()) as client:
        assert client.perform(ListRequest())["you"] == "oidc:https://login.example#bob"


@pytest.mark.parametrize("text", ["x", "a.b.c", token(seconds=-300)], ids=["word", "dots", "expired"])
def test_a_token_that_does_not_hold(site: Site, refused, text: str) -> None:
    with site.client(token=text) as client, refused("admin-unauthenticated"):
        client.perform(ListRequest())
    assert site.refusals == {"admin-unauthenticated": 1}


def test_neither_or_both(site: Site, refused) -> None:
    with site.client() as client, refused("admin-unauthenticated"):
        client.perform(ListRequest())
    with site.client(site.alice, token=token()) as client, refused("admin-unauthenticated"):
        client.perform(ListRequest())
    assert site.refusals == {"admin-unauthenticated": 2}


def test_a_certificate_of_another_authority(site: Site, tmp_path: Path, refused) -> None:
    stranger = Authority(tmp_path / "other", "other").issue("alice")
    with site.client(stranger) as client, refused("admin-unreachable"):
        client.perform(ListRequest())


def test_a_certificate_that_has_expired(site: Site, refused) -> None:
    with site.client(site.authority.issue("old", days=-1)) as client, refused("admin-unreachable"):
        client.perform(ListRequest())


def test_a_server_of_another_authority(site: Site, tmp_path: Path, refused) -> None:
    other = Authority(tmp_path / "other", "other")
    with site.client(site.alice, ca=other.file) as client, refused("admin-unreachable"):
        client.perform(ListRequest())


def test_nothing_older_than_tls_1_3(site: Site) -> None:
    context = ssl.create_default_context(cafile=site.authority.file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, port = site.url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(plain, server_hostname=host),
    ):
        pass


def test_without_issuers_a_certificate_is_needed_for_the_connection(rig, site: Site, refused) -> None:
    with admin_server.serving(rig.store, site.config(oidc=()), lambda _: None) as where:
        site.url = f"https://{where}"
        with site.client(site.alice) as client:
            assert client.perform(ListRequest())
        with site.client(token=token()) as client, refused("admin-unreachable"):
            client.perform(ListRequest())


def test_without_an_authority_only_tokens_count(rig, site: Site, refused) -> None:
    with admin_server.serving(rig.store, site.config(client_ca=""), lambda _: None) as where:
        site.url = f"https://{where}"
        with site.client(token=token()) as client:
            assert client.perform(ListRequest())
        with site.client(site.alice) as client, refused("admin-unauthenticated"):
            client.perform(ListRequest())


def test_what_is_refused_is_told_and_counted(site: Site, refused) -> None:
    with site.client(site.alice) as client:
        with refused("admin-forbidden"):
            client.perform(TenantRequest("bank", (of_certificate(site.alice.der).text,)))
        with refused("admin-forbidden"):
            client.perform(RotateRequest("pictures"))
    assert site.refusals == {"admin-forbidden": 2}


def test_raw_requests(site: Site) -> None:
    context = ssl.create_default_context(cafile=site.authority.file)
    context.load_cert_chain(site.alice.certificate, site.alice.key)
    with httpx.Client(verify=context, base_url=site.url) as http:
        assert http.get(ADMIN_PATH).status_code == 405
        assert http.post("/elsewhere", content=b"{}").status_code == 404
        bad = http.post(ADMIN_PATH, content=b"{}")
        assert (bad.status_code, bad.json()["code"]) == (400, "admin-request-invalid")
        large = http.post(ADMIN_PATH, content=b"x" * (MAX_REQUEST + 1))
        assert (large.status_code, large.json()["code"]) == (413, "kbs-body-too-large")
        good = http.post(ADMIN_PATH, content=b'{"ask":"list"}', headers={"X-Forwarded-For": "1.2.3.4"})
        assert good.headers["Cache-Control"] == "no-store"
        forged = {"strongroom.client_certificate": "x"}
        assert http.post(ADMIN_PATH, content=b'{"ask":"list"}', headers=forged).json() == good.json()


def test_the_servers_own_trouble_is_not_explained(rig, site: Site) -> None:
    rig.store.close()
    with site.client(site.alice) as client, pytest.raises(Exception, match="store") as caught:
        client.perform(ListRequest())
    assert str(rig.folder) not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_ca": "", "oidc": ()},
        {"certificate": "/none.pem"},
        {"key": "/none.pem"},
        {"client_ca": "/none.pem"},
        {"listen": "nowhere"},
    ],
)
def test_a_configuration_that_cannot_be(rig, site: Site, refused, changes: dict[str, Any]) -> None:
    with refused("config-invalid"), admin_server.serving(rig.store, site.config(**changes), lambda _: None):
        pass


def test_a_key_that_is_not_the_certificates(rig, site: Site, refused) -> None:
    config = site.config(key=str(site.alice.key))
    with refused("config-invalid"), admin_server.serving(rig.store, config, lambda _: None):
        pass


def test_a_file_of_keys_that_is_not_there(rig, site: Site, refused) -> None:
    config = site.config(oidc=(OidcConfig(ISSUER, "broker", "/none.json"),))
    with refused("oidc-unavailable"), admin_server.serving(rig.store, config, lambda _: None):
        pass


def test_an_address_that_is_taken(rig, site: Site, refused) -> None:
    config = site.config(listen=site.url.removeprefix("https://"))
    with refused("listen-failed"), admin_server.serving(rig.store, config, lambda _: None):
        pass


def test_it_listens_no_longer_afterwards(rig, site: Site, refused) -> None:
    with admin_server.serving(rig.store, site.config(), lambda _: None) as where:
        site.url = f"https://{where}"
    with site.client(site.alice) as client, refused("admin-unreachable"):
        client.perform(ListRequest())


def test_the_first_issuer_that_accepts_a_token(rig) -> None:
    class Issuer:
        def __init__(self, name: str) -> None:
            self._name = name

        def principal(self, text: str, now: float) -> Any:
            from strongroom.broker.admin_errors import ADMIN_UNAUTHENTICATED
            from strongroom.errors import BrokerError

            if text != self._name:
                raise BrokerError(ADMIN_UNAUTHENTICATED, self._name)
            return self._name, now

    issuers: Any = [Issuer("a"), Issuer("b")]
    assert Authenticator(issuers, lambda: 7).principal(None, "Bearer b") == ("b", 7)
    assert Authenticator(issuers, lambda: 7).principal(None, "bearer  a ") == ("a", 7)


@pytest.mark.parametrize("text", ["Basic YTpi", "b", "Bearer b"])
def test_authorizations_that_nobody_accepts(refused, text: str) -> None:
    with refused("admin-unauthenticated"):
        Authenticator([], time.time).principal(None, text)


def test_bytes_that_are_no_certificate(refused) -> None:
    for data in (b"", b"x", b"0\x82\x00"):
        with refused("admin-unauthenticated"):
            Authenticator([], time.time).principal(data, None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1", ""])
def test_the_client_speaks_tls_only(refused, url: str) -> None:
    with refused("admin-request-invalid"):
        AdminClient(url)


def test_the_client_without_its_files(refused, tmp_path: Path) -> None:
    for files in ({"ca": tmp_path / "none"}, {"certificate": tmp_path / "none", "key": tmp_path / "none"}):
        with refused("admin-request-invalid"):
            AdminClient("https://127.0.0.1:1", **files)
