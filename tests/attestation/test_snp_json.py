"""SNP reports as JSON: the very bytes come back, and other forms are refused."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutants import mutants
from strongroom.attestation.snp_json import decode, encode
from strongroom.errors import EvidenceError
from strongroom_simulator.snp import Guest, SnpPlatform

NOW = 1_800_000_000
PLATFORM = SnpPlatform.create(NOW, bytes(range(64)), rsa_bits=2048)
GUEST = Guest(bytes(range(48)), bytes(range(64)), host_data=bytes(range(32)), guest_svn=3, vmpl=1)
REPORT = PLATFORM.report(GUEST)
GOOD = encode(REPORT)


@pytest.mark.parametrize("name", ["SNP_milan_trustee", "SNP_milan_trustee_vlek", "SNP_genoa_azure"])
def test_real_reports_come_back(testdata: Path, name: str) -> None:
    vector = json.loads((testdata / f"vectors/evidence/{name}.json").read_text())
    report = base64.b64decode(vector["report"])
    assert decode(json.loads(json.dumps(encode(report)))) == report


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_each_version_comes_back(version: int) -> None:
    report = PLATFORM.report(GUEST, version=version)
    value = encode(report)
    assert decode(value) == report
    assert (value["cpuid_fam_id"] is None) == (version < 3)
    assert (value["launch_mit_vector"] is None) == (version < 5)


def test_the_members_are_those_of_the_library() -> None:
    """As in an example of virtee/sev's form: names, and firmware versions as objects."""
    assert GOOD["version"] == 3
    assert GOOD["current_tcb"] == {"fmc": None, "bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}
    assert GOOD["current"] == {"build": 0, "minor": 0, "major": 0}
    assert GOOD["measurement"] == list(range(48))
    assert len(GOOD["signature"]["r"]) == len(GOOD["signature"]["s"]) == 72
    assert set(GOOD) == {
        *("version", "guest_svn", "policy", "family_id", "image_id", "vmpl", "sig_algo", "current_tcb"),
        *("plat_info", "key_info", "report_data", "measurement", "host_data", "id_key_digest"),
        *("author_key_digest", "report_id", "report_id_ma", "reported_tcb", "cpuid_fam_id", "cpuid_mod_id"),
        *("cpuid_step", "chip_id", "committed_tcb", "current", "committed", "launch_tcb"),
        *("launch_mit_vector", "current_mit_vector", "signature"),
    }


def test_a_turins_firmware_is_laid_out_its_own_way() -> None:
    report = bytearray(PLATFORM.report(GUEST))
    report[0x188] = 0x1A
    report[0x180:0x188] = bytes(range(1, 5)) + bytes(3) + b"\x08"
    value = encode(bytes(report))
    assert value["reported_tcb"] == {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 8}
    assert decode(value)[0x180:0x188] == report[0x180:0x188]


def test_older_names_and_reserved_members_are_read() -> None:
    old = copy.deepcopy(GOOD)
    old["_author_key_en"] = old.pop("key_info")
    old["_reserved_0"] = 0
    for name in ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"):
        old[name] |= {"_reserved": [0, 0, 0, 0]}
        del old[name]["fmc"]
    old["signature"]["_reserved"] = [0] * 368
    assert decode(old) == REPORT


@given(st.binary(min_size=0x2A0, max_size=0x2A0))
def test_what_comes_back_is_all_that_there_is(body: bytes) -> None:
    """Reserved bytes have no member; everything else survives, whatever it is."""
    once = decode(encode(body + bytes(1184 - 0x2A0)))
    assert decode(encode(once)) == once


def test_each_member_is_needed() -> None:
    optional = {"cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector"}
    for name in GOOD.keys() - optional:
        with pytest.raises(EvidenceError, match="evidence-malformed"):
            decode({each: value for each, value in GOOD.items() if each != name})
    for name in optional:
        decode({each: value for each, value in GOOD.items() if each != name})


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(more=1),
        lambda v: v.update(_reserved_9=1),
        lambda v: v.update(_reserved_9=[0, 1]),
        lambda v: v.update(author_key_en=0),  # beside key_info
        lambda v: v.update(version=-1),
        lambda v: v.update(version=2**32),
        lambda v: v.update(version=True),
        lambda v: v.update(version="3"),
        lambda v: v.update(policy=2**64),
        lambda v: v.update(measurement=[0] * 47),
        lambda v: v.update(measurement=[0] * 49),
        lambda v: v.update(measurement=[256] * 48),
        lambda v: v.update(measurement=[-1] * 48),
        lambda v: v.update(measurement="0" * 48),
        lambda v: v.update(cpuid_fam_id=256),
        lambda v: v.update(reported_tcb=4),
        lambda v: v["reported_tcb"].update(more=1),
        lambda v: v["reported_tcb"].update(snp=256),
        lambda v: v["reported_tcb"].pop("tee"),
        lambda v: v["reported_tcb"].update(_reserved=[1]),
        lambda v: v.update(current=[1, 2, 3]),
        lambda v: v["current"].update(more=1),
        lambda v: v["current"].pop("build"),
        lambda v: v.update(signature=[]),
        lambda v: v["signature"].update(more=1),
        lambda v: v["signature"].update(r=[0] * 71),
    ],
)
def test_another_form_is_refused(change: Callable[[Any], object]) -> None:
    value = copy.deepcopy(GOOD)
    change(value)
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        decode(value)


@pytest.mark.parametrize("value", [None, [], "report", 1])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        decode(value)


@pytest.mark.parametrize("size", [0, 1183, 1185])
def test_a_report_of_another_size_has_no_form(size: int) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        encode(bytes(size))


def test_mutants_give_our_errors_only() -> None:
    refused = 0
    for mutant in mutants(GOOD, lambda value: json.dumps(value).encode(), 4000, 13):
        try:
            value = json.loads(mutant)
        except ValueError:
            continue  # no JSON: nothing for this parser
        try:
            decode(value)
        except EvidenceError:
            refused += 1
    assert refused > 1500


def test_each_member_is_at_its_place() -> None:
    """Places and sizes of AMD 56860, table "ATTESTATION_REPORT", by their numbers."""
    report = bytearray(number % 251 for number in range(1184))
    report[0:4] = (5).to_bytes(4, "little")
    report[0x188] = 0x19
    value = encode(bytes(report))

    def number(place: int, size: int) -> int:
        return int.from_bytes(report[place : place + size], "little")

    for name, place, size in (
        ("report_data", 0x50, 64),
        ("measurement", 0x90, 48),
        ("host_data", 0xC0, 32),
        ("id_key_digest", 0xE0, 48),
        ("author_key_digest", 0x110, 48),
        ("report_id", 0x140, 32),
        ("report_id_ma", 0x160, 32),
        ("chip_id", 0x1A0, 64),
        ("family_id", 0x10, 16),
        ("image_id", 0x20, 16),
    ):
        assert bytes(value[name]) == report[place : place + size]
    assert value["launch_mit_vector"] == number(0x1F8, 8)
    assert value["current_mit_vector"] == number(0x200, 8)
    assert (value["guest_svn"], value["vmpl"], value["plat_info"]) == (
        number(4, 4),
        number(0x30, 4),
        number(0x40, 8),
    )
    assert value["committed_tcb"]["microcode"] == report[0x1E0 + 7]
    assert value["launch_tcb"]["bootloader"] == report[0x1F0]
    assert value["current"] == {"build": report[0x1E8], "minor": report[0x1E9], "major": report[0x1EA]}
    assert bytes(value["signature"]["s"]) == report[0x2A0 + 72 : 0x2A0 + 144]
