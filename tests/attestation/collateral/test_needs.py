"""What a quote needs, read from it alone; names of items are read back, and nothing else is."""

from __future__ import annotations

import base64
import json
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collateral_rig import NOW, Simulated
from mutants import mutate_bytes
from strongroom.attestation.collateral.needs import (
    AmdItem,
    DcapItem,
    Item,
    VcekItem,
    authority_of,
    item_of,
    needs,
)
from strongroom.attestation.evidence import MAX_QUOTE, Evidence, EvidenceKind
from strongroom.attestation.snp_report import SigningKey
from strongroom.errors import EvidenceError, StrongroomError
from strongroom_simulator.snp import SnpPlatform

Code = Callable[..., str | None]
_digits = st.text("0123456789abcdef", min_size=12, max_size=12)
_dcap = st.builds(
    DcapItem,
    st.sampled_from([EvidenceKind.SGX, EvidenceKind.TDX]),
    _digits,
    st.sampled_from(["platform", "processor"]),
)
_amd = st.builds(AmdItem, st.sampled_from(["Milan", "Genoa", "Turin"]), st.sampled_from(SigningKey))
_tcb = st.binary(min_size=8, max_size=8)
_vcek = st.builds(
    VcekItem, st.sampled_from(["Milan", "Genoa"]), st.binary(min_size=64, max_size=64), _tcb
) | st.builds(VcekItem, st.just("Turin"), st.binary(min_size=8, max_size=8), _tcb)


@given(_dcap | _amd | _vcek)
def test_names_are_read_back_and_are_file_names(item: Item) -> None:
    assert item_of(item.name) == item
    assert set(item.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert len(item.name) < 200


@given(st.text(max_size=60) | st.from_regex(r"(sgx|tdx|snp)-[a-z]{0,10}-?[0-9a-f]{0,20}-?[a-z]{0,10}"))
def test_any_other_name_is_none(text: str) -> None:
    item = item_of(text)
    assert item is None or item.name == text


@pytest.mark.parametrize(
    "name",
    [
        "",
        "sgx-00606A000000-platform",
        "sgx-00606a00000-platform",
        "sgx-00606a000000-root",
        "snp-00606a000000-platform",
        "sgx-00606a000000-platform\n",
        "snp-rome-vcek",
        "snp-milan-ark",
        "snp-turin-" + "0" * 128 + "-" + "0" * 16,
        "snp-milan-" + "0" * 16 + "-" + "0" * 16,
        "../sgx-00606a000000-platform",
    ],
)
def test_names_that_are_none(name: str) -> None:
    assert item_of(name) is None


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("SGX_v3_00606A000000_133e", "sgx-00606a000000-platform"),
        ("SGX_v3_00A067110000", "sgx-00a067110000-processor"),
        ("TDX_v4_00806F050000", "tdx-00806f050000-platform"),
        ("TDX_v5_90C06F000000", "tdx-90c06f000000-platform"),
    ],
)
def test_real_quotes(name: str, item: str, vector: Callable[[str], tuple[Evidence, int]]) -> None:
    evidence, _ = vector(name)
    ((found,),) = needs(evidence.kind, evidence.quote)
    assert found.name == item


def test_a_quote_of_the_other_tee(simulated: Simulated, code_of: Code) -> None:
    evidence = simulated.evidence(EvidenceKind.SGX)
    assert code_of(needs, EvidenceKind.TDX, evidence.quote) == "evidence-malformed"
    evidence = simulated.evidence(EvidenceKind.TDX)
    assert code_of(needs, EvidenceKind.SGX, evidence.quote) == "evidence-malformed"


@pytest.mark.parametrize("kind", EvidenceKind)
def test_too_large(kind: EvidenceKind, code_of: Code) -> None:
    assert code_of(needs, kind, bytes(MAX_QUOTE + 1)) == "evidence-too-large"


