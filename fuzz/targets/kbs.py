"""The KBS protocol as broker and worker read it, and tokens: attestation results and OIDC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey, KeySet

from fuzz.material import NOW, Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.broker import ear, messages, oidc, primary_evidence, teekey
from strongroom.broker.client import _members, _refusal
from strongroom.codec import jcs

_SCALAR: Final = ec.derive_private_key(7, ec.SECP256R1())
_ISSUER: Final = "https://login.example"
_AUDIENCE: Final = "strongroom-broker"
_HEADER: Final = {"alg": "ES256", "kid": "ec"}
_JWK: Final = ECKey.import_key({**ECKey.import_key(_SCALAR).as_dict(private=True), "kid": "ec"})
_EAR: Final = ear.EarIssuer(_SCALAR)
_KINDS: Final = tuple(EvidenceKind)


class _Given:
    """The keys of the issuer."""

    def keys(self, *, again: bool = False) -> KeySet:  # noqa: ARG002 -- they are always the same
        return KeySet([_JWK])


_OIDC: Final = oidc.OidcIssuer(_ISSUER, _AUDIENCE, _Given())


def _auth(data: bytes) -> None:
    messages.parse_auth(data)


def _attest(data: bytes) -> None:
    kind = _KINDS[(data[0] if data else 0) % len(_KINDS)]
    attestation = messages.parse_attest(data[1:], kind)
    attestation.runtime_data.report_data()
    teekey.parse_jwk(attestation.tee_pubkey)
    primary_evidence.write(attestation.evidence)


def _key(data: bytes) -> None:
    """A key that is read has a thumbprint."""
    teekey.thumbprint(teekey.parse_jwk(jcs.parse(data, limit=MAX_INPUT)))


def _answer(data: bytes) -> None:
    """What a worker reads of its broker's answers."""
    str(_refusal(403, data))
    _members(data, "nonce")


def _ear_token(data: bytes) -> None:
    _EAR.read(data.decode("latin-1"))


def _ear_claims(data: bytes) -> None:
    _EAR.read(_signed(data))


def _oidc_token(data: bytes) -> None:
    _OIDC.principal(data.decode("latin-1"), NOW)


def _oidc_claims(data: bytes) -> None:
    _OIDC.principal(_signed(data), NOW)


def _oidc_keys(data: bytes) -> None:
    oidc._key_set(oidc._object(data, "keys"), "keys")


def _signed(claims: bytes) -> str:
    """A token whose signature holds, with any bytes in it."""
    return jws.serialize_compact(dict(_HEADER), claims, _JWK, algorithms=["ES256"])


def _auths(_: Material) -> Iterator[bytes]:
    yield from (messages.auth_body(kind) for kind in _KINDS)


def _bodies(material: Material) -> Iterator[bytes]:
    body = json.dumps(material.accepted("release")["attest"]).encode()
    yield bytes([_KINDS.index(EvidenceKind(material.accepted("release")["kind"]))]) + body
    parsed = json.loads(body)
    for number, kind in enumerate(_KINDS):
        evidence = material.accepted(kind)["evidence"]
        read = primary_evidence.write(Evidence.from_json(evidence))
        yield bytes([number]) + json.dumps(parsed | {"tee-evidence": {"primary_evidence": read}}).encode()
        many = {"primary_evidence": {"tpm_quote": [0.1] * 10_000}}
        yield bytes([number]) + json.dumps(parsed | {"tee-evidence": many}).encode()


def _keys(material: Material) -> Iterator[bytes]:
    yield json.dumps(json.loads(material.documented("hpke-release.json"))["tee-pubkey"]).encode()
    yield json.dumps(teekey.to_jwk(_SCALAR.public_key())).encode()
    rsa = {"kty": "RSA", "alg": teekey.RSA_ALG, "n": "_" * 342, "e": "AQAB"}
    yield json.dumps(rsa | {"n": "_" * 341 + "w"}).encode()


def _answers(_: Material) -> Iterator[bytes]:
    yield b'{"nonce":"bm9uY2Utbm9uY2Utbm9uY2Utbm9uY2Utbm9uY2UtMTI="}'
    yield b'{"type":"urn:x","title":"T","status":403,"code":"token-missing","detail":"why [token-missing]"}'


def _ear_members() -> dict[str, Any]:
    return {"iss": ear.ISSUER, "iat": NOW - 1, "exp": NOW + 300, "submods": {"cpu0": {}}}


def _oidc_members() -> dict[str, Any]:
    return {"iss": _ISSUER, "aud": [_AUDIENCE], "sub": "alice", "iat": NOW - 10, "exp": NOW + 300, "nbf": 1.5}


def _ear_claim_seeds(_: Material) -> Iterator[bytes]:
    yield json.dumps(_ear_members()).encode()
    yield b"[]"
    yield b"1"


def _oidc_claim_seeds(_: Material) -> Iterator[bytes]:
    yield json.dumps(_oidc_members()).encode()
    yield json.dumps(_oidc_members() | {"iat": 1e308, "aud": _AUDIENCE}).encode()
    yield b"[]"


def _ear_tokens(material: Material) -> Iterator[bytes]:
    yield from (_signed(each).encode() for each in _ear_claim_seeds(material))
    yield from material.files("kbs/example.token.json")


def _oidc_tokens(material: Material) -> Iterator[bytes]:
    yield from (_signed(each).encode() for each in _oidc_claim_seeds(material))
    yield b"e30." + b"A" * 16_000 + b"."


def _key_sets(_: Material) -> Iterator[bytes]:
    yield json.dumps({"keys": [_JWK.as_dict(private=False), {"kty": "oct", "k": "AA"}]}).encode()
    yield json.dumps({"keys": [{"kty": "RSA", "n": "_" * 342, "e": "AQAB", "use": "sig"}]}).encode()
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    yield json.dumps({"keys": [okp]}).encode()


PARSERS: Final = (
    Parser("request for a challenge", _auth, _auths),
    Parser("attestation", _attest, _bodies),
    Parser("one-time key", _key, _keys),
    Parser("answer of a broker", _answer, _answers),
    Parser("attestation token", _ear_token, _ear_tokens),
    Parser("claims of an attestation token", _ear_claims, _ear_claim_seeds),
    Parser("OIDC token", _oidc_token, _oidc_tokens),
    Parser("claims of an OIDC token", _oidc_claims, _oidc_claim_seeds),
    Parser("keys of an OIDC issuer", _oidc_keys, _key_sets),
)
