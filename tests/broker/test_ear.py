"""Attestation tokens: Trustee's profile, checked by another library, refused when anything is off."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc import jws
from joserfc.jwk import ECKey

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.devices import verify_devices
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import NVIDIA_ROOT_SHA256, TrustRoots
from strongroom.attestation.verify import verify_evidence
from strongroom.broker import ear, teekey
from strongroom.broker.ear import EarIssuer, status, trust_vector
from strongroom.broker.store import Store
from strongroom_simulator.gpu import GpuPlatform, devices_text

NOW = 1_800_000_000
CLAIMS = Claims(
    kind=EvidenceKind.SGX,
    anchor=Anchor.INTEL,
    root_sha256="0" * 64,
    measurement="11" * 32,
    signer="22" * 32,
    report_data=bytes(range(64)),
    init_data_digest=bytes(48),
    tcb_status="UpToDate",
    advisories=(),
    debug=False,
    product_id=1,
    svn=2,
    expires=NOW + 1000,
    fmspc="00a067110000",
)
RUNTIME = {
    "nonce": "n",
    "tee-pubkey": teekey.to_jwk(teekey.generate().public_key()),
}
ISSUER = EarIssuer(ec.generate_private_key(ec.SECP256R1()))


def issue(issuer: EarIssuer = ISSUER, claims: Claims = CLAIMS, now: int = NOW) -> str:
    return issuer.issue(claims, runtime_data=RUNTIME, token_id="session", policy_id="sha256:x", now=now)


def parts(token: str) -> list[Any]:
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]


def spelled(header: Any, members: Any, signature: str) -> str:
    texts = [json.dumps(part, ensure_ascii=False).encode("utf-8", "replace") for part in (header, members)]
    return ".".join([*(base64.urlsafe_b64encode(text).rstrip(b"=").decode() for text in texts), signature])


def resigned(issuer: EarIssuer, header: dict[str, Any], members: Any) -> str:
    return jws.serialize_compact(header, json.dumps(members).encode(), issuer._key, algorithms=["ES256"])


def test_a_token_has_the_form_of_trustees_example(testdata: Path) -> None:
    example = json.loads((testdata / "vectors" / "kbs" / "example.token.json").read_text())
    _, members = parts(issue())
    assert members["eat_profile"] == example["eat_profile"]
    assert set(members) - {"iss", "jti"} == set(example)
    assert set(members["ear.verifier-id"]) == set(example["ear.verifier-id"])
    ours, theirs = members["submods"]["cpu0"], example["submods"]["cpu0"]
    assert set(ours) == set(theirs)
    assert list(ours["ear.trustworthiness-vector"]) == list(theirs["ear.trustworthiness-vector"])
    ours, theirs = ours["ear.veraison.annotated-evidence"], theirs["ear.veraison.annotated-evidence"]
    assert set(ours) == set(theirs)
    for name in ("init_data", "report_data"):
        assert len(ours[name]) == len(theirs[name])
    assert set(ours["sgx"]["body"]) - set(theirs["sgx"]["body"]) == set()


def test_the_header_is_that_of_the_profile() -> None:
    header, _ = parts(issue())
    assert list(header) == ["typ", "alg", "jwk"]
    assert (header["typ"], header["alg"]) == ("JWT", "ES256")
    assert header["jwk"] == ISSUER.jwk
    assert set(header["jwk"]) == {"kty", "crv", "x", "y", "alg"}


def test_another_library_verifies_with_the_key_in_the_header() -> None:
    token = issue()
    key = ECKey.import_key(dict(parts(token)[0]["jwk"]))
    checked = jws.deserialize_compact(token, key, algorithms=["ES256"])
    assert json.loads(checked.payload)["submods"]["cpu0"]["ear.status"] == "affirming"


def test_a_token_reads_back() -> None:
    members = ISSUER.read(issue())
    assert (members["iat"], members["exp"], members["jti"]) == (NOW, NOW + 300, "session")
    cpu0 = members["submods"]["cpu0"]
    assert cpu0["ear.appraisal-policy-id"] == "sha256:x"
    evidence = cpu0["ear.veraison.annotated-evidence"]
    assert evidence["runtime_data_claims"] == RUNTIME
    assert evidence["sgx"]["body"]["mr_enclave"] == "11" * 32
    assert evidence["report_data"] == bytes(range(64)).hex()
    assert evidence["init_data"] == "00" * 64


def test_a_tds_registers_are_told_apart() -> None:
    registers = ":".join(f"{number}{number}" * 48 for number in range(5))
    claims = replace(CLAIMS, kind=EvidenceKind.TDX, measurement=registers)
    evidence = parts(issue(claims=claims))[1]["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    body = evidence["tdx"]["body"]
    assert [body[name] for name in ("mr_td", "rtmr_0", "rtmr_3")] == ["00" * 48, "11" * 48, "44" * 48]
    assert len(evidence["init_data"]) == 96
    bare = replace(claims, measurement="ab" * 48)
    body = parts(issue(claims=bare))[1]["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["tdx"]["body"]
    assert body["mr_td"] == "ab" * 48
    assert "rtmr_0" not in body


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (CLAIMS, "affirming"),
        (replace(CLAIMS, tcb_status="SWHardeningNeeded"), "warning"),
        (replace(CLAIMS, debug=True), "contraindicated"),  # its host can read it
        (replace(CLAIMS, revocation_checked=False), "warning"),
        (replace(CLAIMS, migratable=True), "warning"),
        (replace(CLAIMS, kind=EvidenceKind.TPM), "affirming"),
        (replace(CLAIMS, anchor=Anchor.SIMULATED), "contraindicated"),
    ],
)
def test_the_worst_claim_gives_the_status(claims: Claims, expected: str) -> None:
    assert status(trust_vector(claims)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1, "none"), (0, "none"), (1, "none"), (2, "affirming"), (31, "affirming"), (32, "warning"),
     (95, "warning"), (96, "contraindicated"), (127, "contraindicated")],
)  # fmt: skip
def test_the_tiers_of_ar4si(value: int, expected: str) -> None:
    assert status({"hardware": value, "configuration": 0}) == expected


def test_a_token_of_another_key_is_refused(refused) -> None:
    other = EarIssuer(ec.generate_private_key(ec.SECP256R1()))
    with refused("token-invalid"):
        ISSUER.read(issue(other))


def test_a_token_is_verified_with_our_key_not_the_one_it_brings(refused) -> None:
    other = EarIssuer(ec.generate_private_key(ec.SECP256R1()))
    header, members = parts(issue(other))
    with refused("token-invalid"):
        ISSUER.read(resigned(other, {**header, "jwk": other.jwk}, members))


def test_a_token_of_another_issuer_with_our_key_is_refused(refused) -> None:
    header, members = parts(issue())
    for change in ({"iss": "someone"}, {"iss": None}):
        with refused("token-invalid"):
            ISSUER.read(resigned(ISSUER, header, {**members, **change}))


def test_no_other_algorithm_is_accepted(refused) -> None:
    header, members = parts(issue())
    for algorithm in ("none", "HS256", "ES384", ""):
        with refused("token-invalid"):
            ISSUER.read(spelled({**header, "alg": algorithm}, members, issue().split(".")[2]))
        with refused("token-invalid"):
            ISSUER.read(spelled({**header, "alg": algorithm}, members, ""))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "\u00e9.b.c", "x" * (ear.MAX_TOKEN + 1), "a.b.c.d.e"]
)
def test_what_is_no_token_is_refused(refused, token: str) -> None:
    with refused("token-invalid"):
        ISSUER.read(token)


def test_every_flipped_character_is_refused() -> None:
    token = issue()
    for at, character in enumerate(token):
        changed = token[:at] + ("A" if character != "A" else "B") + token[at + 1 :]
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- the code is checked
            ISSUER.read(changed)
        assert getattr(caught.value, "code", None) == "token-invalid", at


def test_the_key_is_kept_in_the_store(store: Store) -> None:
    first, second = EarIssuer.of(store), EarIssuer.of(store)
    assert first.jwk == second.jwk
    assert second.read(issue(first))["jti"] == "session"


@pytest.mark.slow
def test_mutants(mutants, survey) -> None:
    header, members = parts(issue())
    signature = issue().split(".")[2]

    def inputs() -> Iterator[str]:
        plain = issue().encode()
        for data in mutants(plain.decode(), lambda value: str(value).encode("utf-8", "replace"), 6_000, 1):
            yield data.decode("utf-8", "replace")
        for value in mutants([header, members], lambda v: json.dumps(v).encode(), 4_000, 2):
            yield spelled_from(value)
        for value in mutants(members, lambda v: json.dumps(v).encode(), 10_000, 3):
            yield signed_anew(value)

    def spelled_from(value: bytes) -> str:
        try:
            first, second = json.loads(value)
        except (ValueError, TypeError):
            first, second = header, value.decode("utf-8", "replace")
        return spelled(first, second, signature)

    def signed_anew(value: bytes) -> str:
        return jws.serialize_compact(header, value, ISSUER._key, algorithms=["ES256"])

    outcomes = survey(ISSUER.read, inputs())
    assert sum(outcomes.values()) == 20_000
    assert outcomes.keys() <= {"ok", "token-invalid"}
    assert outcomes["ok"] > 1_000  # our own signature over members that do not matter here
    assert outcomes["token-invalid"] > 5_000


def test_a_gpu_is_a_submodule_of_its_own() -> None:
    platform = GpuPlatform.create(NOW)
    text = devices_text([(platform.report(b"n" * 32), platform.chain_pem)])
    roots = TrustRoots(frozenset({platform.root_sha256}))
    (device,) = verify_devices(text, nonce=b"n" * 32, roots=roots, now=NOW)
    real = replace(device, gpu=replace(device.gpu, root_sha256=NVIDIA_ROOT_SHA256), differing=())
    for each, expected in (
        (device, "contraindicated"),  # simulated
        (real, "affirming"),
        (replace(real, differing=None), "warning"),
        (replace(real, differing=(3,)), "warning"),
    ):
        submods = parts(issue(claims=replace(CLAIMS, devices=(each,))))[1]["submods"]
        assert set(submods) == {"cpu0", "gpu0"}
        assert submods["gpu0"]["ear.status"] == expected
        assert submods["gpu0"]["ear.veraison.annotated-evidence"]["nvidia"] == each.to_json()


def vector_of(claims: Claims) -> dict[str, int]:
    return {name: value for name, value in trust_vector(claims).items() if value}


def _certificates(vector: dict[str, Any], *names: str) -> str:
    return "".join(ssl.DER_cert_to_PEM_cert(base64.b64decode(vector[name])) for name in names)


@pytest.mark.parametrize("name", ["SNP_milan_trustee", "SNP_milan_trustee_vlek", "SNP_genoa_azure"])
def test_the_vector_of_real_snp_guests(testdata: Path, name: str) -> None:
    vector = json.loads((testdata / f"vectors/evidence/{name}.json").read_text())
    collateral = {"vek": _certificates(vector, "ek"), "chain": _certificates(vector, "ask", "ark")}
    evidence = Evidence(EvidenceKind.SNP, base64.b64decode(vector["report"]), collateral)
    claims = verify_evidence(evidence, TrustRoots(), vector["now"])
    good = {"configuration": 2, "executables": 3, "hardware": 2, "runtime-opaque": 2}
    # These come without AMD's revocation list, so nobody knows whether the chip is still trusted.
    assert vector_of(claims) == good | {"hardware": 32, "configuration": 32 if claims.migratable else 2}
    checked = replace(claims, revocation_checked=True, migratable=False)
    assert vector_of(checked) == good
    members = parts(issue(claims=checked))[1]["submods"]["cpu0"]
    assert members["ear.status"] == "affirming"
    shown = members["ear.veraison.annotated-evidence"]["snp"]["body"]
    assert (shown["measurement"], shown["signer"]) == (claims.measurement, claims.signer)


@pytest.mark.parametrize(
    ("name", "expected", "tier"),
    [
        ("NITRO_prod", {"configuration": 2, "hardware": 2, "runtime-opaque": 32}, "warning"),
        ("NITRO_debug", {"configuration": 32, "hardware": 2, "runtime-opaque": 96}, "contraindicated"),
    ],
)
def test_the_vector_of_real_nitro_enclaves(
    testdata: Path, name: str, expected: dict[str, int], tier: str
) -> None:
    vector = json.loads((testdata / f"vectors/evidence/{name}.json").read_text())
    evidence = Evidence(EvidenceKind.NITRO, base64.b64decode(vector["doc"]))
    claims = verify_evidence(evidence, TrustRoots(), vector["now"])
    assert vector_of(claims) == {"executables": 3} | expected
    members = parts(issue(claims=claims))[1]["submods"]["cpu0"]
    assert members["ear.status"] == tier
    shown = members["ear.veraison.annotated-evidence"]
    assert shown["nitro"]["body"]["measurement"] == claims.measurement
    assert shown["report_data"] == claims.report_data.hex()


@pytest.mark.parametrize("kind", EvidenceKind)
def test_every_kind_has_a_token(kind: EvidenceKind) -> None:
    claims = replace(CLAIMS, kind=kind)
    members = parts(issue(claims=claims))[1]["submods"]["cpu0"]
    assert kind in members["ear.veraison.annotated-evidence"]
    assert members["ear.status"] == ("warning" if kind is EvidenceKind.NITRO else "affirming")
    simulated = replace(claims, anchor=Anchor.SIMULATED)
    assert parts(issue(claims=simulated))[1]["submods"]["cpu0"]["ear.status"] == "contraindicated"
    assert trust_vector(simulated)["runtime-opaque"] == 0


def test_a_tpm_says_which_machine_and_nothing_of_its_memory() -> None:
    assert vector_of(replace(CLAIMS, kind=EvidenceKind.TPM)) == {
        "instance-identity": 2,
        "configuration": 2,
        "executables": 3,
        "hardware": 2,
    }


def test_a_token_of_archived_evidence_says_as_of_when() -> None:
    token = ISSUER.issue(
        CLAIMS, runtime_data={}, token_id="t", policy_id="sha256:x", now=NOW, appraised_at=NOW - 86400
    )
    members = ISSUER.read(token)
    assert (members["iat"], members[ear.APPRAISED_AT]) == (NOW, NOW - 86400)
    assert ear.APPRAISED_AT not in ISSUER.read(issue())


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        ),
    ],
    ids=["empty", "none", "P-384", "Ed25519", "encrypted"],
)
def test_another_key_makes_no_tokens(refused, pem: bytes) -> None:
    with refused("token-key-unusable"):
        EarIssuer.from_pem(pem, issuer="me")
