"""Attestation tokens: Entity Attestation Results (draft-ietf-rats-ear) in Trustee's profile, as ES256 JWTs.

The profile is that of confidential-containers/trustee: header `{"typ", "alg", "jwk"}`, one submodule `cpu0`
with the trustworthiness vector of AR4SI (draft-ietf-rats-ar4si) and the evidence's claims. Our own broker
decides by its policies and its session, never by a token alone; a token tells others what the broker saw.
Simulated evidence is `contraindicated` in it whatever the policy says: no hardware stands behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from strongroom.attestation.claims import Claims
from strongroom.attestation.devices import Device
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.roots import NVIDIA_ROOT_SHA256
from strongroom.broker import teekey
from strongroom.broker.errors import TOKEN_INVALID, TOKEN_KEY
from strongroom.broker.store import Store
from strongroom.errors import BrokerError

PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
ISSUER: Final = "strongroom-broker"
VERIFIER: Final = {"developer": "Strongroom", "build": "strongroom-broker 1"}
MAX_TOKEN: Final = 32 * 1024
TOKEN_SECONDS: Final = 300
APPRAISED_AT: Final = "strongroom.appraised-at"
"""A claim of ours, for archived evidence: the time as of which it was appraised. The token's own is `iat`."""

_SCALAR_BYTES: Final = 32
_SECRET: Final = "ear-key"  # noqa: S105 -- its name in the store
_SGX_CONFIG_BYTES: Final = 64
"""Bytes of CONFIGID; other kinds carry a bare SHA-384."""

# AR4SI values; its tiers: -1 to 1 none, 2 to 31 affirming, 32 to 95 warning, 96 to 127 contraindicated.
_AFFIRMED: Final = 2
_APPROVED_RUNTIME: Final = 3
_UNSAFE: Final = 32
_UNRECOGNIZED_RUNTIME: Final = 33
_UNRECOGNIZED_HARDWARE: Final = 97
_ISOLATED_MEMORY: Final = 32
_VISIBLE_MEMORY: Final = 96
_VECTOR: Final = (
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
)
_TIERS: Final = ((2, "none"), (32, "affirming"), (96, "warning"))


class EarIssuer:
    """Makes and checks the tokens of one issuer: a broker, or whoever appraises archived evidence.

    Attributes:
        seconds: Life of a token.

    Args:
        key: P-256.
        issuer: The `iss` claim.
        seconds: Life of a token.
    """

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, *, issuer: str = ISSUER, seconds: int = TOKEN_SECONDS
    ) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key = ECKey.import_key(pem)
        self._jwk = {"alg": "ES256", **teekey.coordinates(key.public_key())}
        self._issuer = issuer
        self.seconds = seconds

    @classmethod
    def from_pem(cls, pem: bytes, *, issuer: str, seconds: int = TOKEN_SECONDS) -> EarIssuer:
        """The issuer with a private key in PEM, not encrypted.

        Raises:
            BrokerError: `token-key-unusable`.
        """
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise BrokerError(TOKEN_KEY, "not a private key in PEM without a password") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BrokerError(TOKEN_KEY, expected="a key on the curve P-256")
        return cls(key, issuer=issuer, seconds=seconds)

    @classmethod
    def of(cls, store: Store, *, seconds: int = TOKEN_SECONDS) -> EarIssuer:
        """The issuer with the store's key, made at its first use.

        Raises:
            BrokerError: A code of the store.
        """

        def make() -> bytes:
            return teekey.generate(store.rng).private_numbers().private_value.to_bytes(_SCALAR_BYTES)

        scalar = int.from_bytes(store.secret(_SECRET, make))
        return cls(ec.derive_private_key(scalar, ec.SECP256R1()), seconds=seconds)

    @property
    def jwk(self) -> Mapping[str, str]:
        """The public key, as the tokens' header carries it."""
        return self._jwk

    def issue(
        self,
        claims: Claims,
        *,
        runtime_data: Mapping[str, Any],
        token_id: str,
        policy_id: str,
        now: int,
        appraised_at: int | None = None,
    ) -> str:
        """A token over accepted evidence.

        Args:
            claims: What the evidence says.
            runtime_data: What the report data binds: `nonce` and `tee-pubkey`.
            token_id: The `jti` claim; ours is the digest of the session.
            policy_id: Digest of the policy that accepted the claims.
            now: Unix time.
            appraised_at: Unix time as of which the evidence was appraised, if that is another one.
        """
        then = {} if appraised_at is None else {APPRAISED_AT: appraised_at}
        vector = trust_vector(claims)
        members = {
            "eat_profile": PROFILE,
            "iat": now,
            "exp": now + self.seconds,
            "iss": self._issuer,
            "jti": token_id,
            "ear.verifier-id": VERIFIER,
            **then,
            "submods": {
                "cpu0": {
                    "ear.status": status(vector),
                    "ear.trustworthiness-vector": vector,
                    "ear.appraisal-policy-id": policy_id,
                    "ear.veraison.annotated-evidence": _annotated(claims, runtime_data),
                },
                **{f"gpu{place}": _gpu(device, policy_id) for place, device in enumerate(claims.devices)},
            },
        }
        return jwt.encode({"typ": "JWT", "alg": "ES256", "jwk": self._jwk}, members, self._key, ["ES256"])

    def read(self, token: str) -> dict[str, Any]:
        """The claims of a token of this issuer, expired or not.

        Raises:
            BrokerError: `token-invalid`.
        """
        if len(token) > MAX_TOKEN:
            raise BrokerError(TOKEN_INVALID, "too long")
        try:
            members = jwt.decode(token, self._key, algorithms=["ES256"]).claims
        except (JoseError, ValueError, json.JSONDecodeError) as error:
            raise BrokerError(TOKEN_INVALID, type(error).__name__) from error
        if members.get("iss") != self._issuer:
            raise BrokerError(TOKEN_INVALID, "of another issuer")
        return dict(members)


