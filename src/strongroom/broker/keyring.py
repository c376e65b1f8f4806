"""The data keys of a store: what wraps its secrets, unwrapped by a root key when the store is opened.

    root key (file, TPM, HSM, KMS)  wraps  data key, version N  wraps  every secret of the store

So a release costs no round trip to an HSM. The data keys are in the memory of each broker, and nowhere else
in the clear. The table `roots` has, for each version, a wrapped copy for each root key that opens the store.
The newest version wraps; older ones only unwrap, until a rotation has left nothing under them.

Each transaction begins with a look at that table: a broker that runs picks up what a rotation changes, and
takes part in it. Where the rotation could not reach the root key of another broker (a TPM belongs to one
machine), it leaves the new data key wrapped under the old one, `handover/N`; that broker then adds a copy of
its own.

A wrapped secret is `2 (1 byte) || version (4) || as strongroom.broker.wrap`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self

from strongroom.broker.database import Connection
from strongroom.broker.errors import ROOT_KEY_WRONG, SECRET_UNREADABLE
from strongroom.broker.rootkey import RootKey
from strongroom.broker.wrap import KEY_BYTES, WrappingKey
from strongroom.errors import BrokerError

HANDOVER: Final = "handover/"
_FORMAT: Final = b"\x02"
_HEADER_BYTES: Final = 5


class KeyRing:
    """The data keys of one store.

    Args:
        roots: Root keys: the first wraps, each may unwrap.
        rng: Source of data keys and nonces.
    """

    def __init__(self, roots: Sequence[RootKey], *, rng: Callable[[int], bytes] = os.urandom) -> None:
        self._roots = tuple(roots)
        self._rng = rng
        self._store_id = ""
        self._raw: dict[int, bytes] = {}
        self._keys: dict[int, WrappingKey] = {}
        self._without_copy: set[int] = set()
        self._stale: set[int] = set()

    @classmethod
    def of(cls, data_keys: Mapping[int, bytes]) -> Self:
        """A ring of data keys that are known, to open what lies under them.

        Raises:
            ValueError: One is not 32 bytes.
        """
        ring = cls(())
        ring._raw = dict(data_keys)
        ring._keys = {version: WrappingKey(raw) for version, raw in data_keys.items()}
        return ring

    @property
    def root_name(self) -> str:
        """Name of the root key that wraps."""
        return self._roots[0].name

    @property
    def other_names(self) -> tuple[str, ...]:
        """Names of the root keys that only unwrap."""
        return tuple(root.name for root in self._roots[1:])

    @property
    def version(self) -> int:
        """The version that wraps."""
        return max(self._keys)

    def data_keys(self) -> dict[int, bytes]:
        """The data keys by version, for a backup."""
        return dict(self._raw)

    def wrap(self, secret: bytes, context: str) -> bytes:
        """The secret, encrypted under the newest data key and bound to `context`."""
        version = self.version
        return _FORMAT + version.to_bytes(4) + self._keys[version].wrap(secret, context)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """The secret that `wrap` got.

        Raises:
            BrokerError: `secret-unreadable`, another key, another context or changed bytes.
        """
        key = self._keys.get(version_of(wrapped))
        if key is None:
            raise BrokerError(SECRET_UNREADABLE, context)
        return key.unwrap(wrapped[_HEADER_BYTES:], context)

    # All that follows works inside a transaction of the caller's.

    def begin(self, db: Connection, store_id: str) -> None:
        """Take the keys of a store that is being opened, and make the first one where there is none.

        Raises:
            BrokerError: `root-key-wrong`, or a code of the root key.
        """
        self._store_id = store_id
        if db.execute("SELECT 1 FROM roots").fetchone() is None:
            self.put(db, 1, self._rng(KEY_BYTES))
        self.refresh(db, writable=True)

    def refresh(self, db: Connection, *, writable: bool) -> None:
        """Take what changed since the last transaction.

        Args:
            db: The transaction.
            writable: Whether a copy for our own root key may be added where it is missing.

        Raises:
            BrokerError: `root-key-wrong`, no root key of ours opens a version; or a code of the root key.
        """
        found = db.execute("SELECT version, root FROM roots").fetchall()
        versions = {version for version, _ in found}
        for version in sorted(versions - self._keys.keys()):
            self._load(db, version)
        for version in self._keys.keys() - versions:
            del self._keys[version], self._raw[version]
        # Only what we opened without a copy of our own: one that was taken from us is not put back.
        self._without_copy = {
            each for each in self._without_copy & versions if (each, self.root_name) not in found
        }
        if writable:
            for version in sorted(self._without_copy | self._stale & versions):
                self.put(db, version, self._raw[version])
            self._stale.clear()

    def put(self, db: Connection, version: int, raw: bytes) -> None:
        """Add a data key, wrapped under our root key."""
        wrapped = self._roots[0].wrap(raw, self._context(version))
        db.execute(
            "INSERT INTO roots VALUES (?, ?, ?)"
            " ON CONFLICT (version, root) DO UPDATE SET wrapped = excluded.wrapped",
            (version, self.root_name, wrapped),
        )

    def hand_over(self, db: Connection, version: int, raw: bytes) -> None:
        """Leave a new data key for brokers with other root keys, wrapped under the one before it."""
        before = self.version
        wrapped = self._keys[before].wrap(raw, self._context(version))
        db.execute("INSERT INTO roots VALUES (?, ?, ?)", (version, f"{HANDOVER}{before}", wrapped))

    def _load(self, db: Connection, version: int) -> None:
        rows = db.execute("SELECT root, wrapped FROM roots WHERE version = ?", (version,)).fetchall()
        copies: dict[str, bytes] = dict(rows)
        context = self._context(version)
        opened_by, raw = self._open(copies, context)
        self._raw[version], self._keys[version] = raw, WrappingKey(raw, rng=self._rng)
        if opened_by != self.root_name:
            (self._stale if self.root_name in copies else self._without_copy).add(version)

    def _open(self, copies: dict[str, bytes], context: str) -> tuple[str, bytes]:
        """Open one of the copies of a data key: the name of what opened it, and the data key."""
        failure: BrokerError | None = None
        for root in self._roots:
            if root.name in copies:
                try:
                    return root.name, root.unwrap(copies[root.name], context)
                except BrokerError as error:  # a TPM after an update: an old root key may still open it
                    failure = failure or error
        for name, wrapped in copies.items():
            before = name.removeprefix(HANDOVER)
            if before != name and int(before) in self._keys:
                return name, self._keys[int(before)].unwrap(wrapped, context)
        ours, theirs = ", ".join(root.name for root in self._roots), ", ".join(sorted(copies))
        raise failure or BrokerError(ROOT_KEY_WRONG, context, found=ours, expected=theirs)

    def _context(self, version: int) -> str:
        return f"root/{self._store_id}/{version}"


def version_of(wrapped: bytes) -> int:
    """The version of the data key under which a secret is wrapped; 0 where that cannot be read."""
    if len(wrapped) < _HEADER_BYTES or wrapped[:1] != _FORMAT:
        return 0
    return int.from_bytes(wrapped[1:_HEADER_BYTES])
