"""Names and keys: everything of one service and shard has one hash tag, so that it lies on one server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.errors import ConfigError
from strongroom.queue.errors import QUEUE_NAME_INVALID

GROUP: Final = "workers"
"""The consumer group of every request stream."""

MAX_SHARDS: Final = 1024

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


def is_name(text: str) -> bool:
    """Whether `text` can name a service, front end, worker or kind of document."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str, what: str) -> str:
    """Return `text` if it is a usable name.

    Raises:
        ConfigError: `queue-name-invalid`.
    """
    if not is_name(text):
        raise ConfigError(QUEUE_NAME_INVALID, what, found=repr(text[:128]))
    return text


def check_range(value: int, what: str, low: int, high: int) -> int:
    """Return `value` if it lies from `low` to `high`.

    Raises:
        ConfigError: `queue-name-invalid`.
    """
    if not low <= value <= high:
        raise ConfigError(QUEUE_NAME_INVALID, what, found=value, expected=f"{low} to {high}")
    return value


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one shard of one service.

    Attributes:
        service: Name of the service.
        shard: Number of the shard, from 0.

    Raises:
        ConfigError: `queue-name-invalid`.
    """

    service: str
    shard: int = 0

    def __post_init__(self) -> None:
        check_name(self.service, "service")
        check_range(self.shard, "shard", 0, MAX_SHARDS - 1)

    @property
    def tag(self) -> str:
        """The common beginning of all keys."""
        return f"{{strongroom:{self.service}:{self.shard}}}"

    @property
    def requests(self) -> str:
        """The stream of requests."""
        return f"{self.tag}:requests"

    @property
    def dead(self) -> str:
        """The stream of entries that were given up."""
        return f"{self.tag}:dead"

    def replies(self, frontend: str) -> str:
        """The stream of answers to one front end."""
        return f"{self.tag}:replies:{frontend}"

    def marker(self, frontend: str, record_id: str) -> str:
        """The key that says that a record was added already."""
        return f"{self.tag}:seen:{frontend}:{record_id}"

    def document(self, kind: str, worker: str) -> str:
        """A document that a worker has published."""
        return f"{self.tag}:doc:{kind}:{worker}"

    def document_index(self, kind: str) -> str:
        """The sorted set of workers that have published documents of a kind, by time of expiry."""
        return f"{self.tag}:docs:{kind}"
