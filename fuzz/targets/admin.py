"""What administrators and operators send to the broker: requests, names, shares and backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ssl import PEM_cert_to_DER_cert
from typing import Any, Final

from fuzz.material import Material
from fuzz.target import Parser
from strongroom.broker import admin_auth, admin_requests, backup, shares
from strongroom.broker.principal import Principal
from strongroom.broker.resource import Resource
from strongroom.broker.shares import ShareSet

_DIGEST: Final = "sha256:" + "0" * 64
_REQUESTS: Final[tuple[dict[str, Any], ...]] = (
    {"ask": "list"},
    {"ask": "tenant", "tenant": "acme", "administrators": ["mtls:" + "0" * 64, "oidc:https://i.example#a"]},
    {"ask": "rotate", "service": "lite", "grace": 60},
    {"ask": "grant", "resource": "acme/model/m", "tenant": "other", "granted": False},
    {"ask": "statement", "resource": "acme/model/m", "service": "lite"},
    {"ask": "approve", "resource": "acme/model/m", "service": "lite", "statement": _DIGEST, "seconds": 60},
    {"ask": "withdraw", "resource": "acme/model/m", "service": "lite"},
    {"ask": "revoke-model", "resource": "acme/model/m"},
    {"ask": "revoke-service", "service": "lite"},
)

_SET: Final = ShareSet(9747, 2, 2)
_SHARE: Final = (  # of 32 zero bytes, as is the next
    "evil olympic academic acid ancient random huge pink canyon black package provide cinema trouble work"
    " hearing loud desert angry fiscal course parking quantity threaten goat frequent pink enlarge volume"
    " iris element species withdraw"
)
_OTHER_SHARE: Final = (
    "evil olympic academic agency alcohol luxury crisis either document speak usher vocal axle mouse"
    " sympathy result observe perfect device diet human rebuild always total standard dough round trend"
    " voter yoga recall perfect season"
)


def _request(data: bytes) -> None:
    """A request that is read is one that can be written and read again."""
    found = admin_requests.parse(data)
    if admin_requests.parse(admin_requests.render(found)) != found:
        raise AssertionError("what was read is not what is written")


def _principal(data: bytes) -> None:
    Principal.parse(data.decode("latin-1"))


def _resource(data: bytes) -> None:
    Resource.parse(data.decode("latin-1"))


def _certificate(data: bytes) -> None:
    admin_auth.of_certificate(data)


def _backup(data: bytes) -> None:
    backup._parse(data)


def _shares(data: bytes) -> None:
    texts = [line.decode("latin-1") for line in data.split(b"\n")]
    shares.combine(texts, _SET)


def _requests(_: Material) -> Iterator[bytes]:
    yield from (json.dumps(members).encode() for members in _REQUESTS)
    yield json.dumps({"ask": "tenant", "tenant": "a", "administrators": ["mtls:" + "0" * 64] * 900}).encode()


def _principals(_: Material) -> Iterator[bytes]:
    yield from (
        b"mtls:" + b"0" * 64,
        b"oidc:https://login.example/a#subject",
        b"oidc:https://" + b"a." * 30_000,
    )


def _resources(_: Material) -> Iterator[bytes]:
    yield from (b"default/model/lite0", b"kbs:///default/model/lite0", b"/" * 60_000)


def _certificates(material: Material) -> Iterator[bytes]:
    yield PEM_cert_to_DER_cert(material.accepted("snp")["evidence"]["collateral"]["vek"])
    yield from material.files("negative/*.der")


def _backups(_: Material) -> Iterator[bytes]:
    header = {
        "type": backup.TYPE,
        "made": 1,
        "store": "s",
        "set": 1,
        "threshold": 2,
        "shares": 3,
    }
    yield json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n" + bytes(100)


def _share_texts(_: Material) -> Iterator[bytes]:
    yield f"{_SHARE}\n{_OTHER_SHARE}".encode()
    yield "\n".join([_SHARE] * 200).encode()
    yield b"academic " * 33
    yield b"academic" * 8_000


PARSERS: Final = (
    Parser("administrative request", _request, _requests),
    Parser("principal", _principal, _principals),
    Parser("resource", _resource, _resources),
    Parser("certificate of a client", _certificate, _certificates),
    Parser("backup", _backup, _backups),
    Parser("shares", _shares, _share_texts),
)
