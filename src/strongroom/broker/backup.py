"""Backups of a key store: one encrypted file, whose key is split into shares.

    header (JCS, one line)  type, made, store, set, threshold, shares
    nonce (12 bytes) || AES-256-GCM of the content, with the header as additional data

The content is every table but those of the epochs and of the root keys, as it stands, and the data keys. So a
backup opens with k shares and without the root key, and brings back services, models, the broker's signing
key and the log. It does not bring back epochs: what was sealed to them stays lost, which is what forward
secrecy means. A restored store begins new ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.broker import log, rotation, shares
from strongroom.broker.database import Connection, Value
from strongroom.broker.errors import BACKUP_INVALID, STORE_NOT_EMPTY
from strongroom.broker.keyring import KeyRing
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.shares import ShareSet
from strongroom.broker.store import SCHEMA_VERSION, SIGNING_KEY, TABLES, Store, secret_context
from strongroom.codec import b64, jcs
from strongroom.crypto.sign import SigningKey
from strongroom.errors import BrokerError, CodecError

TYPE: Final = "strongroom-backup/1"
MAX_BACKUP: Final = 1 << 30
EPOCH_STEP: Final = 1000
"""By how much the epochs of a restored store count on: no number that was given since comes again."""

_HEADER_LIMIT: Final = 1024
_NONCE_BYTES: Final = 12
_KEPT: Final = tuple(name for name in TABLES if name not in {"epochs", "roots", "store"})
_EMPTY: Final = ("services", "models", "log")


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup and the shares of its key.

    Attributes:
        data: The file.
        shares: One text for each of those who keep one.
    """

    data: bytes
    shares: tuple[str, ...]


def make(store: Store, *, threshold: int, count: int) -> Backup:
    """Make a backup, and log it.

    Args:
        store: The store.
        threshold: How many shares open it, 2 or more.
        count: How many shares there are, at most 16.

    Raises:
        BrokerError: `shares-invalid`, or a code of the store.
    """
    key = store.rng(shares.KEY_BYTES)
    of, texts = shares.split(key, threshold=threshold, count=count)
    now = int(store.now())
    facts: dict[str, Fact] = {"set": of.identifier, "threshold": threshold, "shares": count}
    with store.write() as db:
        log.append(store, db, time=now, event=Event.BACKUP_MADE, facts=facts)
    with store.read() as db:
        (identifier,) = db.execute("SELECT id FROM store").fetchone()
        tables = {name: _rows(db, name) for name in _KEPT}
        data_keys = {str(version): b64.encode_url(raw) for version, raw in store.root.data_keys().items()}
    header = jcs.canonical({"type": TYPE, "made": now, "store": identifier, **facts})
    content = json.dumps({"schema": SCHEMA_VERSION, "data_keys": data_keys, "tables": tables}).encode()
    nonce = store.rng(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, content, header)
    return Backup(header + b"\n" + nonce + sealed, tuple(texts))


def restore(store: Store, data: bytes, texts: Sequence[str]) -> None:
    """Fill an empty store from a backup. Close it afterwards, and open it anew; no broker may run on it.

    Everything is wrapped under the data key of the store that is filled.

    Args:
        store: A store without services, models and log entries.
        data: The backup.
        texts: Shares of its key.

    Raises:
        BrokerError: `store-not-empty`, `backup-invalid`, `share-invalid`, `shares-missing`, or a code of the
            store.
    """
    header, of = _parse(data)
    content = _open(shares.combine(texts, of), data)
    if content["schema"] != SCHEMA_VERSION:
        what = "it is of a store of another version"
        raise BrokerError(BACKUP_INVALID, what, found=content["schema"], expected=SCHEMA_VERSION)
    before = KeyRing.of({int(v): b64.decode_url(raw, limit=64) for v, raw in content["data_keys"].items()})
    with store.write() as db:
        for name in _EMPTY:
            if db.execute(f"SELECT 1 FROM {name}").fetchone() is not None:  # noqa: S608 -- our own names
                raise BrokerError(STORE_NOT_EMPTY, name)
        for name in _KEPT:
            db.execute(f"DELETE FROM {name}")  # noqa: S608 -- our own names
            for row in content["tables"][name]:
                insert = f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})"  # noqa: S608
                db.execute(insert, [_value(each) for each in row])
        rotation.rewrap(db, before, store.root)
        db.execute("UPDATE services SET last_epoch = last_epoch + ?", (EPOCH_STEP,))
        (wrapped,) = db.execute("SELECT wrapped FROM secrets WHERE name = ?", (SIGNING_KEY,)).fetchone()
        signing_key = SigningKey.from_raw(store.root.unwrap(wrapped, secret_context(SIGNING_KEY)))
        facts: dict[str, Fact] = {"made": header["made"], "store": header["store"]}
        log.append(
            store,
            db,
            time=int(store.now()),
            event=Event.STORE_RESTORED,
            facts=facts,
            signing_key=signing_key,
        )
    store.checkpoint()


def _parse(data: bytes) -> tuple[dict[str, Any], ShareSet]:
    end = data.find(b"\n", 0, _HEADER_LIMIT)
    try:
        header: dict[str, Any] = jcs.parse(data[: max(end, 0)], limit=_HEADER_LIMIT, what="backup")
        of = ShareSet(header["set"], header["threshold"], header["shares"])
        numbers = (of.identifier, of.threshold, of.count, header["made"])
        valid = header["type"] == TYPE and all(isinstance(number, int) for number in numbers)
    except (CodecError, KeyError, TypeError):
        valid = False
    if not valid or len(data) > MAX_BACKUP:
        raise BrokerError(BACKUP_INVALID, "it is no backup of a key store")
    return header, of


def _open(key: bytes, data: bytes) -> dict[str, Any]:
    header, _, sealed = data.partition(b"\n")
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        content: dict[str, Any] = json.loads(AESGCM(key).decrypt(nonce, ciphertext, header))
    except (InvalidTag, ValueError):
        raise BrokerError(BACKUP_INVALID, "it was changed, or the shares are of another one") from None
    return content


def _rows(db: Connection, table: str) -> list[list[Any]]:
    rows = db.execute(f"SELECT * FROM {table}")  # noqa: S608 -- our own names
    return [[{"bytes": b64.encode_url(v)} if isinstance(v, bytes) else v for v in row] for row in rows]


def _value(value: Any) -> Value:
    found: Value = b64.decode_url(value["bytes"], limit=MAX_BACKUP) if isinstance(value, dict) else value
    return found
