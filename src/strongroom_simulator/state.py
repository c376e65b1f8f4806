"""The simulator's state folder: its keys, made once, and its collateral, renewed every day.

    state = SimulatorState.open(folder)
    state.root_of(EvidenceKind.SGX)                 # what a policy pins
    state.quote(EvidenceKind.SGX, measurement, init_data_digest, report_data)

Whoever can read the folder can make evidence for any measurement. That is one reason why simulated evidence
is not protection.

The keys of a vendor lie in one file that appears complete or not at all: of several processes that open a new
folder at once, one makes the keys and the others use them. AMD's are made when they are first needed, because
making them takes seconds.
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

from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.errors import EvidenceError
from strongroom.forms import ready
from strongroom_simulator.collateral import make_collateral
from strongroom_simulator.errors import (
    BAD_FIELD,
    STATE_EXPOSED,
    STATE_UNWRITABLE,
    SimulatorError,
)
from strongroom_simulator.keys import SNP_PRODUCT, dump, dump_snp, load, load_snp, read
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import QuotingEnclave, enclave_report, td_report
from strongroom_simulator.snp import TCB, Guest, SnpPlatform

COLLATERAL_AGE: Final = 86400
"""Seconds after which collateral is issued again."""

KINDS: Final = (*DCAP_KINDS, EvidenceKind.SNP)
"""Kinds of evidence that a state makes."""

_KEYS: Final = "keys.json"
_SNP_KEYS: Final = "snp.json"
_CHIP_ID_SIZE: Final = 64
_DIGEST: Final = {**dict.fromkeys(DCAP_KINDS, 48), EvidenceKind.SNP: 32}
"""Bytes of the digest of the init-data."""


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
        self._rng = rng
        self._snp: SnpPlatform | None = None
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
                _write_new(path, dump(Pki.create(int(now()), rng)))
        except OSError as error:
            raise SimulatorError(STATE_UNWRITABLE, f"{folder}: {error.strerror}") from None
        _check_private(path)
        return cls(folder, load(path), now=now, rng=rng)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the DER of the root above SGX and TDX, lower-case hex."""
        return self._pki.root_sha256

    def root_of(self, kind: EvidenceKind) -> str:
        """SHA-256 of the DER of the root above a kind of evidence, lower-case hex: what a policy pins.

        Raises:
            SimulatorError: As `open`, for SNP.
        """
        return self._platform().root_sha256 if kind is EvidenceKind.SNP else self.root_sha256

    def tcb_floor(self, kind: EvidenceKind) -> dict[str, dict[str, int]]:
        """What a policy may ask of the firmware by product: the versions of the simulated chip of SNP."""
        return {SNP_PRODUCT: dict(TCB)} if kind is EvidenceKind.SNP else {}

    def quote(
        self, kind: EvidenceKind, measurement: bytes, init_data_digest: bytes, report_data: bytes
    ) -> Evidence:
        """Simulated evidence with its collateral, without the init-data itself.

        Args:
            kind: `SGX`, `TDX` or `SNP`.
            measurement: MRENCLAVE (32 bytes), MRTD or the launch digest (48 bytes).
            init_data_digest: SHA-384 of the init-data, for CONFIGID or MRCONFIGID; SHA-256 for HOST_DATA.
            report_data: 64 bytes.

        Raises:
            SimulatorError: `simulator-field-size`, `simulator-state-unwritable`.
        """
        if len(init_data_digest) != _DIGEST[kind]:
            raise SimulatorError(BAD_FIELD, "init-data digest", found=f"{len(init_data_digest)} bytes")
        if kind is EvidenceKind.SNP:
            guest = Guest(
                measurement=_field("measurement", measurement, 48),
                report_data=_field("report data", report_data, 64),
                host_data=init_data_digest,
            )
            return Evidence(kind, self._platform().report(guest), self._collateral(kind))
        make = enclave_report if kind is EvidenceKind.SGX else td_report
        report = make(measurement, init_data_digest, report_data)
        return Evidence(kind, self._enclaves[kind].quote(report), self._collateral(kind))

    def _collateral(self, kind: EvidenceKind) -> dict[str, str]:
        now = int(self._now())
        issued = self._issued.get(kind) or self._stored(kind)
        if issued is None or not 0 <= now - issued.issued <= COLLATERAL_AGE:
            issued = _Issued(now, self.root_of(kind), self._make_collateral(kind, now))
            self._store(kind, issued)
        self._issued[kind] = issued
        return issued.collateral

    def _make_collateral(self, kind: EvidenceKind, now: int) -> dict[str, str]:
        if kind is not EvidenceKind.SNP:
            return make_collateral(self._pki, kind, now)
        platform = self._platform()
        return platform.collateral(crl=platform.revocation_list(now))

    def _platform(self) -> SnpPlatform:
        """The chip of SNP, whose keys are made at the first use."""
        if self._snp is None:
            path = self._folder / _SNP_KEYS
            try:
                if not path.exists():
                    made = SnpPlatform.create(int(self._now()), self._rng(_CHIP_ID_SIZE), product=SNP_PRODUCT)
                    _write_new(path, dump_snp(made))
            except OSError as error:
                raise SimulatorError(STATE_UNWRITABLE, f"{path}: {error.strerror}") from None
            _check_private(path)
            self._snp = load_snp(path)
        return self._snp

    def _stored(self, kind: EvidenceKind) -> _Issued | None:
        """Collateral on disk, if it is usable. It holds no secret, and can be made again at any time."""
        try:
            data = read(self._collateral_path(kind))
            issued = msgspec.json.decode(data, type=_Issued)
            Evidence(kind, b"", issued.collateral)
        except (OSError, ValueError, EvidenceError):
            return None
        return issued if issued.root == self.root_of(kind) else None

    def _store(self, kind: EvidenceKind, issued: _Issued) -> None:
        path = self._collateral_path(kind)
        try:
            with _temporary(path, msgspec.json.encode(issued)) as written:
                written.replace(path)
        except OSError as error:
            raise SimulatorError(STATE_UNWRITABLE, f"{path}: {error.strerror}") from None

    def _collateral_path(self, kind: EvidenceKind) -> Path:
        return self._folder / f"collateral-{kind}.json"


def _field(name: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise SimulatorError(BAD_FIELD, name, found=f"{len(value)} bytes", expected=f"{size} bytes")
    return value


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
