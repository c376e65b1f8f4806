"""How the worker asks its launcher for a quote: report data out, evidence in, over an inherited socket.

The launcher alone can quote, and it decides what the quote says about this process. The worker chooses
nothing but the 64 bytes of report data, as with a CPU instruction.

The wire is a SOCK_SEQPACKET socket pair. A request is one packet of exactly 64 bytes. The answer is one or
more packets; the first byte of each says how to go on:

    b"+" DATA   more follows
    b"." DATA   the last part; the parts together are the JSON form of the evidence
    b"!" CODE   refused, with the launcher's error code
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from strongroom.attestation.evidence import Evidence
from strongroom.errors import EvidenceError, define

QUOTE_REFUSED = define(
    "quote-refused",
    "The launcher refused to quote",
    status=500,
    remedy="The launcher's log has the reason; look at the simulator's state folder or the quoting service.",
)
QUOTING_LOST = define(
    "quoting-lost",
    "The launcher does not answer requests for quotes",
    status=500,
    remedy="Start the worker again, through its launcher.",
)

REPORT_DATA_SIZE: Final = 64
PACKET: Final = 32 * 1024
"""Largest packet in bytes; well below a socket's default buffer, so that none is refused for its size."""
MAX_PACKETS: Final = 64

MORE: Final = b"+"
LAST: Final = b"."
REFUSED: Final = b"!"

_TIMEOUT: Final = 30.0
_MAX_CODE: Final = 64


class Quoter(Protocol):
    """A source of evidence about this process."""

    def quote(self, report_data: bytes) -> Evidence:
        """Evidence that carries these 64 bytes of report data.

        Raises:
            EvidenceError: No evidence could be had.
        """
        ...


class SocketQuoter:
    """Asks the launcher at the other end of a socket pair. Safe to use from several threads.

    Args:
        sock: A SOCK_SEQPACKET socket; this object owns it from here on.
        timeout: Seconds to wait for each packet.
    """

    def __init__(self, sock: socket.socket, *, timeout: float = _TIMEOUT) -> None:
        sock.settimeout(timeout)
        self._sock = sock
        self._lock = threading.Lock()
        self._broken = False

    def quote(self, report_data: bytes) -> Evidence:
        """Evidence that carries these 64 bytes of report data.

        Raises:
            EvidenceError: `quote-refused` or `quoting-lost`; `evidence-malformed` or `evidence-too-large`
                if the answer is not evidence.
        """
        if len(report_data) != REPORT_DATA_SIZE:
            raise EvidenceError(
                QUOTE_REFUSED, "report data", found=f"{len(report_data)} bytes", expected=REPORT_DATA_SIZE
            )
        with self._lock:
            return Evidence.parse(self._exchange(report_data))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _exchange(self, report_data: bytes) -> bytes:
        if self._broken:
            raise EvidenceError(QUOTING_LOST, "an earlier answer was left unread")
        self._broken = True  # until this answer is read whole: a late answer must not serve the next request
        try:
            self._sock.sendall(report_data)
            mark, document = self._receive()
        except OSError:
            raise EvidenceError(QUOTING_LOST) from None
        self._broken = False
        if mark == REFUSED:
            raise EvidenceError(QUOTE_REFUSED, document[:_MAX_CODE].decode("ascii", "replace"))
        return document

    def _receive(self) -> tuple[bytes, bytes]:
        document = bytearray()
        for _ in range(MAX_PACKETS):
            packet = self._sock.recv(PACKET)
            mark, rest = packet[:1], packet[1:]
            if mark not in {MORE, LAST, REFUSED}:
                raise EvidenceError(QUOTING_LOST, "the connection ended")
            document += rest
            if mark != MORE:
                return mark, bytes(document)
        raise EvidenceError(QUOTING_LOST, "the answer does not end")


def inherited(argv: Sequence[str]) -> tuple[int, SocketQuoter]:
    """What the launcher hands to the process that it starts.

    Args:
        argv: `sys.argv` as the launcher's bootstrap leaves it: name, configuration descriptor, quoting
            descriptor.

    Returns:
        The file descriptor from which the configuration can be read to its end, and the quoter.

    Raises:
        EvidenceError: `quoting-lost`: this process was not started by a launcher.
    """
    try:
        _, config, quotes = argv
        descriptor = int(config)
        os.fstat(descriptor)
        sock = socket.socket(fileno=int(quotes))
    except (ValueError, OSError):
        raise EvidenceError(QUOTING_LOST, "this process was not started by a launcher") from None
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET:
        sock.detach()
        raise EvidenceError(QUOTING_LOST, "the inherited descriptor is no quoting socket")
    for inherited_descriptor in (descriptor, sock.fileno()):
        os.set_inheritable(inherited_descriptor, False)
    return descriptor, SocketQuoter(sock)
