"""Service keys per epoch: minted, honoured for a time, then deleted for good.

An epoch is a counter of the broker. Its private keys are wrapped under a key of their own, which lies,
wrapped under the root key, in a file of its own beside the database. Deleting an epoch deletes its row (with
SQLite's secure deletion), destroys that file and truncates the write-ahead log; whoever steals root key,
database and old copies of the database later still cannot open what was sealed to a deleted epoch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attestation.keyset import CLASSICAL_RELEASE, KEYSET_TYPE, POST_QUANTUM_RELEASE, Keyset
from strongroom.broker import keyfile, log, registry
from strongroom.broker.database import Connection
from strongroom.broker.errors import EPOCHS_FULL, SECRET_UNREADABLE
from strongroom.broker.log_entry import Event, Fact
from strongroom.broker.policies import policy_of
from strongroom.broker.registry import ServiceRecord
from strongroom.broker.release import ServiceEpoch
from strongroom.broker.release_forms import MAX_EPOCHS
from strongroom.broker.store import Store
from strongroom.broker.wrap import KEY_BYTES, WrappingKey
from strongroom.crypto.hpke import Aead, Kdf, Kem, PrivateKey
from strongroom.crypto.ohttp import GatewayKey, KeyConfig, encode_key_configs
from strongroom.errors import BrokerError

CLOCK_SKEW: Final = 300
"""Seconds by which a new keyset is valid before it was made, for clients whose clock is behind."""

_KEMS: Final = (Kem.MLKEM768_X25519, Kem.X25519_HKDF_SHA256)
_SUITES: Final = tuple(
    (int(Kdf.HKDF_SHA256), aead) for aead in (Aead.AES_256_GCM, Aead.CHACHA20_POLY1305, Aead.AES_128_GCM)
)
_SEED_BYTES: Final = 32
_KEY_IDS: Final = 256
_FILE_LIMIT: Final = 256
_log = logging.getLogger("strongroom.broker")


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """An epoch of a service, without its private keys.

    Attributes:
        service: Name of the service.
        epoch: Its number.
        key_file: Name of the file with its wrapping key.
        keyset: The keyset's payload.
        signature: The broker's signature over it.
        minted: Unix time.
        honoured_until: Unix time at which it is deleted.
    """

    service: str
    epoch: int
    key_file: str
    keyset: bytes
    signature: bytes
    minted: int
    honoured_until: int


def listed(db: Connection, service: str) -> list[EpochRecord]:
    """All epochs that are in the store, newest first."""
    rows = db.execute(
        "SELECT service, epoch, key_file, keyset, signature, minted, honoured_until"
        " FROM epochs WHERE service = ? ORDER BY epoch DESC",
        (service,),
    )
    return [EpochRecord(*row) for row in rows]


def honoured(db: Connection, service: str, now: int) -> list[EpochRecord]:
    """The epochs whose keys may be released at `now`, newest first."""
    return [record for record in listed(db, service) if now < record.honoured_until]


def mint(store: Store, db: Connection, service: ServiceRecord, *, grace: int, now: int) -> int:
    """Begin a new epoch inside the caller's write transaction.

    Args:
        store: Where the key file goes.
        db: The transaction.
        service: The service; its `last_epoch` is counted up and saved.
        grace: Seconds for which older epochs are honoured from now on, at most.
        now: Unix time.

    Returns:
        The new epoch.

    Raises:
        BrokerError: `epochs-full`; `store-unusable`, the key file cannot be written.
    """
    if grace > 0 and len(honoured(db, service.name, now)) >= MAX_EPOCHS:
        raise BrokerError(EPOCHS_FULL, expected=f"at most {MAX_EPOCHS}")
    end(db, service.name, now + grace)
    epoch = service.last_epoch + 1
    policy = policy_of(service.policy)
    seeds = [store.rng(_SEED_BYTES) for _ in _KEMS]
    keyset = Keyset(
        service=service.name,
        epoch=epoch,
        keys=encode_key_configs(key.config for key in _gateway_keys(epoch, seeds)),
        release_policy=policy.digest,
        models=registry.keyset_models(db, service),
        not_before=max(0, now - CLOCK_SKEW),
        not_after=now + service.lifetime,
        broker_key=store.signing_key.verifying_key.text,
        key_custodian=service.custodian,
        key_release=CLASSICAL_RELEASE if policy.allow_classical_release else POST_QUANTUM_RELEASE,
    )
    payload = keyset.payload()
    key_file = store.rng(16).hex()
    wrapping_key = store.rng(KEY_BYTES)
    wrapped = WrappingKey(wrapping_key, rng=store.rng).wrap(b"".join(seeds), _context(service.name, epoch))
    keyfile.create(
        store.epoch_key_path(key_file), store.root.wrap(wrapping_key, f"epoch/{key_file}"), rng=store.rng
    )
    signature = store.signing_key.sign(KEYSET_TYPE, payload)
    db.execute(
        "INSERT INTO epochs (service, epoch, key_file, wrapped, keyset, signature, minted, honoured_until)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (service.name, epoch, key_file, wrapped, payload, signature, now, keyset.not_after),
    )
    registry.save_service(db, replace(service, last_epoch=epoch))
    facts: dict[str, Fact] = {"service": service.name, "epoch": epoch, "keyset": keyset.digest()}
    log.append(store, db, time=now, event=Event.EPOCH_MINTED, facts={**facts, "grace": grace})
    return epoch


def end(db: Connection, service: str, time: int) -> None:
    """Honour no epoch of a service after a time; `delete_expired` deletes them then."""
    db.execute(
        "UPDATE epochs SET honoured_until = ? WHERE service = ? AND honoured_until > ?", (time, service, time)
    )


def load(store: Store, db: Connection, record: EpochRecord) -> ServiceEpoch:
    """The private keys of an epoch.

    Raises:
        BrokerError: `secret-unreadable`, `key-file-exposed`, or `store-unusable` where the key file is gone.
    """
    row = db.execute(
        "SELECT wrapped FROM epochs WHERE service = ? AND epoch = ?", (record.service, record.epoch)
    ).fetchone()
    if row is None:
        raise BrokerError(SECRET_UNREADABLE, f"epoch {record.epoch} is gone")
    content = keyfile.read(store.epoch_key_path(record.key_file), limit=_FILE_LIMIT)
    wrapping_key = WrappingKey(store.root.unwrap(content, f"epoch/{record.key_file}"))
    secrets = wrapping_key.unwrap(row[0], _context(record.service, record.epoch))
    seeds = [secrets[at : at + _SEED_BYTES] for at in range(0, len(secrets), _SEED_BYTES)]
    keys = _gateway_keys(record.epoch, seeds)
    return ServiceEpoch(Keyset.parse(record.keyset), record.signature, keys, record.honoured_until)


def delete_expired(store: Store, now: int) -> list[tuple[str, int]]:
    """Delete what is no longer honoured, destroy its wrapping keys, and leave nothing of it in the database.

    Key files that belong to no epoch, left by a process that was killed at the wrong moment, go too.

    Returns:
        Service and number of the epochs that were deleted.

    Raises:
        BrokerError: `store-busy` or `store-unusable`. Call again: what is left is deleted then.
    """
    with store.write() as db:
        rows = db.execute(
            "DELETE FROM epochs WHERE honoured_until <= ? RETURNING service, epoch, key_file", (now,)
        ).fetchall()
        for service, epoch, _ in rows:
            facts: dict[str, Fact] = {"service": service, "epoch": epoch}
            log.append(store, db, time=now, event=Event.EPOCH_DELETED, facts=facts)
        known = {store.epoch_key_path(name) for (name,) in db.execute("SELECT key_file FROM epochs")}
        # Listed under the write lock: no other process is between making a file and committing its row.
        doomed = [path for path in store.epoch_key_files() if path not in known]
    for path in doomed:
        keyfile.destroy(path, rng=store.rng)
    store.checkpoint()
    return [(service, epoch) for service, epoch, _ in rows]


def rotate_due(store: Store, now: int) -> list[tuple[str, int]]:
    """Begin a new epoch for services whose newest one has less than a quarter of its life left.

    Each service has a transaction of its own; where one fails, that is logged and the others go on.

    Returns:
        Service and number of the new epochs.

    Raises:
        BrokerError: `store-unusable`: the services cannot be read.
    """
    with store.read() as db:
        names = [service.name for service in registry.services(db) if not service.revoked]
    minted = []
    for name in names:
        try:
            epoch = _rotate_if_due(store, name, now)
        except Exception as error:  # whatever it is: it must not keep the others from new keys
            _log.error("service %s gets no new epoch, which will be tried again: %s", name, error)
            continue
        if epoch is not None:
            minted.append((name, epoch))
    return minted


def _rotate_if_due(store: Store, name: str, now: int) -> int | None:
    with store.read() as db:
        due = _is_due(db, name, now) is not None
    if not due:
        return None
    with store.write() as db:  # another process may have been faster
        service = _is_due(db, name, now)
        return None if service is None else mint(store, db, service, grace=service.grace, now=now)


def _is_due(db: Connection, name: str, now: int) -> ServiceRecord | None:
    """The service if its newest epoch has less than a quarter of its life left."""
    service = registry.service(db, name)
    if service.revoked:
        return None
    newest = max((record.honoured_until for record in listed(db, name)), default=now)
    return service if newest - now < service.lifetime // 4 else None


def _gateway_keys(epoch: int, seeds: list[bytes]) -> tuple[GatewayKey, ...]:
    keys = []
    for index, (kem, seed) in enumerate(zip(_KEMS, seeds, strict=True)):
        private = PrivateKey.from_bytes(kem, seed)
        key_id = (len(_KEMS) * epoch + index) % _KEY_IDS
        keys.append(GatewayKey(KeyConfig(key_id, kem, private.public_bytes(), _SUITES), private))
    return tuple(keys)


def _context(service: str, epoch: int) -> str:
    return f"{service}/{epoch}"
