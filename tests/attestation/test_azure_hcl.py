"""Azure confidential VMs: recorded evidence verifies; of simulated evidence each check alone refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from mutants import mutants, mutate_bytes
from strongroom.attestation.azure_hcl import MAX_REPORT, AzureClaims, HclReport, check_hardware, verify
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.snp_report import SnpReport
from strongroom.attestation.tpm_reader import TpmHash
from strongroom.attestation.tpm_structures import frame_rsassa
from strongroom.codec import b64
from strongroom.errors import EvidenceError

CodeOf = Callable[..., str | None]

AK = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
NONCE = b"a nonce of the relying party"
PCRS = {TpmHash.SHA256: {number: bytes([number]) * 32 for number in range(24)}}
SNP, TDX = 2, 4
HEADER = 32
REQUEST = HEADER + 1184


@dataclass(frozen=True)
class Recorded:
    """Evidence of a real VM."""

    hcl: bytes
    attest: bytes
    signature: bytes
    pcrs: dict[TpmHash, dict[int, bytes]]
    nonce: bytes
    vcek: str

    def verify(self, **changes: Any) -> AzureClaims:
        parts = replace(self, **changes)
        return verify(parts.hcl, parts.attest, parts.signature, nonce=parts.nonce, pcrs=parts.pcrs)


@pytest.fixture(scope="module")
def recorded(testdata: Path) -> Recorded:
    vector = json.loads((testdata / "vectors/evidence/AZVTPM_snp_evidence-v2.json").read_text())
    quote = vector["tpm_quote"]
    attest = bytes.fromhex(quote["message"])
    registers = {number: bytes.fromhex(value) for number, value in enumerate(quote["pcrs"])}
    return Recorded(
        hcl=base64.urlsafe_b64decode(vector["hcl_report"]),
        attest=attest,
        signature=frame_rsassa(bytes.fromhex(quote["signature"])),
        pcrs={TpmHash.SHA256: registers},
        nonce=attest[44:92],  # after the head, the qualified signer and two lengths
        vcek=vector["vcek"],
    )


# Recorded evidence


def test_recorded_evidence_verifies(recorded: Recorded) -> None:
    claims = recorded.verify()
    assert claims.report.kind is EvidenceKind.SNP
    assert claims.report.hardware_report == recorded.hcl[32 : 32 + 1184]
    assert claims.report.report_data[:32] == hashlib.sha256(runtime_of(recorded.hcl)).digest()
    assert claims.report.report_data[32:] == bytes(32)
    assert claims.report.ak.key_size == 2048
    assert claims.report.vm_configuration["secure-boot"] is True
    assert claims.report.vm_configuration["vmUniqueId"] == "7DF7B373-B947-4AAA-96E5-C358F2A03D20"
    assert claims.report.user_data == recorded.nonce.ljust(64, b"\0")
    assert claims.tpm.nonce.hex().startswith("982f5c6e45df0ed3")
    assert len(claims.tpm.nonce) == 48
    assert claims.tpm.ak_name == ""
    assert claims.tpm.pcrs["sha256"][7].startswith("f014e5cbfa297ee7")
    assert len(claims.tpm.pcrs["sha256"]) == 24
    assert (claims.tpm.reset_count, claims.tpm.restart_count, claims.tpm.safe) == (2, 0, True)
    assert claims.tpm.firmware_version == 0x2020_0312_0012_0003


def test_the_hardware_report_within_is_signed_by_its_chip(recorded: Recorded) -> None:
    """What is verified elsewhere is there to be verified."""
    report = SnpReport.parse(recorded.verify().report.hardware_report)
    chip = x509.load_der_x509_certificate(base64.urlsafe_b64decode(recorded.vcek))
    key: Any = chip.public_key()
    key.verify(encode_dss_signature(report.r, report.s), report.signed, ec.ECDSA(hashes.SHA384()))
    check_hardware(recorded.verify(), EvidenceKind.SNP, report.report_data)


def runtime_of(hcl: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", hcl, REQUEST + 16)
    return hcl[REQUEST + 20 : REQUEST + 20 + length]


def test_a_single_bit_of_the_recorded_attestation(recorded: Recorded, code_of: CodeOf) -> None:
    for at in range(len(recorded.attest)):
        for bit in range(8):
            changed = bytearray(recorded.attest)
            changed[at] ^= 1 << bit
            assert code_of(recorded.verify, attest=bytes(changed)) == "evidence-signature", (at, bit)


def test_a_single_bit_of_the_recorded_report(recorded: Recorded, code_of: CodeOf) -> None:
    """Head, report data and runtime data; the rest of the hardware report is for its own signature."""
    hardware = range(HEADER, REQUEST)
    bound = range(HEADER + 0x50, HEADER + 0x50 + 32)
    for at in range(len(recorded.hcl)):
        changed = bytearray(recorded.hcl)
        changed[at] ^= 1 << at % 8
        code = code_of(recorded.verify, hcl=bytes(changed))
        if at in hardware and at not in bound:
            assert code is None, at
        elif at in bound or REQUEST + 20 <= at < REQUEST + 20 + len(runtime_of(recorded.hcl)):
            assert code == "evidence-binding", at
        else:
            # The version has two values that are known: one bit apart they are not.
            assert code in {"evidence-format", "evidence-malformed", "evidence-algorithm"}, at


def test_recorded_evidence_with_one_part_of_another(recorded: Recorded, code_of: CodeOf) -> None:
    other = {TpmHash.SHA256: recorded.pcrs[TpmHash.SHA256] | {14: bytes(32)}}
    assert code_of(recorded.verify, pcrs=other) == "evidence-binding"
    assert code_of(recorded.verify, nonce=recorded.nonce[:-1]) == "evidence-nonce"
    forged = Simulated()
    assert code_of(recorded.verify, hcl=forged.hcl()) == "evidence-signature"
    assert code_of(recorded.verify, signature=recorded.signature[6:]) == "evidence-algorithm"


# Simulated evidence


def jwk(key: rsa.RSAPrivateKey = AK, **changes: Any) -> dict[str, Any]:
    modulus = key.public_key().public_numbers().n.to_bytes(key.key_size // 8)
    good = {"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": b64.encode_url(modulus)}
    return {name: value for name, value in (good | changes).items() if value is not None}


def runtime(**changes: Any) -> bytes:
    good = {
        "keys": [jwk(), jwk(OTHER, kid="HCLEkPub", key_ops=["encrypt"])],
        "vm-configuration": {"secure-boot": True, "vmUniqueId": "0"},
        "user-data": "00" * 64,
    }
    value = {name: value for name, value in (good | changes).items() if value is not None}
    return json.dumps(value, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Simulated:
    """Evidence of a VM, good as it stands; `replace` changes one thing."""

    kind: int = SNP
    runtime: bytes = runtime()
    magic: bytes = b"HCLA"
    version: int = 2
    request: int = 2
    status: int = 0
    reserved: bytes = bytes(12)
    request_version: int = 1
    digest: int = 1
    bound: bytes | None = None
    td_type: int = 0x81
    padding: bytes = bytes(160)
    more: int = 0
    whole_more: int = 0
    size_more: int = 0
    tail: bytes = bytes(100)

    def hardware(self) -> bytes:
        bound = hashlib.sha256(self.runtime).digest() if self.bound is None else self.bound
        place = {SNP: 0x50, TDX: 0x80}.get(self.kind, 0x50)
        report = bytearray(b"\x99" * (1024 if self.kind == TDX else 1184))
        report[0] = self.td_type
        report[place : place + 64] = bound.ljust(64, b"\0")
        return bytes(report) + (self.padding if self.kind == TDX else b"")

    def hcl(self) -> bytes:
        length = len(self.runtime) + self.more
        whole = REQUEST + 20 + length + self.whole_more
        return (
            struct.pack("<4s4I", self.magic, self.version, whole, self.request, self.status)
            + self.reserved
            + self.hardware()
            + struct.pack(
                "<5I", 20 + length + self.size_more, self.request_version, self.kind, self.digest, length
            )
            + self.runtime
            + self.tail
        )

    def verify(self, key: rsa.RSAPrivateKey = AK) -> AzureClaims:
        return verify(self.hcl(), ATTEST, sign(key), nonce=NONCE, pcrs=PCRS)


def attest() -> bytes:
    signer = b"\x00\x0b" + b"\x77" * 32
    digest = hashlib.sha256(b"".join(PCRS[TpmHash.SHA256].values())).digest()
    return (
        struct.pack(">IHH", 0xFF544347, 0x8018, len(signer))
        + signer
        + struct.pack(">H", len(NONCE))
        + NONCE
        + struct.pack(">QIIBQ", 1, 2, 3, 1, 4)
        + struct.pack(">IHB3s", 1, 0x0B, 3, b"\xff" * 3)
        + struct.pack(">H", 32)
        + digest
    )


def sign(key: rsa.RSAPrivateKey) -> bytes:
    return frame_rsassa(key.sign(ATTEST, padding.PKCS1v15(), hashes.SHA256()))


ATTEST = attest()


@pytest.mark.parametrize(("kind", "named"), [(SNP, EvidenceKind.SNP), (TDX, EvidenceKind.TDX)])
@pytest.mark.parametrize("version", [1, 2])
def test_simulated_evidence_verifies(kind: int, named: EvidenceKind, version: int) -> None:
    made = Simulated(kind=kind, version=version)
    claims = made.verify()
    assert claims.report.kind is named
    assert claims.report.hardware_report == made.hardware()[: 1024 if kind == TDX else 1184]
    assert claims.report.report_data == hashlib.sha256(made.runtime).digest().ljust(64, b"\0")
    assert claims.report.ak == AK.public_key()
    assert claims.tpm.nonce == NONCE
    check_hardware(claims, named, claims.report.report_data)


def test_hardware_evidence_of_another_vm(code_of: CodeOf) -> None:
    claims = Simulated().verify()
    own = claims.report.report_data
    for kind, data in (
        (EvidenceKind.TDX, own),
        (EvidenceKind.SNP, bytes(64)),
        (EvidenceKind.SNP, own[:32]),
        (EvidenceKind.SNP, own[:63] + b"\x01"),
    ):
        assert code_of(check_hardware, claims, kind, data) == "evidence-binding"


def test_a_quote_by_another_ak(code_of: CodeOf) -> None:
    assert code_of(Simulated().verify, OTHER) == "evidence-signature"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"magic": b"HCLB"}, "evidence-format"),
        ({"version": 0}, "evidence-format"),
        ({"version": 3}, "evidence-format"),
        ({"request": 1}, "evidence-format"),
        ({"request_version": 2}, "evidence-format"),
        ({"kind": 1}, "evidence-format"),
        ({"kind": 3}, "evidence-format"),
        ({"digest": 0}, "evidence-algorithm"),
        ({"digest": 2}, "evidence-algorithm"),
        ({"status": 1}, "evidence-malformed"),
        ({"reserved": bytes(11) + b"\x01"}, "evidence-malformed"),
        ({"more": -1}, "evidence-malformed"),
        ({"more": 1}, "evidence-binding"),
        ({"more": 101}, "evidence-malformed"),
        ({"more": 2**31}, "evidence-malformed"),
        ({"whole_more": 1}, "evidence-malformed"),
        ({"size_more": 1}, "evidence-malformed"),
        ({"tail": bytes(99) + b"\x01"}, "evidence-malformed"),
        ({"tail": bytes(MAX_REPORT)}, "evidence-too-large"),
        ({"kind": TDX, "td_type": 0}, "evidence-malformed"),
        ({"kind": TDX, "padding": bytes(159) + b"\x01"}, "evidence-malformed"),
        ({"bound": hashlib.sha256(b"").digest()}, "evidence-binding"),
        ({"bound": hashlib.sha384(runtime()).digest()}, "evidence-binding"),
    ],
)
def test_a_report_with_one_thing_wrong(changes: dict[str, Any], code: str, code_of: CodeOf) -> None:
    assert code_of(Simulated(**changes).verify) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "evidence-malformed"),
        (b"[]", "evidence-malformed"),
        (runtime() + b" x", "evidence-malformed"),
        (runtime()[:-1], "evidence-malformed"),
        (b"\xef\xbb\xbf" + runtime(), "evidence-malformed"),
        (runtime()[:-1] + b',"keys":[]}', "evidence-malformed"),
        (runtime(keys=None), "evidence-malformed"),
        (runtime(keys={}), "evidence-malformed"),
        (runtime(keys=[]), "evidence-malformed"),
        (runtime(keys=[jwk(), jwk(OTHER)]), "evidence-malformed"),
        (runtime(keys=[jwk()] + [jwk(OTHER, kid="x")] * 8), "evidence-malformed"),
        (runtime(keys=[jwk(kid="HCLEkPub")]), "evidence-malformed"),
        (runtime(keys=[jwk(kty="EC")]), "evidence-key"),
        (runtime(keys=[jwk(key_ops=["encrypt"])]), "evidence-key"),
        (runtime(keys=[jwk(key_ops=["sign", "decrypt"])]), "evidence-key"),
        (runtime(keys=[jwk(key_ops=None)]), "evidence-key"),
        (runtime(keys=[jwk(e="Aw")]), "evidence-key"),
        (runtime(keys=[jwk(e="AQAB=")]), "evidence-malformed"),
        (runtime(keys=[jwk(e=65537)]), "evidence-malformed"),
        (runtime(keys=[jwk(n=None)]), "evidence-malformed"),
        (runtime(keys=[jwk(n="")]), "evidence-key"),
        (runtime(keys=[jwk(n=b64.encode_url(b"\xff" * 128))]), "evidence-key"),
        (runtime(keys=[jwk(n=b64.encode_url(b"\xff" * 513))]), "evidence-malformed"),
        (runtime(**{"vm-configuration": None}), "evidence-malformed"),
        (runtime(**{"vm-configuration": []}), "evidence-malformed"),
        (runtime(**{"user-data": "0"}), "evidence-malformed"),
        (runtime(**{"user-data": "00 00"}), "evidence-malformed"),
        (runtime(**{"user-data": "00" * 65}), "evidence-malformed"),
        (runtime(**{"user-data": 0}), "evidence-malformed"),
    ],
)
def test_runtime_data_with_one_thing_wrong(text: bytes, code: str, code_of: CodeOf) -> None:
    """Even when the hardware report binds it."""
    assert code_of(Simulated(runtime=text).verify) == code


def test_members_that_are_not_known_are_allowed() -> None:
    text = runtime(**{"user-data": None, "new": [1]}, keys=[jwk(alg="RS256")])
    assert Simulated(runtime=text).verify().report.user_data == b""


def test_a_truncated_report(code_of: CodeOf) -> None:
    data = Simulated(tail=b"").hcl()
    for size in range(len(data)):
        assert code_of(HclReport.parse, data[:size]) == "evidence-malformed", size
    assert code_of(HclReport.parse, data) is None


# Whatever the input


def test_mutants_of_a_report_raise_our_error_only(survey: Any) -> None:
    rng = random.Random(30)
    seeds = [Simulated().hcl(), Simulated(kind=TDX).hcl()]
    found = survey(HclReport.parse, (mutate_bytes(rng, rng.choice(seeds)) for _ in range(10_000)))
    assert len(found.codes) >= 4
    for _, report in found.accepted:
        assert report.ak == AK.public_key()


def test_mutants_of_bound_runtime_data_raise_our_error_only(survey: Any, json_bytes: Any) -> None:
    """As if the paravisor itself were at fault: the digest always holds."""
    texts = mutants(json.loads(runtime()), json_bytes, 10_000, 31)
    found = survey(HclReport.parse, (Simulated(runtime=text).hcl() for text in texts))
    assert found.codes["evidence-malformed"] > 1_000
    assert found.codes["evidence-key"] > 100


def test_errors_show_nothing_that_cannot_be_printed() -> None:
    for text in (runtime(keys=[jwk(kty="\x1b[31m")]), runtime(keys=[jwk(n="\x1b\x00")])):
        with pytest.raises(EvidenceError) as caught:
            Simulated(runtime=text).verify()
        assert str(caught.value).isprintable()
