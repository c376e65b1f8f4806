"""For how long parts hold, by their own word; and parts that are not those of an item."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from collateral_rig import DAY, NOW, Simulated
from mutants import mutants
from strongroom.attestation.collateral.needs import AmdItem, DcapItem, VcekItem, needs
from strongroom.attestation.collateral.validity import Period, check, period
from strongroom.attestation.evidence import MAX_COLLATERAL, Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.snp_report import SigningKey
from strongroom.attestation.verify import verify_evidence
from strongroom.errors import StrongroomError

Code = Callable[..., str | None]


@pytest.fixture
def item(simulated: Simulated) -> DcapItem:
    ((found,),) = needs(EvidenceKind.SGX, simulated.evidence().quote)
    assert isinstance(found, DcapItem)
    return found


@pytest.fixture
def parts(simulated: Simulated) -> dict[str, str]:
    return simulated.parts()


def _with(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes}, separators=(",", ":"))


def test_it_is_what_the_verifier_says(vector: Callable[[str], tuple[Evidence, int]]) -> None:
    """dcap-qvl computes the same date, of collateral that it has verified."""
    for name in ("SGX_v3_00A067110000", "TDX_v4_B0C06F000000", "TDX_v5_90C06F000000"):
        evidence, now = vector(name)
        assert evidence.collateral is not None
        assert period(evidence.collateral).expires == verify_evidence(evidence, TrustRoots(), now).expires
        assert period(evidence.collateral).holds(now)


def test_bounds_belong_to_it() -> None:
    span = Period(10, 20)
    assert [now for now in range(30) if span.holds(now)] == list(range(10, 21))


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_each_statement_bounds_it(name: str, parts: dict[str, str]) -> None:
    early = _with(parts[name], nextUpdate="2027-01-20T00:00:00Z")
    assert period({**parts, name: early}).expires == int(datetime(2027, 1, 20, tzinfo=UTC).timestamp())
    late = _with(parts[name], issueDate="2027-01-18T00:00:00Z")
    assert period({**parts, name: late}).issued == int(datetime(2027, 1, 18, tzinfo=UTC).timestamp())


@pytest.mark.parametrize("name", ["pck_crl", "root_ca_crl"])
def test_each_list_bounds_it(name: str, parts: dict[str, str], simulated: Simulated) -> None:
    holder = simulated.pki.platform_ca if name == "pck_crl" else simulated.pki.root
    start = datetime.fromtimestamp(NOW - 100, UTC)
    list_of = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(holder.certificate.subject)
        .last_update(start)
        .next_update(start + timedelta(days=2))
    )
    crl = list_of.sign(holder.key, hashes.SHA256()).public_bytes(Encoding.DER).hex()
    assert period({**parts, name: crl}) == Period(NOW - 100, NOW - 100 + 2 * DAY)


def test_each_chain_bounds_it(simulated: Simulated) -> None:
    """Certificates of chips live for years; one that is over ends all."""
    chain = simulated.snp.collateral()["chain"]
    certificate = x509.load_pem_x509_certificates(chain.encode())[0]
    assert period({"chain": chain}).expires == int(certificate.not_valid_after_utc.timestamp())
    assert (
        period({"chain": chain, "crl": simulated.snp.revocation_list(NOW).hex()}).expires == NOW + 365 * DAY
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tcb_info", "{"),
        ("tcb_info", "[]"),
        ("tcb_info", '{"id":"SGX","issueDate":"2027-01-01T00:00:00Z"}'),
        ("tcb_info", '{"id":"SGX","issueDate":"2027-01-01T00:00:00","nextUpdate":"2027-02-01T00:00:00"}'),
        ("tcb_info", '{"id":"SGX","issueDate":1,"nextUpdate":2}'),
        ("tcb_info", "[" * 100_000),
        ("qe_identity", ""),
        ("pck_crl", "zz"),
        ("pck_crl", "3000"),
        ("root_ca_crl", ""),
        ("tcb_info_issuer_chain", ""),
        ("tcb_info_issuer_chain", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("pck_crl_issuer_chain", "-----BEGIN CERTIFICATE-----\n" * 9),
    ],
)
def test_what_cannot_be_read(name: str, text: str, parts: dict[str, str], code_of: Code) -> None:
    assert code_of(period, {**parts, name: text}) == "collateral-answer-invalid"


def test_nothing_holds_for_no_time(code_of: Code) -> None:
    assert code_of(period, {}) == "collateral-answer-invalid"


def test_a_list_without_an_end(vector: Callable[[str], tuple[Evidence, int]], code_of: Code) -> None:
    """pyca makes none; this is Intel's, cut by hand."""
    evidence, _ = vector("SGX_v3_00606A000000_133e2998")
    assert evidence.collateral is not None
    der = bytes.fromhex(evidence.collateral["pck_crl"])
    crl = x509.load_der_x509_crl(der)
    assert crl.next_update_utc is not None
    end = b"\x17\x0d" + crl.next_update_utc.strftime("%y%m%d%H%M%SZ").encode()
    shorter = bytearray(der.replace(end, b"", 1))
    for place in (2, 6):  # lengths, of two bytes, of the outer SEQUENCE and of the list in it
        length = int.from_bytes(der[place : place + 2])
        shorter[place : place + 2] = (length - len(end)).to_bytes(2)
    assert x509.load_der_x509_crl(bytes(shorter)).next_update_utc is None
    assert code_of(period, {"pck_crl": bytes(shorter).hex()}) == "collateral-answer-invalid"


