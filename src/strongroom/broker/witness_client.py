"""The log's side of the witness protocol (C2SP tlog-witness): one witness, one connection.

answer = WitnessClient(key, "https://witness.example", timeout=3.0).add(request)
"""

from __future__ import annotations

import http.client
import ssl
import threading
import urllib.parse
from typing import Final

from strongroom.broker.log_errors import WITNESS_MISSING
from strongroom.codec import note
from strongroom.codec.checkpoint import parse_size
from strongroom.codec.note import Note, NoteSignature
from strongroom.codec.tlog import AddCheckpoint
from strongroom.crypto.notes import NoteKey
from strongroom.errors import BrokerError, StrongroomError, UnreachableError

ADD_CHECKPOINT: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
_OK: Final = 200
_CONFLICT: Final = 409
_MAX_ANSWER: Final = 64 * 1024
_MAX_SIZE_LINE: Final = 32


class WitnessClient:
    """Asks one witness. Safe to share between threads; they wait for each other.

    Args:
        key: The witness's key, for cosignatures.
        url: Its submission prefix, `http://...` or `https://...`.
        timeout: Seconds for each step on the network.
        ssl_context: For `https`; by default the system's trusted authorities.

    Raises:
        ValueError: `url` is not such a URL.
    """

    def __init__(
        self, key: NoteKey, url: str, *, timeout: float, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("a witness's address is http://host:port or https://host:port")
        self.key = key
        self._path = parts.path.rstrip("/") + ADD_CHECKPOINT
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
            if parts.scheme == "http"
            else http.client.HTTPSConnection(
                parts.hostname,
                parts.port,
                timeout=timeout,
                context=ssl_context or ssl.create_default_context(),
            )
        )

    def add(self, request: AddCheckpoint, text: str) -> NoteSignature | int:
        """Ask for a cosignature.

        Args:
            request: Old size, proof and the signed checkpoint.
            text: The text of the checkpoint.

        Returns:
            The cosignature, which holds; or the size that the witness cosigned last, if that is another.

        Raises:
            UnreachableError: `witness-missing`: no answer.
            BrokerError: `witness-missing`: an answer that refuses or makes no sense.
            CryptoError: `note-unsigned` or `signature-invalid`: not the cosignature of this witness.
        """
        with self._lock:
            status, kind, body = self._exchange(request.render())
        if status == _CONFLICT and kind == SIZE_TYPE:
            size = parse_size(body[:_MAX_SIZE_LINE].decode("ascii", "replace").removesuffix("\n"))
            if size is not None:
                return size
        if status != _OK:
            raise BrokerError(WITNESS_MISSING, self.key.name, found=f"HTTP {status}")
        try:
            signatures = note.parse_signatures(body)
        except StrongroomError as error:
            raise BrokerError(WITNESS_MISSING, f"{self.key.name}: {error.code}") from error
        own = [each for each in signatures if (each.name, each.key_id) == (self.key.name, self.key.key_id)]
        self.key.check(Note(text, tuple(own)))
        return own[-1]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _exchange(self, body: bytes) -> tuple[int, str, bytes]:
        reused = self._connection.sock is not None
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "text/plain; charset=utf-8"})
            response = self._connection.getresponse()
            data = response.read(_MAX_ANSWER + 1)
            if len(data) > _MAX_ANSWER:
                self._connection.close()  # the rest is not wanted
            return response.status, response.getheader("Content-Type") or "", data
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            # A server may close an idle connection at any time; the same request twice changes nothing.
            if reused and isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                return self._exchange(body)
            raise UnreachableError(WITNESS_MISSING, f"{self.key.name}: {type(error).__name__}") from error
