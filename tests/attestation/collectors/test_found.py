"""Which source is taken, and what is said of the others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from strongroom.attestation.collectors.errors import COLLECTOR_ABSENT, COLLECTOR_DENIED, COLLECTOR_FAILED
from strongroom.attestation.collectors.found import all_collectors, choose, survey
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.errors import ErrorCode, EvidenceError


@dataclass(frozen=True)
class Stub:
    """A source that has a kind of evidence, or lacks something."""

    name: str
    kind: EvidenceKind | None = None
    error: ErrorCode = COLLECTOR_ABSENT

    def probe(self) -> EvidenceKind:
        if self.kind is None:
            raise EvidenceError(self.error, f"/dev/{self.name}")
        return self.kind

    def collect(self, report_data: bytes) -> Evidence:
        return Evidence(self.probe(), report_data)


def test_the_first_that_is_there_is_taken() -> None:
    sources = [Stub("nitro"), Stub("tsm", EvidenceKind.TDX), Stub("tpm", EvidenceKind.TPM)]
    assert choose(sources) is sources[1]


def test_a_kind_can_be_asked_for() -> None:
    sources = [Stub("tsm", EvidenceKind.TDX), Stub("tpm", EvidenceKind.TPM)]
    assert choose(sources, EvidenceKind.TPM) is sources[1]


def test_where_nothing_is_there_each_says_what_it_lacks() -> None:
    sources = [Stub("nitro"), Stub("tsm", EvidenceKind.TDX)]
    with pytest.raises(
        EvidenceError, match=r"nitro: /dev/nitro; tsm: has tdx.*expected snp.*collector-absent"
    ):
        choose(sources, EvidenceKind.SNP)


def test_a_source_that_is_there_and_refuses_is_reported_rather_than_an_absent_one() -> None:
    sources = [Stub("nitro"), Stub("tsm", error=COLLECTOR_DENIED), Stub("tpm", error=COLLECTOR_FAILED)]
    with pytest.raises(EvidenceError, match=r"/dev/tsm.*collector-denied"):
        choose(sources)


def test_a_source_that_refuses_keeps_nobody_from_the_next() -> None:
    sources = [Stub("tsm", error=COLLECTOR_DENIED), Stub("tpm", EvidenceKind.TPM)]
    assert choose(sources) is sources[1]


def test_the_survey_names_all() -> None:
    sources = [Stub("nitro"), Stub("tsm", EvidenceKind.TDX), Stub("tpm", error=COLLECTOR_DENIED)]
    found = survey(sources)
    assert [(each.kind, each.collector) for each in found] == [
        (None, sources[0]),
        (EvidenceKind.TDX, sources[1]),
        (None, sources[2]),
    ]
    assert found[0].reason == "/dev/nitro"
    assert found[1].reason == ""
    assert "collector-denied" in found[2].reason


def test_an_enclave_comes_before_its_machine_and_a_tee_before_a_tpm() -> None:
    names = [each.name for each in all_collectors()]
    assert names == ["gramine", "occlum", "nitro", "azure", "configfs-tsm", "tpm"]


def test_every_source_can_be_tried_on_a_machine_that_has_none() -> None:
    for source in survey(all_collectors(tcti="swtpm:host=127.0.0.1,port=1")):
        assert source.kind or source.reason
