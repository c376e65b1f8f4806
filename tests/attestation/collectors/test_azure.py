"""An Azure confidential VM around a software TPM: report in its NV index, key at its handle, host beside it.

Paravisor and hardware are the simulator's: not protection.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from soft_tpm import NEEDS_TPM, SoftTpm, need_bindings
from strongroom.attestation import azure
from strongroom.attestation.collectors.azure import AzureCollector, fetch_from
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.errors import EvidenceError
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, td_report
from strongroom_simulator.snp import Guest, SnpPlatform
from strongroom_simulator.tpm import SNP_REPORT, TD_REPORT, SimulatedTpm

need_bindings()
pytestmark = NEEDS_TPM

NOW = 1_800_000_000
NONCE = bytes(range(1, 49))
REPORT_DATA = NONCE + bytes(16)
INIT_DATA = b'version = "0.1.0"\n'
VCEK = "/metadata/THIM/amd/certification"
QUOTE = "/acc/tdquote"
NV_SIZE = 2048
"""All that this TPM gives an index; Azure's has 2600 bytes."""


@dataclass(frozen=True)
class PublicHalf:
    """Stands for a private key that is in the TPM; the simulator only wants the public one."""

    public: rsa.RSAPublicKey

    @property
    def key_size(self) -> int:
        return self.public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self.public


@dataclass
class Vm:
    """A running virtual TPM, and the paravisor that speaks for its key."""

    tpm: SoftTpm
    paravisor: SimulatedTpm

    def put_report(self, report: bytes, folder: Path) -> None:
        """Write the NV index, which is larger than the report."""
        path = folder / "report"
        path.write_bytes(report.ljust(NV_SIZE, b"\0"))
        self.tpm.run(
            "tpm2_nvdefine", "0x1400001", "-C", "o", "-s", str(NV_SIZE), "-a", "ownerread|ownerwrite"
        )
        self.tpm.run("tpm2_nvwrite", "0x1400001", "-C", "o", "-i", str(path))

    def drop_report(self) -> None:
        self.tpm.run("tpm2_nvundefine", "0x1400001", "-C", "o")


@dataclass
class Host:
    """The services of the host that are at the link-local address."""

    answers: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    asked: list[tuple[str, str, Any, str | None]] = field(default_factory=list)


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    folder = tmp_path_factory.mktemp("azure")
    running = SoftTpm(folder)
    try:
        context, public = str(folder / "ak"), folder / "ak.pem"
        attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
        key_type = "rsa2048:rsassa-sha256:null"
        running.run("tpm2_createprimary", "-C", "e", "-G", key_type, "-a", attributes, "-c", context)
        running.run("tpm2_evictcontrol", "-C", "o", "-c", context, "0x81000003")
        running.run("tpm2_flushcontext", "-t")
        running.run("tpm2_readpublic", "-c", "0x81000003", "-f", "pem", "-o", str(public))
        running.run("tpm2_pcrextend", f"8:sha256={hashlib.sha256(INIT_DATA).hexdigest()}")
        half = PublicHalf(cast("rsa.RSAPublicKey", load_pem_public_key(public.read_bytes())))
        key = cast("rsa.RSAPrivateKey", half)
        yield Vm(running, SimulatedTpm(key=key))
    finally:
        running.stop()


@pytest.fixture
def host() -> Iterator[tuple[Host, str]]:
    state = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            state.asked.append((self.command, self.path, body, self.headers["Metadata"]))
            answer = state.answers.get(self.path)
            answer = answer(body) if callable(answer) else answer
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def on_snp(vm: Vm, platform: SnpPlatform, tmp_path: Path) -> Iterator[Vm]:
    report = platform.report(Guest(b"\x11" * 48, vm.paravisor.hardware_data()))
    vm.put_report(vm.paravisor.hcl_report(SNP_REPORT, report), tmp_path)
    yield vm
    vm.drop_report()


@pytest.fixture
def on_tdx(vm: Vm, tmp_path: Path) -> Iterator[Vm]:
    vm.put_report(vm.paravisor.hcl_report(TD_REPORT, vm.paravisor.td_report()), tmp_path)
    yield vm
    vm.drop_report()


def pem(platform: SnpPlatform) -> str:
    return platform.signer.public_bytes(Encoding.PEM).decode()


