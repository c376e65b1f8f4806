"""NVIDIA GPUs: reports, the JSON of Confidential Containers around them, and signed reference values."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

from fuzz.material import NOW, Material
from fuzz.roots import ANY, EVERY
from fuzz.target import MAX_INPUT, Parser, join, split, time_of
from strongroom.attestation import gpu
from strongroom.attestation.devices import verify_devices
from strongroom.attestation.gpu_report import GpuReport
from strongroom.attestation.gpu_rim import verify_rim
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.codec import b64
from strongroom_simulator.gpu import GpuPlatform, devices_text

_RECORDED: Final = 1_767_225_600
_NONCE: Final = bytes(range(32))


def _report(data: bytes) -> None:
    report = GpuReport.parse(data)
    report.vbios_version()


def _verify(data: bytes) -> None:
    now, report, chain = split(data, 3)
    gpu.verify(report, chain.decode("latin-1"), nonce=None, now=time_of(now), roots=EVERY)


def _devices(data: bytes) -> None:
    verify_devices(data.decode("utf-8", "replace"), nonce=_NONCE, roots=ANY, now=NOW)


def _rim(data: bytes) -> None:
    now, xml = split(data, 2)
    verify_rim(xml, now=time_of(now), roots=EVERY)


def _reports(material: Material) -> Iterator[bytes]:
    yield GpuPlatform.create(NOW).report(_NONCE)
    yield from (_bytes(vector) for vector in material.vectors("GPU_*.json"))


def _chains(material: Material) -> Iterator[bytes]:
    platform = GpuPlatform.create(NOW)
    yield join(NOW.to_bytes(6), platform.report(_NONCE), platform.chain_pem.encode())
    for vector in material.vectors("GPU_*.json"):
        yield join(vector["now"].to_bytes(6), _bytes(vector), vector["chain_pem"].encode())


def _texts(material: Material) -> Iterator[bytes]:
    platform = GpuPlatform.create(NOW)
    yield devices_text([(platform.report(_NONCE), platform.chain_pem)]).encode()
    bound = b64.decode_url(material.accepted("gpu")["runtime_data"], limit=MAX_INPUT)
    yield RuntimeData.parse(bound).additional_evidence.encode()


def _rims(material: Material) -> Iterator[bytes]:
    yield from (join(NOW.to_bytes(6), each) for each in GpuPlatform.create(NOW).rims())
    yield from (join(_RECORDED.to_bytes(6), each) for each in material.files("evidence/*.swidtag"))
    yield join(NOW.to_bytes(6), b"<a>" * 20_000)
    yield join(NOW.to_bytes(6), b"<a " + b" ".join(b'a%d=""' % n for n in range(6000)) + b"/>")
    yield join(NOW.to_bytes(6), b"".join(b'<a xmlns:n%d="urn:%d">' % (n, n) for n in range(200)))


def _bytes(vector: dict[str, Any]) -> bytes:
    text = vector["report"]
    try:
        return bytes.fromhex(text)
    except ValueError:
        return base64.b64decode(text)


PARSERS: Final = (
    Parser("report", _report, _reports),
    Parser("report with certificates", _verify, _chains),
    Parser("evidence of devices", _devices, _texts),
    Parser("signed reference values of NVIDIA", _rim, _rims),
)
