"""Occlum: an SGX quote from its LibOS, by ioctl on /dev/sgx.

Source: github.com/occlum/occlum, src/libos/src/fs/dev_fs/dev_sgx, and its demo of remote attestation.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from strongroom.attestation.collectors import device
from strongroom.attestation.collectors.errors import COLLECTOR_ABSENT, COLLECTOR_ANSWER
from strongroom.attestation.collectors.source import REPORT_DATA_SIZE, check_report_data
from strongroom.attestation.evidence import MAX_QUOTE, Evidence, EvidenceKind
from strongroom.errors import EvidenceError

DEVICE: Final = Path("/dev/sgx")
GET_QUOTE_SIZE: Final = 0x80047307
GENERATE_QUOTE: Final = 0xC0187308

_MARK: Final = "OCCLUM"
"""A variable that the LibOS sets. On a plain host /dev/sgx is a folder, or another driver."""


class QuoteArgument(ctypes.Structure):
    """sgx_dcap_quote_gen_arg_t: three addresses."""

    _fields_ = (
        ("report_data", ctypes.c_void_p),
        ("quote_size", ctypes.c_void_p),
        ("quote", ctypes.c_void_p),
    )


class OcclumCollector:
    """Evidence of an SGX enclave under Occlum.

    Args:
        init_data: What the enclave was started with; it goes along.
        path: The device.
        ioctl: How it is asked.
        environ: The environment of this process.
    """

    name = "occlum"

    def __init__(
        self,
        *,
        init_data: bytes | None = None,
        path: Path = DEVICE,
        ioctl: device.Ioctl = device.HOST,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._init_data = init_data
        self._path = path
        self._ioctl = ioctl
        self._environ = environ

    def probe(self) -> EvidenceKind:
        """As `Collector.probe`."""
        if _MARK not in self._environ:
            raise EvidenceError(COLLECTOR_ABSENT, f"the variable {_MARK}, which Occlum sets, is not there")
        with device.opened(self._path):
            return EvidenceKind.SGX

    def collect(self, report_data: bytes) -> Evidence:
        """As `Collector.collect`."""
        check_report_data(report_data)
        kind = self.probe()
        with device.opened(self._path) as descriptor:
            answer = bytearray(4)
            device.ask(self._ioctl, self._path, descriptor, GET_QUOTE_SIZE, answer)
            size = self._bounded(int.from_bytes(answer, sys.byteorder), MAX_QUOTE)
            # These three must live until the device has answered: the argument has only their addresses.
            given = device.buffer(REPORT_DATA_SIZE, report_data)
            length = ctypes.c_uint32(size)
            quote = device.buffer(size)
            argument = QuoteArgument(*(ctypes.addressof(each) for each in (given, length, quote)))
            device.ask(self._ioctl, self._path, descriptor, GENERATE_QUOTE, argument)
            found = quote.raw[: self._bounded(length.value, size)]
        return Evidence(kind, found, init_data=self._init_data)

    def _bounded(self, size: int, most: int) -> int:
        if not 0 < size <= most:
            raise EvidenceError(
                COLLECTOR_ANSWER, f"size of the quote of {self._path}", found=size, expected=f"1 to {most}"
            )
        return size