def test_an_encrypted_ppid_is_said_to_be_unsupported(simulated: Simulated) -> None:
    """Certification data of type 3: Intel gives the certificate to the platform's registered owner only."""
    quote = bytearray(simulated.evidence().quote)
    place = bytes(quote).index(b"-----BEGIN CERTIFICATE-----")
    size = 384 + 16 + 2 + 2
    kind, length = struct.unpack_from("<HI", quote, place - 6)
    assert (kind, length) == (5, len(quote) - place)
    struct.pack_into("<HI", quote, place - 6, 3, size)
    cut = place - 6 - 32 - 2 - 64 - 384 - 64 - 64 - 4
    struct.pack_into("<I", quote, cut, len(quote[:place]) - cut - 4 + size)
    with pytest.raises(EvidenceError) as caught:
        needs(EvidenceKind.SGX, bytes(quote[:place]) + bytes(size))
    assert caught.value.code == "collateral-unavailable"
    assert caught.value.expected == "certification data of type 5"
    assert "PCK" in caught.value.detail


def test_a_hidden_chip(simulated: Simulated, code_of: Code) -> None:
    report = bytearray(simulated.snp_evidence().quote)
    report[0x1A0:0x1E0] = bytes(64)
    assert code_of(needs, EvidenceKind.SNP, bytes(report)) == "collateral-unavailable"


def test_a_vlek(simulated: Simulated, code_of: Code) -> None:
    report = bytearray(simulated.snp_evidence().quote)
    report[0x48] = 1 << 2
    assert code_of(needs, EvidenceKind.SNP, bytes(report)) == "collateral-unavailable"


def test_a_turin_has_eight_bytes_of_chip_id(simulated: Simulated) -> None:
    report = bytearray(simulated.snp_evidence().quote)
    report[0x188:0x18A] = bytes((0x1A, 0x02))
    ((vcek, authority),) = needs(EvidenceKind.SNP, bytes(report))
    assert isinstance(vcek, VcekItem)
    assert vcek.chip_id == b"\x44" * 8
    assert authority.name == "snp-turin-vcek"


def test_authorities_by_issuer(testdata: Path, simulated: Simulated) -> None:
    vector = json.loads((testdata / "vectors/evidence/SNP_milan_trustee_vlek.json").read_text())
    body = base64.encodebytes(base64.b64decode(vector["ek"])).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
    assert authority_of(pem) == AmdItem("Milan", SigningKey.VLEK)
    assert authority_of(simulated.snp.collateral()["vek"]) == AmdItem("Milan", SigningKey.VCEK)


def test_an_issuer_that_is_not_amds(simulated: Simulated, code_of: Code) -> None:
    platform = SnpPlatform.create(NOW, bytes(64), product="Rome", rsa_bits=2048)
    assert code_of(authority_of, platform.collateral()["vek"]) == "evidence-chain"
    assert code_of(authority_of, "nothing") == "evidence-certificate"


@pytest.mark.parametrize("kind", [EvidenceKind.SGX, EvidenceKind.TDX, EvidenceKind.SNP])
def test_mutants_are_read_or_refused(kind: EvidenceKind, simulated: Simulated) -> None:
    evidence = simulated.snp_evidence() if kind is EvidenceKind.SNP else simulated.evidence(kind)
    rng = random.Random(7)
    codes: Counter[str | None] = Counter()
    for _ in range(400):
        codes[_code(kind, mutate_bytes(rng, evidence.quote))] += 1
    assert codes[None] > 10
    assert sum(codes.values()) - codes[None] > 10


@given(st.sampled_from(EvidenceKind), st.binary(max_size=2000))
def test_bytes_of_all_sorts(kind: EvidenceKind, data: bytes) -> None:
    assert _code(kind, data) is None or kind not in {EvidenceKind.NITRO, EvidenceKind.TPM}


def _code(kind: EvidenceKind, quote: bytes) -> str | None:
    """The code of the refusal, None where the items have names that are read back."""
    try:
        found = needs(kind, quote)
    except StrongroomError as error:
        return error.code
    assert all(item_of(item.name) == item for items in found for item in items)
    return None
