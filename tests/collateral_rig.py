"""A PCCS and a KDS on loopback that answer in the formats of the real ones, or as badly as a test wants.

What they have to say comes from recorded evidence or from the simulator.
"""

from __future__ import annotations

import functools
import http.server
import os
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from ssl import PEM_cert_to_DER_cert
from typing import Any

from strongroom.attestation.collateral.kds import vcek_path
from strongroom.attestation.collateral.needs import AmdItem, DcapItem, Item, VcekItem, needs
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report
from strongroom_simulator.snp import Guest, SnpPlatform

NOW = 1_800_000_000
DAY = 86400
GUEST = Guest(measurement=b"\x11" * 48, report_data=b"\x22" * 64)
SGX = "/sgx/certification/v4"


@dataclass(frozen=True)
class Reply:
    """What is answered. `gate` holds it back until it is set; `cut` promises a byte too much."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    gate: threading.Event | None = None
    cut: bool = False


class CollateralServer:
    """Replies by path and query. What is not there is answered with 404, as a PCCS does."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[str] = []
        self.stopped = False
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def serve_dcap(self, item: DcapItem, parts: Mapping[str, str]) -> None:
        """Answer as a PCCS that has this collateral."""
        family = f"/{item.tee}/certification/v4"
        tcb = f'{{"tcbInfo":{parts["tcb_info"]},"signature":"{parts["tcb_info_signature"]}"}}'
        qe = f'{{"enclaveIdentity":{parts["qe_identity"]},"signature":"{parts["qe_identity_signature"]}"}}'
        self.replies |= {
            f"{family}/tcb?fmspc={item.fmspc}&update=standard": Reply(
                tcb.encode(), headers=_chain("TCB-Info-Issuer-Chain", parts["tcb_info_issuer_chain"])
            ),
            f"{family}/qe/identity?update=standard": Reply(
                qe.encode(),
                headers=_chain("SGX-Enclave-Identity-Issuer-Chain", parts["qe_identity_issuer_chain"]),
            ),
            f"{SGX}/pckcrl?ca={item.authority}&encoding=der": Reply(
                bytes.fromhex(parts["pck_crl"]),
                headers=_chain("SGX-PCK-CRL-Issuer-Chain", parts["pck_crl_issuer_chain"]),
            ),
            f"{SGX}/rootcacrl": Reply(parts["root_ca_crl"].encode()),
        }

    def serve_vcek(self, item: VcekItem, der: bytes) -> None:
        """Answer as a KDS that has this chip's certificate."""
        self.replies[vcek_path(item)] = Reply(der)

    def serve_authority(self, item: AmdItem, chain: str, crl: bytes) -> None:
        """Answer as a KDS that has this product's authorities."""
        folder = f"/{item.key.name.lower()}/v1/{item.product}"
        self.replies |= {f"{folder}/cert_chain": Reply(chain.encode()), f"{folder}/crl": Reply(crl)}

    def change(self, path: str, **changes: Any) -> None:
        """Answer otherwise where the path begins so."""
        (key,) = [each for each in self.replies if each.startswith(path)]
        self.replies[key] = replace(self.replies[key], **changes)

    def stop(self) -> None:
        """Go away: connections are refused from now on."""
        if not self.stopped:
            self.stopped = True
            self._http.shutdown()
            self._http.server_close()

    def start(self) -> None:
        """Answer in a thread of its own."""
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(ConnectionError):  # who asked has seen enough
                    self._answer()

            def _answer(self) -> None:
                server.asked.append(self.path)
                reply = server.replies.get(self.path, Reply(b"No cache data for this platform.", 404))
                if reply.gate is not None:
                    reply.gate.wait(30)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + reply.cut))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_args: Any) -> None:
                pass

        return Handler


@contextmanager
def collateral_server() -> Iterator[CollateralServer]:
    """A server that runs."""
    server = CollateralServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Simulated:
    """A vendor's platform, whose collateral a server may have."""

    pki: Pki
    snp: SnpPlatform
    made: dict[tuple[EvidenceKind, int], dict[str, str]] = field(default_factory=dict)

    def evidence(self, kind: EvidenceKind = EvidenceKind.SGX, *, now: int = NOW) -> Evidence:
        make = enclave_report if kind is EvidenceKind.SGX else td_report
        size = 32 if kind is EvidenceKind.SGX else 48
        quote = QuotingEnclave(self.pki, kind, os.urandom).quote(make(bytes(size), bytes(48), bytes(64)))
        return Evidence(kind, quote, self.parts(kind, now=now))

    def parts(self, kind: EvidenceKind = EvidenceKind.SGX, *, now: int = NOW) -> dict[str, str]:
        if (kind, now) not in self.made:  # signatures are random
            self.made[kind, now] = make_collateral(self.pki, kind, now)
        return dict(self.made[kind, now])

    def genoa(self) -> SnpPlatform:
        """Another chip, of another product."""
        return _genoa()

    def snp_evidence(self, *, version: int = 3, now: int = NOW) -> Evidence:
        crl = self.snp.revocation_list(now)
        report = self.snp.report(GUEST, version=version)
        return Evidence(EvidenceKind.SNP, report, self.snp.collateral(crl=crl))


@functools.cache
def _genoa() -> SnpPlatform:
    return SnpPlatform.create(NOW, b"\x55" * 64, product="Genoa", rsa_bits=2048)


def bare(evidence: Evidence) -> Evidence:
    """The same without collateral."""
    return replace(evidence, collateral=None)


def serve(server: CollateralServer, evidence: Evidence) -> tuple[Item, ...]:
    """Give a server the collateral of evidence; the items that it then has."""
    assert evidence.collateral is not None
    (items,) = needs(evidence.kind, evidence.quote)
    give(server, items, evidence.collateral)
    return items


def give(server: CollateralServer, items: tuple[Item, ...], parts: dict[str, str]) -> None:
    for item in items:
        match item:
            case DcapItem():
                server.serve_dcap(item, parts)
            case VcekItem():
                server.serve_vcek(item, PEM_cert_to_DER_cert(parts["vek"]))
            case AmdItem():
                server.serve_authority(item, parts["chain"], bytes.fromhex(parts["crl"]))


def _chain(name: str, pem: str) -> dict[str, str]:
    return {name: urllib.parse.quote(pem, safe="")}
