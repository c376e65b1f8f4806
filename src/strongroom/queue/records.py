"""What travels through the queue: sealed requests and their answers, as fields of stream entries.

The queue server and its host are not trusted. Whatever they hand out is decoded here with a bound on every
field; anything else than a whole, well-formed record is refused with `queue-entry-malformed`. Secrecy and
integrity of the body are the business of the envelope inside it, not of this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.errors import QueueError
from strongroom.queue.errors import BODY_TOO_LARGE, ENTRY_MALFORMED, RECORD_INVALID
from strongroom.queue.names import is_name

EVIDENCE_KEY: Final = "evidence"
"""The `key` of a control record: its body is a 32-byte nonce, its answer fresh evidence of one worker."""

MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes of a body, unless the caller sets another bound."""

LARGEST_BODY: Final = 512 * 1024 * 1024
"""The bound on that bound: no server takes a longer string."""

MAX_DEADLINE: Final = 10**15
"""Latest deadline, Unix milliseconds: the year 33658."""

_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
_CONTENT_TYPE: Final = re.compile(r"[!-~][ -~]{0,126}[!-~]", re.ASCII)
_NUMBER: Final = re.compile(rb"0|[1-9][0-9]{0,15}")

_RECORD_FIELDS: Final = frozenset({b"id", b"key", b"body", b"reply", b"deadline"})
_REPLY_FIELDS: Final = frozenset({b"id", b"status", b"type", b"body"})


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """One sealed request.

    Attributes:
        id: Names the request at its front end: 1 to 128 of `A-Z a-z 0-9 . _ ~ -`. Adding the same id for the
            same front end again changes nothing.
        key: Names the key that the body is sealed to, or `evidence` for a control record. A name as in
            `names.is_name`.
        body: The sealed bytes.
        reply: Name of the front end that waits for the answer (`ReplyReader`'s `frontend_id`).
        deadline: When nobody waits any more, Unix milliseconds. A hint: the one inside the envelope counts.
    """

    id: str
    key: str
    body: bytes
    reply: str
    deadline: int

    @property
    def asks_for_evidence(self) -> bool:
        """Whether this is a control record that asks for fresh evidence over its body, a nonce."""
        return self.key == EVIDENCE_KEY


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one record.

    Attributes:
        id: The record's id.
        status: HTTP status, 100 to 599.
        content_type: Media type of the body: 2 to 128 printable ASCII characters.
        body: The sealed answer, problem details (RFC 9457), or a document.
    """

    id: str
    status: int
    content_type: str
    body: bytes


def encode_record(record: SealedRecord, *, max_body: int = MAX_BODY) -> tuple[bytes, ...]:
    """The record as alternating field names and values.

    Raises:
        QueueError: `queue-record-invalid` or `queue-body-too-large`.
    """
    _require(_ID.fullmatch(record.id) is not None, "id")
    _require(is_name(record.key), "key")
    _require(is_name(record.reply), "reply")
    _require(0 <= record.deadline <= MAX_DEADLINE, "deadline")
    _check_size(record.body, max_body)
    return (
        *(b"id", record.id.encode()),
        *(b"key", record.key.encode()),
        *(b"body", record.body),
        *(b"reply", record.reply.encode()),
        *(b"deadline", b"%d" % record.deadline),
    )


def decode_record(fields: object, *, max_body: int = MAX_BODY) -> SealedRecord:
    """A record from what the server sent as the fields of an entry.

    Raises:
        QueueError: `queue-entry-malformed` or `queue-body-too-large`.
    """
    values = _fields(fields, _RECORD_FIELDS)
    record = SealedRecord(
        id=_text(values[b"id"], "id"),
        key=_text(values[b"key"], "key"),
        body=values[b"body"],
        reply=_text(values[b"reply"], "reply"),
        deadline=_number(values[b"deadline"], "deadline"),
    )
    _demand(_ID.fullmatch(record.id) is not None, "id")
    _demand(is_name(record.key), "key")
    _demand(is_name(record.reply), "reply")
    _demand(record.deadline <= MAX_DEADLINE, "deadline")
    _check_size(record.body, max_body)
    return record


def encode_reply(reply: Reply, *, max_body: int = MAX_BODY) -> tuple[bytes, ...]:
    """The reply as alternating field names and values.

    Raises:
        QueueError: `queue-record-invalid` or `queue-body-too-large`.
    """
    _require(_ID.fullmatch(reply.id) is not None, "id")
    _require(100 <= reply.status <= 599, "status")
    _require(_CONTENT_TYPE.fullmatch(reply.content_type) is not None, "content type")
    _check_size(reply.body, max_body)
    return (
        *(b"id", reply.id.encode()),
        *(b"status", b"%d" % reply.status),
        *(b"type", reply.content_type.encode()),
        *(b"body", reply.body),
    )


def decode_reply(fields: object, *, max_body: int = MAX_BODY) -> Reply:
    """A reply from what the server sent as the fields of an entry.

    Raises:
        QueueError: `queue-entry-malformed` or `queue-body-too-large`.
    """
    values = _fields(fields, _REPLY_FIELDS)
    reply = Reply(
        id=_text(values[b"id"], "id"),
        status=_number(values[b"status"], "status"),
        content_type=_text(values[b"type"], "content type"),
        body=values[b"body"],
    )
    _demand(_ID.fullmatch(reply.id) is not None, "id")
    _demand(100 <= reply.status <= 599, "status")
    _demand(_CONTENT_TYPE.fullmatch(reply.content_type) is not None, "content type")
    _check_size(reply.body, max_body)
    return reply


def _fields(fields: object, wanted: frozenset[bytes]) -> Mapping[bytes, bytes]:
    """Pair up names and values; exactly the wanted ones, each once."""
    if not isinstance(fields, list) or len(fields) != 2 * len(wanted):
        raise QueueError(ENTRY_MALFORMED, "number of fields")
    _demand(all(isinstance(item, bytes) for item in fields), "type of a field")
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    _demand(values.keys() == wanted, "names of the fields")
    return values


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise QueueError(ENTRY_MALFORMED, what) from None


def _number(value: bytes, what: str) -> int:
    _demand(_NUMBER.fullmatch(value) is not None, what)
    return int(value)


def _demand(holds: bool, what: str) -> None:  # noqa: FBT001 -- reads as a sentence
    if not holds:
        raise QueueError(ENTRY_MALFORMED, what)


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 -- reads as a sentence
    if not holds:
        raise QueueError(RECORD_INVALID, what)


def _check_size(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise QueueError(BODY_TOO_LARGE, found=f"{len(body)} bytes", expected=f"at most {limit}")
