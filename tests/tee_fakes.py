"""The files and devices of TEEs, as kernels and LibOSes behave: what could not be had here.

What they hand out is made by the simulator, in production formats. It protects nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.attestation.collectors import nsm, occlum
from strongroom.codec import cbor

Attest = Callable[[bytes], bytes]
"""Makes what the hardware signs over 64 bytes of report data."""


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class Report:
    """The state of one folder of configfs-tsm (drivers/virt/coco/guest/report.c)."""

    generation: int = 0
    inblob: bytes = b""
    level: int = 0


@dataclass
class FakeTsm:
    """configfs-tsm of a guest: the files appear with their folder, and go with it.

    Attributes:
        attest: What the hardware answers.
        provider: Name of the driver; empty if none is loaded.
        table: The host's certificates; None if the driver has no such file.
        floor: The lowest privilege level that may ask; None for a driver without levels.
        busy: How often the host's quoting service is busy.
        racing: Whether another program writes in between.
        levels: The levels that were asked for.
    """

    attest: Attest
    provider: str = "tdx_guest"
    table: bytes | None = None
    floor: int | None = None
    busy: int = 0
    racing: bool = False
    failing: dict[str, int] = field(default_factory=dict)
    areas: dict[Path, bytes] = field(default_factory=dict)
    reports: dict[Path, Report] = field(default_factory=dict)
    levels: list[int] = field(default_factory=list)
    root: Path = Path("/sys/kernel/config/tsm/report")

    def make_folder(self, path: Path) -> None:
        if path.parent != self.root:
            raise refuse(errno.ENOENT)
        if not self.provider:
            raise refuse(errno.ENXIO)
        if "folder" in self.failing:
            raise refuse(self.failing["folder"])
        self.reports[path] = Report()

    def remove_folder(self, path: Path) -> None:
        del self.reports[path]

    def read(self, path: Path, limit: int) -> bytes:
        if path in self.areas:
            return self.areas[path][: limit + 1]
        return self._read(self._report(path), path.name)[: limit + 1]

    def write(self, path: Path, data: bytes) -> int:
        report = self._report(path)
        self._fail(path.name)
        if path.name == "inblob" and len(data) <= 64:
            report.inblob = data
        elif path.name == "privlevel" and self.floor is not None:
            report.level = int(data)
            self.levels.append(report.level)
        else:
            raise refuse(errno.EINVAL)
        report.generation += 1
        return len(data)

    def _report(self, path: Path) -> Report:
        if path.parent not in self.reports:
            raise refuse(errno.ENOENT)
        return self.reports[path.parent]

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise refuse(self.failing[name])

    def _read(self, report: Report, name: str) -> bytes:
        self._fail(name)
        if name == "provider":
            return self.provider.encode() + b"\n"
        if name == "generation":
            return b"%d\n" % report.generation
        if name == "privlevel_floor" and self.floor is not None:
            return b"%d\n" % self.floor
        if name == "outblob":
            return self._out(report)
        if name == "auxblob" and self.table is not None:
            return self.table
        raise refuse(errno.ENOENT)

    def _out(self, report: Report) -> bytes:
        if len(report.inblob) != 64 or report.level < (self.floor or 0):
            raise refuse(errno.EINVAL)
        if self.busy:
            self.busy -= 1
            raise refuse(errno.EBUSY)
        if self.racing:
            report.generation += 1
        return self.attest(report.inblob)


@dataclass
class FakeGramine:
    """/dev/attestation of Gramine: files of one process."""

    attest: Attest
    kind: str = "dcap"
    report_data: bytes = bytes(64)
    root: Path = Path("/dev/attestation")

    def read(self, path: Path, limit: int) -> bytes:
        if path.parent != self.root or not self.kind:
            raise refuse(errno.ENOENT)
        if path.name == "attestation_type":
            return self.kind.encode()
        if path.name == "quote" and self.kind == "dcap":
            return self.attest(self.report_data)[: limit + 1]
        raise refuse(errno.ENOENT)

    def write(self, path: Path, data: bytes) -> int:
        if path != self.root / "user_report_data":
            raise refuse(errno.EACCES)
        if len(data) != 64:
            raise refuse(errno.EINVAL)
        self.report_data = data
        return len(data)

    def make_folder(self, path: Path) -> None:
        raise refuse(errno.EACCES)

    def remove_folder(self, path: Path) -> None:
        raise refuse(errno.EACCES)


@dataclass
class FakeOcclum:
    """The ioctl of /dev/sgx under Occlum. Its first answer is a bound, its second the true size."""

    attest: Attest
    spare: int = 100
    size: int | None = None

    def __call__(self, descriptor: int, request: int, argument: Any) -> None:
        os.fstat(descriptor)
        if request == occlum.GET_QUOTE_SIZE:
            size = len(self.attest(bytes(64))) + self.spare
            argument[:] = struct.pack("=I", size if self.size is None else self.size)
        elif request == occlum.GENERATE_QUOTE:
            self._generate(argument)
        else:
            raise refuse(errno.EINVAL)

    def _generate(self, argument: occlum.QuoteArgument) -> None:
        length = ctypes.c_uint32.from_address(argument.quote_size)
        quote = self.attest(ctypes.string_at(argument.report_data, 64))
        if length.value < len(quote):
            raise refuse(errno.EINVAL)
        ctypes.memmove(argument.quote, quote, len(quote))
        length.value = len(quote)


@dataclass
class FakeNsm:
    """The ioctl of /dev/nsm in a Nitro enclave.

    Attributes:
        attest: Makes a document.
        answer: What it answers in place of a document.
        size: What it says that its answer has.
    """

    attest: Attest
    answer: object = None
    size: int | None = None

    def __call__(self, descriptor: int, request: int, argument: nsm.Message) -> None:
        os.fstat(descriptor)
        if request != nsm.RAW or argument.request_size > 0x1000:
            raise refuse(errno.EINVAL)
        asked = cbor.decode(ctypes.string_at(argument.request, argument.request_size), limit=0x1000)
        response = self._respond(asked)
        if argument.response_size < len(response):
            raise refuse(errno.EMSGSIZE)
        ctypes.memmove(argument.response, response, len(response))
        argument.response_size = len(response) if self.size is None else self.size

    def _respond(self, asked: Any) -> bytes:
        if self.answer is not None:
            return self.answer if isinstance(self.answer, bytes) else cbor.encode(self.answer)
        if set(asked["Attestation"]) != {"user_data", "nonce", "public_key"}:
            return cbor.encode({"Error": "InvalidArgument"})
        return cbor.encode({"Attestation": {"document": self.attest(asked["Attestation"]["user_data"])}})


def device_file(folder: Path) -> Path:
    """A file that can be opened in place of a device."""
    path = folder / "device"
    path.touch()
    return path