def test_the_parts_of_an_item_pass(item: DcapItem, parts: dict[str, str], simulated: Simulated) -> None:
    check(item, parts)
    snp = simulated.snp_evidence()
    assert snp.collateral is not None
    ((vcek, authority),) = needs(snp.kind, snp.quote)
    check(vcek, {"vek": snp.collateral["vek"]})
    check(authority, {name: snp.collateral[name] for name in ("chain", "crl")})


@pytest.mark.parametrize(
    "changed",
    [
        DcapItem(EvidenceKind.TDX, "51d000000000", "platform"),
        DcapItem(EvidenceKind.SGX, "00606a000000", "platform"),
        DcapItem(EvidenceKind.SGX, "51d000000000", "processor"),
    ],
)
def test_parts_of_another_item(
    changed: DcapItem, item: DcapItem, parts: dict[str, str], code_of: Code
) -> None:
    assert changed != item
    assert code_of(check, changed, parts) == "collateral-answer-invalid"


def test_the_qe_identity_of_the_other_tee(
    item: DcapItem, parts: dict[str, str], simulated: Simulated, code_of: Code
) -> None:
    other = simulated.parts(EvidenceKind.TDX)["qe_identity"]
    assert code_of(check, item, {**parts, "qe_identity": other}) == "collateral-answer-invalid"


def test_the_tcb_info_of_the_other_tee(
    item: DcapItem, parts: dict[str, str], simulated: Simulated, code_of: Code
) -> None:
    other = simulated.parts(EvidenceKind.TDX)["tcb_info"]
    assert code_of(check, item, {**parts, "tcb_info": other}) == "collateral-answer-invalid"


@pytest.mark.parametrize("name", ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "root_ca_crl"])
def test_parts_that_nobody_compares_must_be_readable(
    name: str, item: DcapItem, parts: dict[str, str], code_of: Code
) -> None:
    assert code_of(check, item, {**parts, name: "-----BEGIN CERTIFICATE-----"}) == "collateral-answer-invalid"


@pytest.mark.parametrize("name", ["tcb_info_signature", "qe_identity_signature"])
@pytest.mark.parametrize("text", ["", "0" * 127, "0" * 129, "g" * 128, "0" * 126 + "\n0"])
def test_signatures_have_128_digits(
    name: str, text: str, item: DcapItem, parts: dict[str, str], code_of: Code
) -> None:
    assert code_of(check, item, {**parts, name: text}) == "collateral-answer-invalid"


def test_a_part_too_few_or_too_many(item: DcapItem, parts: dict[str, str], code_of: Code) -> None:
    fewer = {name: text for name, text in parts.items() if name != "pck_crl"}
    assert code_of(check, item, fewer) == "collateral-answer-invalid"
    assert code_of(check, item, {**parts, "vek": ""}) == "collateral-answer-invalid"


def test_parts_that_fit_no_evidence(item: DcapItem, parts: dict[str, str], code_of: Code) -> None:
    padded = parts["pck_crl_issuer_chain"] + " " * MAX_COLLATERAL
    assert code_of(check, item, {**parts, "pck_crl_issuer_chain": padded}) == "collateral-answer-invalid"
    accent = parts["tcb_info"].replace('"id"', '"\u00e9":1,"id"')
    assert code_of(check, item, {**parts, "tcb_info": accent}) == "collateral-answer-invalid"


def test_authorities_of_another_product_or_key(simulated: Simulated, code_of: Code) -> None:
    own = {"chain": simulated.snp.collateral()["chain"], "crl": simulated.snp.revocation_list(NOW).hex()}
    check(AmdItem("Milan", SigningKey.VCEK), own)
    for other in (AmdItem("Genoa", SigningKey.VCEK), AmdItem("Milan", SigningKey.VLEK)):
        assert code_of(check, other, own) == "collateral-answer-invalid"


def test_a_list_of_another_issuer(simulated: Simulated, code_of: Code) -> None:
    crl = simulated.genoa().revocation_list(NOW).hex()
    own = {"chain": simulated.snp.collateral()["chain"], "crl": crl}
    assert code_of(check, AmdItem("Milan", SigningKey.VCEK), own) == "collateral-answer-invalid"


def test_the_certificate_of_another_product(simulated: Simulated, code_of: Code) -> None:
    vek = simulated.snp.collateral()["vek"]
    item = VcekItem("Genoa", bytes(64), bytes(8))
    assert code_of(check, item, {"vek": vek}) == "collateral-answer-invalid"
    item = VcekItem("Milan", bytes(64), bytes(8))
    assert code_of(check, item, {"vek": vek * 2}) == "collateral-answer-invalid"


def test_mutants_pass_or_are_refused(item: DcapItem, parts: dict[str, str]) -> None:
    checked = 0
    for data in mutants(parts, lambda value: json.dumps(value).encode(), 300, 11):
        with suppress(ValueError):
            changed = json.loads(data)
            if isinstance(changed, dict) and all(isinstance(text, str) for text in changed.values()):
                assert _code(item, changed) in {None, "collateral-answer-invalid"}
                checked += 1
    assert checked > 50


def test_changed_characters_pass_or_are_refused(item: DcapItem, parts: dict[str, str]) -> None:
    rng = random.Random(3)
    codes: Counter[str | None] = Counter()
    for _ in range(500):
        name = rng.choice(sorted(parts))
        place = rng.randrange(len(parts[name]))
        text = parts[name][:place] + chr(rng.randrange(128)) + parts[name][place + 1 :]
        codes[_code(item, {**parts, name: text})] += 1
    assert codes.keys() == {None, "collateral-answer-invalid"}


def _code(item: DcapItem, parts: dict[str, str]) -> str | None:
    try:
        check(item, parts)
    except StrongroomError as error:
        return error.code
    return None