def trust_vector(claims: Claims) -> dict[str, int]:
    """The trustworthiness vector (AR4SI) of claims that a policy has accepted.

    The policy's word makes the executables approved; all else is what the evidence says. 0 is no claim.
    """
    hardware = _AFFIRMED if claims.tcb_status in {"UpToDate", ""} and claims.revocation_checked else _UNSAFE
    return dict.fromkeys(_VECTOR, 0) | {
        "instance-identity": _AFFIRMED if claims.kind is EvidenceKind.TPM else 0,  # its key is enrolled
        "configuration": _UNSAFE if claims.debug or claims.migratable else _AFFIRMED,
        "executables": _APPROVED_RUNTIME,
        "hardware": _UNRECOGNIZED_HARDWARE if claims.simulated else hardware,
        "runtime-opaque": _memory(claims),
    }


def _memory(claims: Claims) -> int:
    """Who can read what the code computes with."""
    if claims.debug:
        return _VISIBLE_MEMORY
    if claims.simulated or claims.kind is EvidenceKind.TPM:
        return 0
    if claims.kind is EvidenceKind.NITRO:
        return _ISOLATED_MEMORY  # by the hypervisor; the document does not say whether it is encrypted
    return _AFFIRMED


def status(vector: Mapping[str, int]) -> str:
    """The tier of the worst claim in a vector."""
    worst = max(vector.values())
    return next((name for bound, name in _TIERS if worst < bound), "contraindicated")


def _annotated(claims: Claims, runtime_data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(claims.kind): {
            "body": {**_measured(claims), "report_data": claims.report_data.hex()},
            "tcb_status": claims.tcb_status,
            "advisory_ids": list(claims.advisories),
            "fmspc": claims.fmspc,
            "debug": claims.debug,
            "simulated": claims.simulated,
        },
        "report_data": claims.report_data.hex(),
        "init_data": _init_data(claims),
        "init_data_claims": None,
        "runtime_data_claims": dict(runtime_data),
    }


def _gpu(device: Device, policy_id: str) -> dict[str, Any]:
    """The submodule of a GPU that the policy has accepted."""
    shown = device.differing == ()
    real = device.gpu.root_sha256 == NVIDIA_ROOT_SHA256
    vector = dict.fromkeys(_VECTOR, 0) | {
        "executables": _APPROVED_RUNTIME if shown else _UNRECOGNIZED_RUNTIME,
        "hardware": _AFFIRMED if real else _UNRECOGNIZED_HARDWARE,
    }
    return {
        "ear.status": status(vector),
        "ear.trustworthiness-vector": vector,
        "ear.appraisal-policy-id": policy_id,
        "ear.veraison.annotated-evidence": {"nvidia": device.to_json()},
    }


def _init_data(claims: Claims) -> str:
    size = _SGX_CONFIG_BYTES if claims.kind is EvidenceKind.SGX else 0
    return claims.init_data_digest.ljust(size, b"\0").hex()


def _measured(claims: Claims) -> dict[str, Any]:
    if claims.kind is EvidenceKind.TDX:
        names = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3")
        registers = zip(names, claims.measurement.split(":"), strict=False)  # the run-time ones may be absent
        return {**dict(registers), "mr_owner": claims.signer}
    if claims.kind is not EvidenceKind.SGX:
        pcrs = {f"pcr{number:02}": value for number, value in sorted(claims.pcrs.items())}
        return {"measurement": claims.measurement, "signer": claims.signer, **pcrs}
    return {
        "mr_enclave": claims.measurement,
        "mr_signer": claims.signer,
        "isv_prod_id": claims.product_id,
        "isv_svn": claims.svn,
    }
