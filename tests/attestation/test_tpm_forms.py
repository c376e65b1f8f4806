"""The JSON forms of TPM evidence: each departure is refused, and mutants give our errors only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutants
from strongroom.attestation.evidence import MAX_QUOTE
from strongroom.attestation.tpm_forms import (
    Quote,
    init_data_digest,
    nonce,
    parse_azure_snp,
    parse_azure_tdx,
    parse_tpm,
    report_data,
    write_azure,
    write_tpm,
)
from strongroom.attestation.tpm_structures import frame_rsassa
from strongroom.errors import EvidenceError
from strongroom_simulator.tpm import SimulatedTpm, init_data_register

NONCE = b"n" * 48
TPM = SimulatedTpm(pcrs={4: b"\xab" * 32})
FORMS: list[tuple[Callable[[bytes], Any], dict[str, Any]]] = [
    (parse_azure_snp, json.loads(TPM.azure_snp(NONCE, b"\xfb\xff" * 592, b"vcek"))),
    (parse_azure_tdx, json.loads(TPM.azure_tdx(NONCE, b"\xfb\xff quote"))),
    (parse_tpm, json.loads(TPM.evidence(NONCE))),
]
NAMES = ["az-snp", "az-tdx", "tpm"]


def _encode(value: object) -> bytes:
    return json.dumps(value).encode()


def test_what_was_written_is_read() -> None:
    snp, tdx, tpm = (parse(_encode(value)) for parse, value in FORMS)
    assert (snp.hardware, tdx.hardware, tpm.ak) == (b"vcek", b"\xfb\xff quote", TPM.spki)
    for form in (snp, tdx, tpm):
        assert form.quote.attest == TPM.attest(NONCE)
        assert form.quote.signature == frame_rsassa(TPM.sign(TPM.attest(NONCE)))
        assert [form.quote.pcrs[number] for number in range(24)] == TPM.registers()
    assert snp.hcl_report == TPM.hcl_report(2, b"\xfb\xff" * 592)


def test_the_recorded_form_is_read(testdata: Path) -> None:
    data = (testdata / "vectors/evidence/AZVTPM_snp_evidence-v2.json").read_bytes()
    form = parse_azure_snp(data)
    assert (len(form.hcl_report), len(form.quote.pcrs)) == (2600, 24)


@pytest.mark.parametrize(("parse", "good"), FORMS, ids=NAMES)
def test_another_set_of_members_is_refused(parse: Callable[[bytes], Any], good: dict[str, Any]) -> None:
    for name in good:
        with pytest.raises(EvidenceError, match="evidence-malformed"):
            parse(_encode({each: value for each, value in good.items() if each != name}))
    for changed in (good | {"more": 1}, good | {"tpm_quote": good["tpm_quote"] | {"more": ""}}, [good], None):
        with pytest.raises(EvidenceError, match="evidence-malformed"):
            parse(_encode(changed))


@pytest.mark.parametrize("version", [0, 3, "1", None, 1.5])
@pytest.mark.parametrize(("parse", "good"), FORMS[:2], ids=NAMES[:2])
def test_another_version_is_refused(
    parse: Callable[[bytes], Any], good: dict[str, Any], version: object
) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        parse(_encode(good | {"version": version}))


@pytest.mark.parametrize(
    "pcrs", [["00" * 32] * 23, ["00" * 32] * 25, ["00" * 31] * 24, ["0g" * 32] * 24, [0] * 24, "00" * 32]
)
@pytest.mark.parametrize(("parse", "good"), FORMS, ids=NAMES)
def test_registers_of_another_form_are_refused(
    parse: Callable[[bytes], Any], good: dict[str, Any], pcrs: object
) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        parse(_encode(good | {"tpm_quote": good["tpm_quote"] | {"pcrs": pcrs}}))


@pytest.mark.parametrize(
    ("parse", "good", "name", "value"),
    [
        (*FORMS[0], "hcl_report", "+/=="),
        (*FORMS[0], "vcek", "AAA"),
        (*FORMS[1], "td_quote", "A A="),
        (*FORMS[2], "ak_public", "_-=="),
        (*FORMS[1], "td_quote", "++++"),
        (*FORMS[1], "td_quote", "////"),
    ],
    ids=["alphabet", "padding", "blank", "other alphabet", "plus", "slash"],
)
def test_another_alphabet_or_padding_is_refused(
    parse: Callable[[bytes], Any], good: dict[str, Any], name: str, value: str
) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        parse(_encode(good | {name: value}))


@pytest.mark.parametrize(("parse", "good"), FORMS, ids=NAMES)
def test_a_quote_that_is_not_encoded_is_refused(parse: Callable[[bytes], Any], good: dict[str, Any]) -> None:
    for name in ("signature", "message"):
        with pytest.raises(EvidenceError, match="evidence-malformed"):
            parse(_encode(good | {"tpm_quote": good["tpm_quote"] | {name: "zz!"}}))


@pytest.mark.parametrize(("parse", "good"), FORMS, ids=NAMES)
def test_it_is_bounded_before_it_is_read(parse: Callable[[bytes], Any], good: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        parse(_encode(good) + b" " * MAX_QUOTE)


@given(st.binary(max_size=64))
def test_report_data_is_padded_and_loses_nothing(nonce: bytes) -> None:
    assert len(report_data(nonce)) == 64
    assert report_data(nonce).rstrip(b"\0") == nonce.rstrip(b"\0")


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_only_the_init_data_that_was_measured_passes(init_data: bytes, other: bytes) -> None:
    pcrs = {8: init_data_register(init_data)}
    assert len(init_data_digest(pcrs, init_data)) == 48
    assert init_data_digest(pcrs, None) == bytes(48)
    if other != init_data:
        with pytest.raises(EvidenceError, match="evidence-init-data"):
            init_data_digest(pcrs, other)


@pytest.mark.parametrize(("parse", "good"), FORMS, ids=NAMES)
def test_mutants_give_our_errors_only(parse: Callable[[bytes], Any], good: dict[str, Any]) -> None:
    refused = 0
    for mutant in mutants(good, _encode, 4000, 5):
        try:
            parse(mutant)
        except EvidenceError:
            refused += 1
    assert refused > 2000


PCRS = dict(enumerate(TPM.registers()))
ATTEST = TPM.attest(NONCE)


def test_what_is_written_is_read_again() -> None:
    quote = Quote(ATTEST, frame_rsassa(TPM.sign(ATTEST)), PCRS)
    machine = parse_tpm(write_tpm(TPM.spki, quote))
    assert (machine.ak, machine.quote) == (TPM.spki, quote)
    on_snp = parse_azure_snp(write_azure(b"\xfb\xff report", quote, {"vcek": b"\xfb vcek"}))
    assert (on_snp.hcl_report, on_snp.quote, on_snp.hardware) == (b"\xfb\xff report", quote, b"\xfb vcek")
    on_tdx = parse_azure_tdx(write_azure(b"report", quote, {"td_quote": b"quote"}))
    assert (on_tdx.quote, on_tdx.hardware) == (quote, b"quote")


def test_azure_knows_no_other_signature_than_rsassa() -> None:
    ecdsa = bytes.fromhex("0018000b") + b"\x00\x01r\x00\x01s"
    with pytest.raises(EvidenceError, match=r"expected RSASSA.*evidence-algorithm"):
        write_azure(b"report", Quote(ATTEST, ecdsa, PCRS), {"vcek": b""})


@given(st.binary(min_size=64, max_size=64), st.sampled_from([0, 15, 16, 17, 64]))
def test_report_data_comes_back_from_its_nonce(given_bytes: bytes, zeros: int) -> None:
    whole = given_bytes[: 64 - zeros] + bytes(zeros)
    assert report_data(nonce(whole)) == whole
    assert len(nonce(whole)) == (48 if whole.endswith(bytes(16)) else 64)
