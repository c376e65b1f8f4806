"""NVIDIA GPUs: a real report verifies; of made ones each check alone refuses."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from mutants import mutate_bytes
from strongroom.attestation import certificates
from strongroom.attestation.gpu import NVIDIA_ROOT_SHA256, GpuClaims, verify
from strongroom.attestation.gpu_report import MAX_REPORT, GpuReport, OpaqueField
from strongroom.errors import EvidenceError

NOW = 1_800_000_000
DAY = 24 * 3600
TIME = datetime.fromtimestamp(NOW, UTC)
NONCE = bytes(range(32))
DIGESTS = {1: b"\x11" * 48, 2: b"\x22" * 48, 64: b"\x64" * 48}
FIRMWARE = b"\x46" * 48
FIELDS = {
    3: b"550.90.07\0",
    6: bytes.fromhex("009f009601000000"),
    11: b"\xaa",
    14: b"\xb1\x03\0\0",
    15: b"882\0\0",
    16: b"0\0",
    17: b"1010\0",
    18: b"0200\0",
    20: FIRMWARE,
    21: b"\x55",
}
HEADER = 37 + 8
FWID = x509.ObjectIdentifier("2.23.133.5.4.1")
DEVICE_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")
KEYS = [ec.generate_private_key(ec.SECP384R1()) for _ in range(4)]
CodeOf = Callable[..., str | None]


# ---- what a GPU makes


def block(
    index: int, digest: bytes, *, specification: int = 1, kind: int = 1, size: int | None = None
) -> bytes:
    body = struct.pack("<BH", kind, len(digest) if size is None else size) + digest
    return struct.pack("<BBH", index, specification, len(body)) + body


def opaque(fields: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in fields)


def unsigned(
    *,
    nonce: bytes = NONCE,
    blocks: Sequence[bytes] | None = None,
    count: int | None = None,
    fields: Sequence[tuple[int, bytes]] | None = None,
    tail: bytes = b"",
    request: bytes = b"\x11\xe0\x01\xff",
    response: bytes = b"\x11\x60\0\0",
    slot: int = 0,
) -> bytes:
    parts = [block(index, digest) for index, digest in DIGESTS.items()] if blocks is None else blocks
    record = b"".join(parts)
    data = opaque(list(FIELDS.items()) if fields is None else fields) + tail
    number = len(parts) if count is None else count
    return (
        request
        + nonce
        + bytes((slot,))
        + response
        + bytes((number,))
        + len(record).to_bytes(3, "little")
        + record
        + b"\x99" * 32
        + struct.pack("<H", len(data))
        + data
    )


def signed(content: bytes, key: ec.EllipticCurvePrivateKey = KEYS[0]) -> bytes:
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA384())))
    return content + r.to_bytes(48) + s.to_bytes(48)


def report(**changes: Any) -> bytes:
    return signed(unsigned(**changes))


def with_fields(**changes: bytes | None) -> bytes:
    """A report with other values of named fields, or without them."""
    fields = FIELDS | {int(OpaqueField[name]): value for name, value in changes.items()}
    return report(fields=[(kind, value) for kind, value in fields.items() if value is not None])


def composite(issuer: Any, firmware: bytes = FIRMWARE) -> bytes:
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = bytes.fromhex("303d06096086480165030402020430")
    return bytes.fromhex("3081ba020101") + key + digest + firmware


def usage(sign: bool, issue: bool) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, issue, False, False, False)


def device(text: str) -> x509.SubjectAlternativeName:
    value = text.encode()
    return x509.SubjectAlternativeName([x509.OtherName(DEVICE_INFO, bytes((0x0C, len(value))) + value)])


@dataclass(frozen=True)
class Part:
    """One certificate to be made."""

    name: str
    key: Any
    extensions: tuple[x509.ExtensionType, ...]
    days: int = 100


ROOT = Part("root", KEYS[3], (x509.BasicConstraints(True, None), usage(False, True)), 900)
MIDDLE = Part("middle", KEYS[2], (x509.BasicConstraints(True, None), usage(False, True)), 500)
IDENTITY = Part("GH100 A01 GSP BROM", KEYS[1], (x509.BasicConstraints(True, None), usage(False, True)))
SERIAL = device("NVIDIA:GH100:48B02D92494BADF4")
USAGE = usage(True, False)
FIRMWARE_OF = x509.UnrecognizedExtension(FWID, composite(KEYS[1]))
LEAF = Part("leaf", KEYS[0], (USAGE, SERIAL, FIRMWARE_OF), 50)


def issue(parts: Sequence[Part]) -> list[x509.Certificate]:
    """A chain, the leaf first."""
    chain = []
    for part, issuer in zip(parts, [*parts[1:], parts[-1]], strict=True):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, part.name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer.name)]))
            .public_key(part.key.public_key())
            .serial_number(1234)
            .not_valid_before(TIME - timedelta(days=1))
            .not_valid_after(TIME + timedelta(days=part.days))
        )
        for extension in part.extensions:
            builder = builder.add_extension(extension, critical=False)
        chain.append(builder.sign(issuer.key, hashes.SHA384()))
    return chain


def pem(chain: Sequence[x509.Certificate]) -> str:
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)


PARTS = (LEAF, IDENTITY, MIDDLE, ROOT)
CHAIN = issue(PARTS)


def check(data: bytes, chain: Sequence[x509.Certificate] = CHAIN, **changes: Any) -> GpuClaims:
    arguments = {"nonce": NONCE, "now": NOW, "roots": {certificates.sha256(chain[-1])}} | changes
    return verify(data, pem(chain), **arguments)


# ---- the real report


@dataclass(frozen=True)
class Real:
    report: bytes
    chain: str
    now: int


@pytest.fixture(scope="module")
def real(testdata: Path) -> Real:
    vector = json.loads((testdata / "vectors/evidence/GPU_hopper_sample.json").read_text())
    return Real(bytes.fromhex(vector["report"]), vector["chain_pem"], vector["now"])


def test_a_real_report_verifies(real: Real) -> None:
    claims = verify(real.report, real.chain, nonce=real.report[4:36], now=real.now)
    assert claims.root_sha256 == NVIDIA_ROOT_SHA256
    assert claims.nonce == real.report[4:36]
    assert list(claims.measurements) == list(range(1, 65))
    assert claims.measurements[4].startswith("73bbf35822549e28")
    assert (claims.driver_version, claims.vbios_version) == ("550.90.07", "96.00.9F.00.01")
    assert (claims.project, claims.project_sku, claims.chip_sku, claims.chip_sku_mod) == (
        "1010",
        "0200",
        "882",
        "0",
    )
    assert (claims.product, claims.hardware_model) == ("GH100", "GH100 A01 GSP BROM")
    assert (claims.device, claims.board_id) == ("48B02D92494BADF4", "b1030000")
    assert claims.ueid == str(0x53C22BA15E5D68088282DA074ED9FB37AA585771)
    assert claims.fwid.startswith("f5c384aebb579217")
    assert (claims.nvdec0_enabled, claims.protected_pcie) == (False, False)
    assert claims.expires == 253402300799  # the end of the year 9999


def test_no_byte_of_a_real_report_can_change(real: Real) -> None:
    length = len(real.report)
    for place in sorted({*range(HEADER), *range(HEADER, length, 7), *range(length - 4, length)}):
        data = bytearray(real.report)
        data[place] ^= 1 << place % 8
        with pytest.raises(EvidenceError):
            verify(bytes(data), real.chain, nonce=None, now=real.now)


def test_zeros_may_follow_a_real_report(real: Real, code_of: CodeOf) -> None:
    """Driver 580 rounds its reports up."""
    expected = verify(real.report, real.chain, nonce=None, now=real.now)
    for zeros in (1, 15):
        assert verify(real.report + bytes(zeros), real.chain, nonce=None, now=real.now) == expected
    for tail in (bytes(16), b"\1", bytes(3) + b"\1"):
        changed = real.report + tail
        assert code_of(verify, changed, real.chain, nonce=None, now=real.now) == "evidence-malformed"


def test_a_real_report_is_refused_under_another_root_nonce_or_time(real: Real, code_of: CodeOf) -> None:
    def code(**changes: Any) -> str | None:
        return code_of(verify, real.report, real.chain, **({"nonce": None, "now": real.now} | changes))

    assert code() is None
    assert code(roots={certificates.sha256(CHAIN[-1])}) == "evidence-untrusted-root"
    assert code(roots=()) == "evidence-untrusted-root"
    assert code(nonce=bytes(32)) == "evidence-nonce"
    assert code(nonce=b"") == "evidence-nonce"
    assert code(now=1_600_000_000) == "evidence-expired"
    assert code(now=2**60) == "evidence-expired"
    assert code(products={"LS10"}) == "evidence-key"


# ---- a made report, and each check alone


def test_a_made_report_verifies() -> None:
    claims = check(report())
    assert claims.measurements == {index: digest.hex() for index, digest in DIGESTS.items()}
    assert (claims.nonce, claims.fwid, claims.ueid) == (NONCE, FIRMWARE.hex(), "1234")
    assert (claims.nvdec0_enabled, claims.protected_pcie) == (True, False)
    assert claims.device_key_sha256 == certificates.key_sha256(CHAIN[1])
    assert claims.expires == NOW + 50 * DAY
    assert check(report(), nonce=None) == claims
    assert check(report(slot=1, response=b"\x11\x60\0\x21")).nonce == NONCE


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"request": b"\x12\xe0\x01\xff"}, "evidence-format"),
        ({"request": b"\x11\xe1\x01\xff"}, "evidence-format"),
        ({"request": b"\x11\xe0\x03\xff"}, "evidence-format"),
        ({"request": b"\x11\xe0\x00\xff"}, "evidence-format"),
        ({"request": b"\x11\xe0\x01\x01"}, "evidence-format"),
        ({"response": b"\x12\x60\0\0"}, "evidence-format"),
        ({"response": b"\x11\x7f\0\0"}, "evidence-format"),
        ({"response": b"\x11\x60\1\0"}, "evidence-format"),
        ({"response": b"\x11\x60\0\1"}, "evidence-malformed"),
        ({"slot": 1}, "evidence-malformed"),
        ({"slot": 16}, "evidence-malformed"),
        ({"count": 2}, "evidence-malformed"),
        ({"count": 4}, "evidence-malformed"),
        ({"blocks": []}, "evidence-malformed"),
        ({"blocks": [block(0, b"\x11" * 48)]}, "evidence-malformed"),
        ({"blocks": [block(0xF0, b"\x11" * 48)]}, "evidence-malformed"),
        ({"blocks": [block(1, b"\x11" * 48)] * 2}, "evidence-malformed"),
        ({"blocks": [block(1, b"\x11" * 48, specification=2)]}, "evidence-format"),
        ({"blocks": [block(1, b"\x11" * 48, kind=0x81)]}, "evidence-format"),
        ({"blocks": [block(1, b"\x11" * 32)]}, "evidence-format"),
        ({"blocks": [block(1, b"\x11" * 47, size=48)]}, "evidence-malformed"),
        ({"blocks": [block(1, b"\x11" * 49, size=48)]}, "evidence-malformed"),
        ({"fields": [*FIELDS.items(), (3, b"1")]}, "evidence-malformed"),
        ({"tail": b"\0"}, "evidence-malformed"),
        ({"tail": b"\x63\0\1\0"}, "evidence-malformed"),
    ],
)
def test_a_report_of_another_form_is_refused(changes: dict[str, Any], code: str, code_of: CodeOf) -> None:
    assert code_of(check, report(**changes)) == code


def test_a_report_is_used_up_to_its_last_byte(code_of: CodeOf) -> None:
    data = report()
    assert code_of(GpuReport.parse, data) is None
    assert {code_of(GpuReport.parse, data[:length]) for length in range(4, len(data))} <= {
        "evidence-malformed",
        "evidence-format",
    }
    assert None not in {code_of(GpuReport.parse, data[:length]) for length in range(len(data))}
    assert code_of(GpuReport.parse, data + b"\1") == "evidence-malformed"
    assert code_of(GpuReport.parse, data + bytes(16)) == "evidence-malformed"
    assert code_of(GpuReport.parse, bytes(MAX_REPORT + 1)) == "evidence-too-large"
    assert code_of(GpuReport.parse, bytes(MAX_REPORT)) == "evidence-format"


@pytest.mark.parametrize(
    "changes",
    [
        {"DRIVER_VERSION": None},
        {"DRIVER_VERSION": b"\0"},
        {"DRIVER_VERSION": b"550\n"},
        {"DRIVER_VERSION": b"550\0\x001"},
        {"DRIVER_VERSION": b"5" * 33},
        {"DRIVER_VERSION": b"\xef\xbc\x95"},
        {"PROJECT": b"10 10"},
        {"CHIP_SKU": b"\xff"},
        {"VBIOS_VERSION": None},
        {"VBIOS_VERSION": bytes(7)},
        {"VBIOS_VERSION": bytes.fromhex("009f009601000001")},
        {"NVDEC0_STATUS": b"\0"},
        {"NVDEC0_STATUS": b"\xaa\0"},
        {"PROTECTED_PCIE_STATUS": b""},
    ],
)
def test_a_field_of_another_form_is_refused(changes: dict[str, Any], code_of: CodeOf) -> None:
    assert code_of(check, with_fields(**changes)) == "evidence-malformed"


def test_fields_that_older_firmware_does_not_have_may_be_missing() -> None:
    names = ("NVDEC0_STATUS", "PROTECTED_PCIE_STATUS", "PROJECT", "BOARD_ID", "FWID", "CHIP_SKU")
    claims = check(with_fields(**dict.fromkeys(names)))
    assert (claims.nvdec0_enabled, claims.protected_pcie, claims.project, claims.board_id) == (
        None,
        None,
        "",
        "",
    )
    assert claims.fwid == FIRMWARE.hex()
    bare = check(with_fields(FWID=None), issue((replace(LEAF, extensions=(USAGE,)), IDENTITY, MIDDLE, ROOT)))
    assert (bare.device, bare.fwid) == ("", "")


def test_the_nonce_and_the_signature_must_be_right(code_of: CodeOf) -> None:
    assert code_of(check, report(), nonce=b"\1" * 32) == "evidence-nonce"
    assert code_of(check, report(nonce=b"\1" * 32)) == "evidence-nonce"
    assert code_of(check, signed(unsigned(), KEYS[1])) == "evidence-signature"
    assert code_of(check, unsigned() + bytes(96)) == "evidence-signature"
    assert code_of(check, unsigned() + b"\xff" * 96) == "evidence-signature"


def test_the_firmware_is_the_same_in_report_and_certificate(code_of: CodeOf) -> None:
    assert code_of(check, with_fields(FWID=b"\x47" * 48)) == "evidence-binding"
    assert code_of(check, with_fields(FWID=b"")) == "evidence-binding"
    bare = issue((replace(LEAF, extensions=(USAGE, SERIAL)), IDENTITY, MIDDLE, ROOT))
    assert code_of(check, report(), bare) == "evidence-binding"
    for der in (b"", composite(KEYS[2]), composite(KEYS[1])[:-1], composite(KEYS[1]) + b"\0"):
        other = replace(LEAF, extensions=(USAGE, x509.UnrecognizedExtension(FWID, der)))
        chain = issue((other, IDENTITY, MIDDLE, ROOT))
        assert code_of(check, report(), chain) == "evidence-binding"
        assert code_of(check, with_fields(FWID=None), chain) == "evidence-binding"


NO_CA = (x509.BasicConstraints(False, None), usage(False, True))
RSA_LIKE = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ((LEAF, replace(IDENTITY, extensions=NO_CA), MIDDLE, ROOT), "evidence-chain"),
        ((LEAF, replace(IDENTITY, extensions=()), MIDDLE, ROOT), "evidence-chain"),
        (
            (LEAF, IDENTITY, replace(MIDDLE, extensions=(x509.BasicConstraints(True, 0),)), ROOT),
            "evidence-chain",
        ),
        ((replace(LEAF, days=0), IDENTITY, MIDDLE, ROOT), "evidence-expired"),
        ((LEAF, replace(IDENTITY, days=0), MIDDLE, ROOT), "evidence-expired"),
        ((LEAF, IDENTITY, replace(MIDDLE, days=0), ROOT), "evidence-expired"),
        ((LEAF, IDENTITY, MIDDLE, replace(ROOT, days=0)), "evidence-expired"),
        ((LEAF, replace(IDENTITY, name="LS10 A01 BROM"), MIDDLE, ROOT), "evidence-key"),
        ((LEAF, replace(IDENTITY, name="GH100"), MIDDLE, ROOT), "evidence-key"),
        ((LEAF, replace(IDENTITY, name="XGH100 A01 GSP BROM"), MIDDLE, ROOT), "evidence-key"),
        ((replace(LEAF, extensions=(SERIAL, FIRMWARE_OF)), IDENTITY, MIDDLE, ROOT), "evidence-key"),
        ((replace(LEAF, extensions=(usage(False, False), SERIAL)), IDENTITY, MIDDLE, ROOT), "evidence-key"),
        (
            (replace(LEAF, extensions=(*LEAF.extensions, x509.BasicConstraints(True, None))), IDENTITY, ROOT),
            "evidence-key",
        ),
        ((replace(LEAF, key=RSA_LIKE), IDENTITY, MIDDLE, ROOT), "evidence-key"),
        ((replace(LEAF, key=KEYS[2]), IDENTITY, MIDDLE, ROOT), "evidence-signature"),
        (
            (
                replace(LEAF, extensions=(USAGE, device("NVIDIA:GB100:1"), FIRMWARE_OF)),
                IDENTITY,
                MIDDLE,
                ROOT,
            ),
            "evidence-binding",
        ),
        (
            (replace(LEAF, extensions=(USAGE, device("OTHER:GH100:1"), FIRMWARE_OF)), IDENTITY, MIDDLE, ROOT),
            "evidence-certificate",
        ),
        ((LEAF, IDENTITY), "evidence-certificate"),
        ((IDENTITY,), "evidence-certificate"),
    ],
)
def test_each_check_of_the_chain_refuses_alone(parts: tuple[Part, ...], code: str, code_of: CodeOf) -> None:
    now = NOW + DAY // 2
    assert code_of(check, report(), now=now) is None
    assert code_of(check, report(), issue(parts), now=now) == code


def test_the_order_of_the_chain_and_its_issuers_count(code_of: CodeOf) -> None:
    leaf, identity, middle, root = CHAIN
    stranger = issue((replace(LEAF, key=KEYS[0]), replace(IDENTITY, key=KEYS[2]), MIDDLE, ROOT))[0]
    assert code_of(check, report(), [leaf, middle, identity, root]) == "evidence-chain"
    assert code_of(check, report(), [leaf, identity, root]) == "evidence-chain"
    assert code_of(check, report(), [stranger, identity, middle, root]) == "evidence-chain"
    assert code_of(check, report(), [leaf, identity, middle], roots={certificates.sha256(root)}) == (
        "evidence-untrusted-root"
    )
    # A root that is pinned and does not sign itself is no end of a chain.
    assert code_of(check, report(), [leaf, identity, middle]) == "evidence-chain"
    other = issue((ROOT,))
    assert code_of(check, report(), [leaf, identity, middle, *other], roots={certificates.sha256(root)}) == (
        "evidence-untrusted-root"
    )


@pytest.mark.parametrize(
    "value",
    [
        b"\x0c\x00",
        b"\x04\x0eNVIDIA:GH100:1",
        b"\x0c\x0fNVIDIA:GH100:\xc3\xa9",
        b"\x0c\x0fNVIDIA:GH100:1\n",
        b"\x0c\x81\x8dNVIDIA:GH100:" + b"1" * 128,
    ],
)
def test_device_information_of_another_form_is_refused(value: bytes, code_of: CodeOf) -> None:
    names = x509.SubjectAlternativeName([x509.OtherName(DEVICE_INFO, value)])
    chain = issue((replace(LEAF, extensions=(USAGE, names, FIRMWARE_OF)), IDENTITY, MIDDLE, ROOT))
    assert code_of(check, report(), chain) == "evidence-certificate"


def test_device_information_is_there_once(code_of: CodeOf) -> None:
    twice = x509.SubjectAlternativeName([*SERIAL, *SERIAL])
    chain = issue((replace(LEAF, extensions=(USAGE, twice, FIRMWARE_OF)), IDENTITY, MIDDLE, ROOT))
    assert code_of(check, report(), chain) == "evidence-certificate"
    other = x509.SubjectAlternativeName([x509.DNSName("gpu")])
    assert (
        check(report(), issue((replace(LEAF, extensions=(USAGE, other, FIRMWARE_OF)), *PARTS[1:]))).device
        == ""
    )


# ---- whatever comes, only our errors leave


def test_mutants_of_a_report_raise_only_our_errors(real: Real, survey: Callable[..., Any]) -> None:
    rng = random.Random(20)
    inputs = (mutate_bytes(rng, rng.choice((real.report, report_of_two))) for _ in range(20_000))
    found = survey(GpuReport.parse, inputs)
    assert set(found.codes) == {"evidence-malformed", "evidence-format"}
    # What parses is bytes that the signature covers: no byte is lost and none is read twice.
    for data, parsed in found.accepted:
        assert parsed.signed + parsed.r.to_bytes(48) + parsed.s.to_bytes(48) == data


report_of_two = report(blocks=[block(1, b"\x11" * 48), block(2, b"\x22" * 48)])


def test_mutants_of_the_whole_evidence_never_verify(survey: Callable[..., Any]) -> None:
    rng = random.Random(21)
    good, chain, roots = report(), pem(CHAIN).encode(), {certificates.sha256(CHAIN[-1])}
    expected = check(good)

    def run(data: bytes) -> GpuClaims:
        return verify(good, data.decode("utf-8", "surrogateescape"), nonce=NONCE, now=NOW, roots=roots)

    found = survey(run, (mutate_bytes(rng, chain) for _ in range(600)))
    assert all(claims == expected for _, claims in found.accepted)  # changes outside the certificates only
    mutated = (mutate_bytes(rng, good) for _ in range(600))
    found = survey(check, (data for data in mutated if data != good))
    assert not found.accepted
