"""How a worker comes by its keys and models: attest, take what the broker signed, open the bundles in memory.

Everything here blocks, on the network or on the processor: it runs in a thread of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from strongroom.attestation import initdata
from strongroom.attestation.initdata import InitData
from strongroom.broker.client import KbsClient
from strongroom.broker.envelope import Terms
from strongroom.broker.release import ModelKey, ServiceEpoch
from strongroom.crypto.agefile import open_sealed
from strongroom.crypto.sign import VerifyingKey
from strongroom.errors import CryptoError
from strongroom.models.bundle import Bundle, read_bundle
from strongroom.worker.errors import BUNDLE_REFUSED, POLICY_REFUSED, WorkerError

MAX_SEALED: Final = 4 * 1024**3
"""Largest sealed bundle in bytes."""

_MAX_POLICY: Final = 256 * 1024


class Enrolment:
    """A worker's dealings with its broker. Not for use from several threads at once.

    Args:
        client: The way to the broker. It is not trusted; signatures are.
        init_data: Exact bytes of the init-data that this worker's evidence is bound to.

    Raises:
        EvidenceError: `init-data-malformed`.
        CryptoError: `signing-key-invalid`.
    """

    def __init__(self, client: KbsClient, init_data: bytes) -> None:
        self._client = client
        self._bytes = init_data
        self.init_data: InitData = initdata.parse(init_data)
        self.broker_key = VerifyingKey.parse(self.init_data.broker_key)
        self._terms = Terms.of(self.init_data)

    def attest(self) -> None:
        """Show evidence to the broker; keys can be fetched after this.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: The broker refused, with its code.
            EvidenceError: No quote could be had.
        """
        self._client.attest(self._bytes)

    def service_keys(self) -> tuple[ServiceEpoch, ...]:
        """The epochs that the broker honours, newest first.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: The broker refused, or what it released does not hold.
            CryptoError: What it released is not in its log.
        """
        return self._client.service_key(self.init_data.service, self.broker_key, self._terms)

    def bundle(self, path: Path, resource: str) -> Bundle:
        """Read a sealed bundle and open it with the key that the broker releases for the resource.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: The broker refused, or what it released does not hold.
            CryptoError: What it released is not in its log.
            WorkerError: `bundle-refused`.
            ModelError: The bundle is malformed.
        """
        key = self._client.model_key(resource, self.broker_key, self._terms)
        return open_bundle(_read(path), key)

    def release_policy(self) -> bytes:
        """Text of the policy whose digest the init-data names.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: The broker refused.
            WorkerError: `release-policy-refused`.
        """
        return check_policy(self._client.policy(self.init_data.service), self.init_data.release_policy)

    def close(self) -> None:
        """Forget the session and its one-time key; the next step opens a new connection."""
        self._client.close()

    def beacon(self) -> bytes:
        """A fresh beacon, as served.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: The broker refused.
        """
        return self._client.beacon(self.init_data.service)


def open_bundle(sealed: bytes, key: ModelKey) -> Bundle:
    """Open a sealed bundle: only the one that the released key names, and only in memory.

    An age file does not say who made it, so that the digests decide (design, "Keys").

    Raises:
        WorkerError: `bundle-refused`: another file, another manifest, or a version below the floor.
        ModelError: The bundle is malformed.
    """
    digest = f"sha256:{hashlib.sha256(sealed).hexdigest()}"
    if digest != key.sealed:
        raise WorkerError(BUNDLE_REFUSED, "digest of the sealed file", found=digest, expected=key.sealed)
    try:
        bundle = read_bundle(open_sealed(sealed, key.identity, limit=MAX_SEALED))
    except CryptoError as error:
        raise WorkerError(BUNDLE_REFUSED, f"it does not open with the released key: {error.code}") from None
    manifest = bundle.manifest
    if manifest.digest != key.manifest:
        raise WorkerError(
            BUNDLE_REFUSED, "digest of the manifest", found=manifest.digest, expected=key.manifest
        )
    number = int(manifest.version) if manifest.version.isdecimal() else 0  # as the broker counts
    if number < key.version_floor:
        raise WorkerError(
            BUNDLE_REFUSED, "version", found=manifest.version, expected=f"at least {key.version_floor}"
        )
    return bundle


def check_policy(text: bytes, digest: str) -> bytes:
    """Return the text of a release policy if it has the digest that the init-data names.

    Raises:
        WorkerError: `release-policy-refused`.
    """
    found = f"sha256:{hashlib.sha256(text).hexdigest()}"
    if len(text) > _MAX_POLICY or found != digest:
        raise WorkerError(POLICY_REFUSED, found=found, expected=digest)
    return text


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SEALED + 1)
    except OSError as error:
        raise WorkerError(BUNDLE_REFUSED, f"the file cannot be read: {type(error).__name__}") from None
    if len(data) > MAX_SEALED:
        raise WorkerError(BUNDLE_REFUSED, "size", expected=f"at most {MAX_SEALED} bytes")
    return data