def test_the_evidence_of_a_vm_on_snp_verifies(
    on_snp: Vm, host: tuple[Host, str], platform: SnpPlatform
) -> None:
    state, address = host
    # As the service has it: with the chain beside it, and line ends of another system.
    state.answers[VCEK] = {
        "vcekCert": pem(platform).replace("\n", "\r\n"),
        "tcbm": "0",
        "certificateChain": "",
    }
    collector = AzureCollector(init_data=INIT_DATA, tcti=on_snp.tpm.tcti, fetch=fetch_from(address))
    assert collector.probe() is EvidenceKind.AZ_SNP
    evidence = collector.collect(REPORT_DATA)
    collateral = {"chain": platform.collateral()["chain"]}
    complete = type(evidence)(evidence.kind, evidence.quote, collateral, evidence.init_data)
    claims = azure.verify_snp(complete, TrustRoots(simulated=frozenset({platform.root_sha256})), NOW)
    assert (claims.kind, claims.report_data) == (EvidenceKind.AZ_SNP, REPORT_DATA)
    assert claims.init_data_digest == hashlib.sha384(INIT_DATA).digest()
    assert state.asked == [("GET", VCEK, None, "true")]


def test_the_evidence_of_a_vm_on_tdx_verifies(on_tdx: Vm, host: tuple[Host, str], pki: Pki) -> None:
    state, address = host
    enclave = QuotingEnclave(pki, EvidenceKind.TDX, bytes)

    def quote(body: dict[str, str]) -> dict[str, str]:
        given = base64.urlsafe_b64decode(body["report"] + "==")
        assert given == on_tdx.paravisor.td_report()
        made = enclave.quote(td_report(b"\x11" * 48, b"", given[0x80:0xC0]))
        return {"quote": base64.urlsafe_b64encode(made).decode().rstrip("=")}

    state.answers[QUOTE] = quote
    collector = AzureCollector(init_data=INIT_DATA, tcti=on_tdx.tpm.tcti, fetch=fetch_from(address))
    assert collector.probe() is EvidenceKind.AZ_TDX
    evidence = collector.collect(REPORT_DATA)
    collateral = make_collateral(pki, EvidenceKind.TDX, NOW)
    complete = type(evidence)(evidence.kind, evidence.quote, collateral, evidence.init_data)
    claims = azure.verify_tdx(complete, TrustRoots(simulated=frozenset({pki.root_sha256})), NOW)
    assert (claims.kind, claims.report_data) == (EvidenceKind.AZ_TDX, REPORT_DATA)


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        ({"vcekCert": "no certificate"}, 200, "the chip's certificate.*collector-answer-invalid"),
        ({"vcekCert": 7}, 200, "a text vcekCert.*collector-answer-invalid"),
        (["vcekCert"], 200, "a text vcekCert.*collector-answer-invalid"),
        (b"<html>", 200, "answer of Azure's host.*collector-answer-invalid"),
        (b" " * (512 * 1024 + 1), 200, "too long.*collector-answer-invalid"),
        ({}, 429, "found status 429.*collector-failed"),
        ({}, 302, "found status 302.*collector-failed"),
    ],
)
def test_any_other_answer_of_the_host_is_refused(
    on_snp: Vm, host: tuple[Host, str], answer: object, status: int, expected: str
) -> None:
    state, address = host
    state.answers[VCEK], state.status = answer, status
    with pytest.raises(EvidenceError, match=expected):
        AzureCollector(tcti=on_snp.tpm.tcti, fetch=fetch_from(address)).collect(REPORT_DATA)


def test_a_quote_that_is_none_is_refused(on_tdx: Vm, host: tuple[Host, str]) -> None:
    state, address = host
    state.answers[QUOTE] = {"quote": "?"}
    with pytest.raises(EvidenceError, match=r"Azure's host.*collector-answer-invalid"):
        AzureCollector(tcti=on_tdx.tpm.tcti, fetch=fetch_from(address)).collect(REPORT_DATA)


def test_a_host_that_does_not_answer_is_named(on_snp: Vm) -> None:
    collector = AzureCollector(tcti=on_snp.tpm.tcti, fetch=fetch_from("http://127.0.0.1:9"))
    with pytest.raises(EvidenceError, match=r"127.0.0.1:9/metadata.*ConnectError.*collector-failed"):
        collector.collect(REPORT_DATA)


def test_a_machine_with_a_tpm_and_no_paravisor_has_nothing(vm: Vm) -> None:
    with pytest.raises(EvidenceError, match=r"no NV index 0x1400001.*collector-absent"):
        AzureCollector(tcti=vm.tpm.tcti).probe()


def test_a_report_that_is_none_is_refused(vm: Vm, tmp_path: Path) -> None:
    vm.put_report(b"something else", tmp_path)
    try:
        with pytest.raises(EvidenceError, match=r"report of the paravisor.*collector-answer-invalid"):
            AzureCollector(tcti=vm.tpm.tcti).probe()
    finally:
        vm.drop_report()


def test_report_data_of_another_size_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="64 bytes, not 48"):
        AzureCollector().collect(NONCE)
