"""The simulator's keys as files: one for "Intel", one for "AMD"; JSON with certificates and keys in PEM."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from strongroom.forms import ready
from strongroom_simulator.errors import STATE_DAMAGED, SimulatorError
from strongroom_simulator.pki import Holder, Pki
from strongroom_simulator.snp import TCB, SnpPlatform

SNP_PRODUCT: Final = "Milan"

_FORMAT: Final = "strongroom-simulator/1"
_SNP_FORMAT: Final = "strongroom-simulator-snp/1"
_MAX_FILE: Final = 1024 * 1024


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
class _SnpKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    root: _Pair
    authority: _Pair
    signer: _Pair
    chip_id: str


def dump(pki: Pki) -> bytes:
    """The content of a file with the keys above SGX and TDX."""
    keys = _Keys(
        format=_FORMAT,
        root=_pair(pki.root.certificate, pki.root.key),
        platform_ca=_pair(pki.platform_ca.certificate, pki.platform_ca.key),
        tcb_signing=_pair(pki.tcb_signing.certificate, pki.tcb_signing.key),
        pck=_pair(pki.pck.certificate, pki.pck.key),
        ppid=pki.ppid.hex(),
    )
    return msgspec.json.format(msgspec.json.encode(keys))


def dump_snp(platform: SnpPlatform) -> bytes:
    """The content of a file with the keys of a chip of `SNP_PRODUCT`, and those above it."""
    keys = _SnpKeys(
        format=_SNP_FORMAT,
        root=_pair(platform.root, platform.root_key),
        authority=_pair(platform.authority, platform.authority_key),
        signer=_pair(platform.signer, platform.key),
        chip_id=platform.chip_id.hex(),
    )
    return msgspec.json.format(msgspec.json.encode(keys))


def load(path: Path) -> Pki:
    """Read what `dump` wrote.

    Raises:
        SimulatorError: `simulator-state-damaged`.
    """
    with _undamaged(path):
        keys = msgspec.json.decode(read(path), type=_Keys)
        if keys.format != _FORMAT:
            raise ValueError("unknown format")
        return Pki(
            root=Holder(*_ec(keys.root)),
            platform_ca=Holder(*_ec(keys.platform_ca)),
            tcb_signing=Holder(*_ec(keys.tcb_signing)),
            pck=Holder(*_ec(keys.pck)),
            ppid=bytes.fromhex(keys.ppid),
        )


def load_snp(path: Path) -> SnpPlatform:
    """Read what `dump_snp` wrote.

    Raises:
        SimulatorError: `simulator-state-damaged`.
    """
    with _undamaged(path):
        keys = msgspec.json.decode(read(path), type=_SnpKeys)
        if keys.format != _SNP_FORMAT:
            raise ValueError("unknown format")
        return SnpPlatform(
            SNP_PRODUCT,
            bytes.fromhex(keys.chip_id),
            TCB,
            *_rsa(keys.root),
            *_rsa(keys.authority),
            *_ec(keys.signer),
        )


def read(path: Path) -> bytes:
    """A file of at most 1 MiB.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ValueError("too large")
    return data


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> _Pair:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return _Pair(certificate.public_bytes(Encoding.PEM).decode(), text.decode())


def _ec(pair: _Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, key = _opened(pair)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("key and certificate do not belong together")
    return certificate, key


def _rsa(pair: _Pair) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    certificate, key = _opened(pair)
    if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("key and certificate do not belong together")
    return certificate, key


def _opened(pair: _Pair) -> tuple[x509.Certificate, PrivateKeyTypes]:
    certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    return certificate, load_pem_private_key(pair.key.encode(), password=None)


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError):
        raise SimulatorError(STATE_DAMAGED, str(path)) from None
