"""The simulator's state folder: its keys, made once, and its collateral, renewed every day.

    state = SimulatorState.open(folder)
    state.root_sha256                               # what a policy pins
    state.quote(EvidenceKind.SGX, measurement, init_data_digest, report_data)

Whoever can read the folder can make evidence for any measurement. That is one reason why simulated evidence
is not protection.

All keys lie in one file that appears complete or not at all: of several processes that open a new folder at
once, one makes the keys and the others use them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.errors import EvidenceError
from strongroom.forms import ready
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.errors import (
    BAD_FIELD,
    STATE_DAMAGED,
    STATE_EXPOSED,
    STATE_UNWRITABLE,
    SimulatorError,
)
from strongroom_simulator.pki import Holder, Pki, pem
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report

COLLATERAL_AGE: Final = 86400
"""Seconds after which collateral is issued again."""

_KEYS: Final = "keys.json"
_FORMAT: Final = "strongroom-simulator/1"
_MAX_FILE: Final = 1024 * 1024
_DIGEST: Final = 48


@ready
class _Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str
    key: str


@ready
class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    root: _Pair
    platform_ca: _Pair
    tcb_signing: _Pair
    pck: _Pair
    ppid: str


@ready
class _Issued(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    issued: int
    root: str
    collateral: dict[str, str]


class SimulatorState:
    """A simulated platform with a quoting enclave for each kind. See `open`."""

    def __init__(
        self, folder: Path, pki: Pki, *, now: Callable[[], float], rng: Callable[[int], bytes]
    ) -> None:
        self._folder = folder
        self._pki = pki
        self._now = now
        self._enclaves = {kind: QuotingEnclave(pki, kind, rng) for kind in DCAP_KINDS}
        self._issued: dict[EvidenceKind, _Issued] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        now: Callable[[], float] = time.time,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> SimulatorState:
        """Open a state folder; make it, and the keys in it, if they are not there.

        Args:
            folder: Created with mode 0700, the keys in it with 0600.
            now: Unix time.
            rng: Randomness.

        Raises:
            SimulatorError: `simulator-state-damaged`, `simulator-state-exposed` or
                `simulator-state-unwritable`.
        """
        path = folder / _KEYS
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(folder)
            if not path.exists():
                _write_new(path, _encode(Pki.create(int(now()), rng)))
        except OSError as error:
            raise SimulatorError(STATE_UNWRITABLE, f"{folder}: {error.strerror}") from None
        _check_private(path)
        return cls(folder, _load(path), now=now, rng=rng)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root certificate's DER, lower-case hex: what a policy pins."""
        return self._pki.root_sha256

    def quote(
        self, kind: EvidenceKind, measurement: bytes, init_data_digest: bytes, report_data: bytes
    ) -> Evidence:
        """Simulated evidence with its collateral, without the init-data itself.

        Args:
            kind: `SGX` or `TDX`.
            measurement: MRENCLAVE (32 bytes) or MRTD (48 bytes).
            init_data_digest: SHA-384 of the init-data, for CONFIGID or MRCONFIGID.
            report_data: 64 bytes.

        Raises:
            SimulatorError: `simulator-field-size`, `simulator-state-unwritable`.
        """
        if len(init_data_digest) != _DIGEST:
            raise SimulatorError(BAD_FIELD, "init-data digest", found=f"{len(init_data_digest)} bytes")
        make = enclave_report if kind is EvidenceKind.SGX else td_report
        report = make(measurement, init_data_digest, report_data)
        return Evidence(kind, self._enclaves[kind].quote(report), self._collateral(kind))

    def _collateral(self, kind: EvidenceKind) -> dict[str, str]:
        now = int(self._now())
        issued = self._issued.get(kind) or self._stored(kind)
        if issued is None or not 0 <= now - issued.issued <= COLLATERAL_AGE:
            issued = _Issued(now, self.root_sha256, make_collateral(self._pki, kind, now))
            self._store(kind, issued)
        self._issued[kind] = issued
        return issued.collateral

    def _stored(self, kind: EvidenceKind) -> _Issued | None:
        """Collateral on disk, if it is usable. It holds no secret, and can be made again at any time."""
        try:
            data = _read(self._collateral_path(kind))
            issued = msgspec.json.decode(data, type=_Issued)
            Evidence(kind, b"", issued.collateral)
        except (OSError, ValueError, EvidenceError):
            return None
        return issued if issued.root == self.root_sha256 else None

    def _store(self, kind: EvidenceKind, issued: _Issued) -> None:
        path = self._collateral_path(kind)
        try:
            with _temporary(path, msgspec.json.encode(issued)) as written:
                written.replace(path)
        except OSError as error:
            raise SimulatorError(STATE_UNWRITABLE, f"{path}: {error.strerror}") from None

    def _collateral_path(self, kind: EvidenceKind) -> Path:
        return self._folder / f"collateral-{kind}.json"


def _encode(pki: Pki) -> bytes:
    def pair(holder: Holder) -> _Pair:
        key = holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return _Pair(pem(holder), key.decode())

    keys = _Keys(
        format=_FORMAT,
        root=pair(pki.root),
        platform_ca=pair(pki.platform_ca),
        tcb_signing=pair(pki.tcb_signing),
        pck=pair(pki.pck),
        ppid=pki.ppid.hex(),
    )
    return msgspec.json.format(msgspec.json.encode(keys))


def _load(path: Path) -> Pki:
    def holder(pair: _Pair) -> Holder:
        certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
        key = load_pem_private_key(pair.key.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("key and certificate do not belong together")
        return Holder(certificate, key)

    try:
        keys = msgspec.json.decode(_read(path), type=_Keys)
        if keys.format != _FORMAT:
            raise ValueError("unknown format")
        return Pki(
            root=holder(keys.root),
            platform_ca=holder(keys.platform_ca),
            tcb_signing=holder(keys.tcb_signing),
            pck=holder(keys.pck),
            ppid=bytes.fromhex(keys.ppid),
        )
    except (OSError, ValueError, TypeError):
        raise SimulatorError(STATE_DAMAGED, str(path)) from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ValueError("too large")
    return data


def _check_private(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SimulatorError(STATE_EXPOSED, str(path), found=f"mode {mode:o}")


def _write_new(path: Path, data: bytes) -> None:
    """Create a file with this content, unless another process does so first."""
    with _temporary(path, data) as written, contextlib.suppress(FileExistsError):
        path.hardlink_to(written)


@contextlib.contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    """A complete file of mode 0600 beside `path`, on disk; removed afterwards if it is still there."""
    written = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        yield written
    finally:
        written.unlink(missing_ok=True)
