"""AWS Nitro enclaves: an attestation document from the Nitro Security Module, by ioctl on /dev/nsm.

The report data goes into `user_data`, as the verifier expects it.

Source: github.com/aws/aws-nitro-enclaves-nsm-api (src/driver, src/api); linux/nsm.h.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

from strongroom.attestation.collectors import device
from strongroom.attestation.collectors.errors import COLLECTOR_ANSWER, COLLECTOR_FAILED
from strongroom.attestation.collectors.source import check_report_data
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.codec import cbor
from strongroom.errors import CodecError, EvidenceError

DEVICE: Final = Path("/dev/nsm")
RAW: Final = 0xC0200A00
"""_IOWR(0x0A, 0, struct nsm_raw)"""

MAX_RESPONSE: Final = 0x3000
_MAX_NAME: Final = 64


class Message(ctypes.Structure):
    """struct nsm_raw: address and size of the request, and of the response."""

    _fields_ = (
        ("request", ctypes.c_uint64),
        ("request_size", ctypes.c_uint64),
        ("response", ctypes.c_uint64),
        ("response_size", ctypes.c_uint64),
    )


class NitroCollector:
    """Evidence of a Nitro enclave.

    Args:
        init_data: What the enclave was started with; it goes along.
        path: The device.
        ioctl: How it is asked.
    """

    name = "nitro"

    def __init__(
        self,
        *,
        init_data: bytes | None = None,
        path: Path = DEVICE,
        ioctl: device.Ioctl = device.HOST,
    ) -> None:
        self._init_data = init_data
        self._path = path
        self._ioctl = ioctl

    def probe(self) -> EvidenceKind:
        """As `Collector.probe`."""
        with device.opened(self._path):
            return EvidenceKind.NITRO

    def collect(self, report_data: bytes) -> Evidence:
        """As `Collector.collect`."""
        check_report_data(report_data)
        asked = {"user_data": report_data, "nonce": None, "public_key": None}
        document = _document(self._exchange(cbor.encode({"Attestation": asked})))
        return Evidence(EvidenceKind.NITRO, document, init_data=self._init_data)

    def _exchange(self, request: bytes) -> bytes:
        # Both must live until the device has answered: the message has only their addresses.
        given, answer = device.buffer(len(request), request), device.buffer(MAX_RESPONSE)
        message = Message(ctypes.addressof(given), len(request), ctypes.addressof(answer), MAX_RESPONSE)
        with device.opened(self._path) as descriptor:
            device.ask(self._ioctl, self._path, descriptor, RAW, message)
        if message.response_size > MAX_RESPONSE:
            raise EvidenceError(COLLECTOR_ANSWER, "size of the answer of the NSM")
        return answer.raw[: message.response_size]


def _document(response: bytes) -> bytes:
    try:
        answer = cbor.decode(response, limit=MAX_RESPONSE, what="answer of the NSM")
    except CodecError as error:
        raise EvidenceError(COLLECTOR_ANSWER, str(error)) from None
    match answer:
        case {"Attestation": {"document": bytes(document)}}:
            return document
        case {"Error": str(name)}:
            shown = name[:_MAX_NAME]
            raise EvidenceError(COLLECTOR_FAILED, f"the NSM answers {shown!r}")
    raise EvidenceError(COLLECTOR_ANSWER, "answer of the NSM", expected="an attestation document")
