"""The worker's own log: JSON lines on stderr, and only facts that are safe for the host to read.

The host reads this log, so nothing of a request may reach it. That is held by construction: only the field
names of `Fields` are written, each value is a number, a truth value or a short name of harmless characters,
and an exception is reduced to its class and the place in our source where it arose, never its message.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, TypedDict, Unpack

_SAFE: Final = re.compile(r"[A-Za-z0-9._:/@+-]{0,200}\Z")
_MAX_LINE: Final = 4000


class Fields(TypedDict, total=False):
    """Everything that a line may carry besides its time and event."""

    answered: int
    attempt: int
    code: str
    count: int
    epoch: int
    error: str
    expired: int
    held: int
    level: str
    model: str
    outrun: int
    seconds: float
    service: str
    slots: int
    taken: int
    unopenable: int
    version: str
    where: str
    worker: str


_ALLOWED: Final = frozenset(Fields.__annotations__)


class Journal:
    """Writes events as JSON lines.

    Args:
        write: Takes one whole line; the default writes to stderr in one system call.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, write: Callable[[bytes], object] | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._write = write or _write_stderr
        self._clock = clock

    def event(self, event: str, **fields: Unpack[Fields]) -> None:
        """Write one line; a name that is not allowed is left out and an unsafe value is written as `?`."""
        line: dict[str, object] = {"time": round(self._clock(), 3), "event": _safe(event)}
        for name, value in fields.items():
            if name in _ALLOWED:
                line[name] = _safe(value)
        self._write(json.dumps(line, separators=(",", ":")).encode()[:_MAX_LINE] + b"\n")

    def failure(self, event: str, cause: BaseException, /, **fields: Unpack[Fields]) -> None:
        """Write an event about an exception: its class, its stable code if it has one, and where it arose."""
        facts: Fields = {"error": type(cause).__name__, "where": where(cause.__traceback__)}
        code = getattr(cause, "code", None)
        if isinstance(code, str):
            facts["code"] = code
        facts.update(fields)
        self.event(event, **facts)


def where(trace: TracebackType | None) -> str:
    """The innermost place of a traceback as `module.py:line`, without its text."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""


def silence_leaks(journal: Journal) -> None:
    """Route everything that Python would print about an error through the journal, without its message.

    Tracebacks, unraisable errors, warnings and log records of libraries can quote values of a request; their
    class and place cannot.
    """

    def uncaught(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
        journal.event("uncaught", error=kind.__name__, where=where(trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        journal.event("uncaught", error=args.exc_type.__name__, where=where(args.exc_traceback))

    def unraisable(args: Any) -> None:
        journal.event("unraisable", error=args.exc_type.__name__, where=where(args.exc_traceback))

    def warned(_: object, category: type[Warning], filename: str, lineno: int, *__: object) -> None:
        journal.event("warning", error=category.__name__, where=f"{PurePath(filename).name}:{lineno}")

    class Silent(logging.Handler):
        """Libraries log too, and Python would print what nobody handles."""

        def emit(self, record: logging.LogRecord) -> None:
            journal.event("log", where=f"{record.filename}:{record.lineno}", level=record.levelname)

    logging.basicConfig(handlers=[Silent()], level=logging.WARNING, force=True)
    logging.raiseExceptions = False
    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    warnings.showwarning = warned  # type: ignore[assignment]


def _safe(value: object) -> object:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    return value if isinstance(value, str) and _SAFE.match(value) else "?"


def _write_stderr(line: bytes) -> None:
    try:
        os.write(2, line)
    except OSError:
        # Whoever read our log is gone; serving goes on without it.
        return
