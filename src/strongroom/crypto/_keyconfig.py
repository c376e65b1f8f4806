"""OHTTP key configurations (RFC 9458, section 3) and their collections, `application/ohttp-keys`.

A collection with any encoding error is refused as a whole, as section 3.2 demands: which part of a broken one
a client can use could tell clients apart. What is well formed but unknown (a KEM, a symmetric suite) is left
out, so that a service can offer new algorithms beside old ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.crypto._kem import Kem, parse_public_key
from strongroom.crypto._suite import Aead, Kdf, Suite
from strongroom.crypto.errors import OHTTP_DUPLICATE_KEY, OHTTP_KEY_CONFIG, OHTTP_UNKNOWN_SUITE
from strongroom.errors import CryptoError

MAX_COLLECTION: Final = 64 * 1024
"""Most bytes of a collection of key configurations."""
MAX_SUITES: Final = 64

_HEAD_SIZE: Final = 3
_SUITE_SIZE: Final = 4
_KEMS: Final = frozenset(Kem)
_AEADS: Final = frozenset(Aead)


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """One key of a gateway and how to use it.

    Attributes:
        key_id: 0 to 255.
        kem: The key's KEM.
        public_key: The serialized public key.
        suites: Pairs of KDF and AEAD, the preferred first, 1 to 64.

    Raises:
        CryptoError: `ohttp-key-config`.
    """

    key_id: int
    kem: Kem
    public_key: bytes
    suites: tuple[tuple[int, Aead], ...]

    def __post_init__(self) -> None:
        if not 0 <= self.key_id <= 0xFF:
            raise CryptoError(OHTTP_KEY_CONFIG, "key id", found=self.key_id, expected="0 to 255")
        if not 1 <= len(self.suites) <= MAX_SUITES:
            raise CryptoError(
                OHTTP_KEY_CONFIG, "suites", found=len(self.suites), expected=f"1 to {MAX_SUITES}"
            )
        try:
            for kdf, aead in self.suites:
                Suite(self.kem, kdf, aead)
            parse_public_key(self.kem, self.public_key)
        except CryptoError as error:
            what = error.detail or error.kind.title
            raise CryptoError(OHTTP_KEY_CONFIG, what, found=error.found, expected=error.expected) from error

    def suite(self, index: int = 0) -> Suite:
        """The HPKE suite at `index` of `suites`."""
        kdf, aead = self.suites[index]
        return Suite(self.kem, kdf, aead)

    def header(self, suite: Suite) -> bytes:
        """The 7 bytes at the head of a request to this key: key id, KEM, KDF, AEAD."""
        kdf, aead = suite.kdf.to_bytes(2), suite.aead.to_bytes(2)
        return self.key_id.to_bytes(1) + self.kem.to_bytes(2) + kdf + aead

    def encode(self) -> bytes:
        """The configuration in its wire format, without the length that precedes it in a collection."""
        suites = b"".join(kdf.to_bytes(2) + aead.to_bytes(2) for kdf, aead in self.suites)
        head = self.key_id.to_bytes(1) + self.kem.to_bytes(2)
        return head + self.public_key + len(suites).to_bytes(2) + suites


def encode_key_configs(configs: Iterable[KeyConfig]) -> bytes:
    """Encode a collection (`application/ohttp-keys`).

    Raises:
        CryptoError: `ohttp-duplicate-key`, or `ohttp-key-config`: there are none, or too many.
    """
    listed = tuple(configs)
    _check_ids([config.key_id for config in listed])
    encoded = [config.encode() for config in listed]
    data = b"".join(len(one).to_bytes(2) + one for one in encoded)
    if not 0 < len(data) <= MAX_COLLECTION:
        raise CryptoError(OHTTP_KEY_CONFIG, "size of the collection", found=len(data))
    return data


def decode_key_configs(data: bytes) -> tuple[KeyConfig, ...]:
    """Decode a collection (`application/ohttp-keys`), in its order.

    Configurations and suites with algorithms that this version does not know are left out.

    Raises:
        CryptoError: `ohttp-key-config` (an encoding error anywhere), `ohttp-duplicate-key`, or
            `ohttp-unknown-suite`: nothing in it is known.
    """
    if len(data) > MAX_COLLECTION:
        raise CryptoError(
            OHTTP_KEY_CONFIG, "size", found=f"{len(data)} bytes", expected=f"at most {MAX_COLLECTION}"
        )
    configs: list[KeyConfig] = []
    key_ids: list[int] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2])
        end = at + 2 + size
        if end > len(data) or size < _HEAD_SIZE:
            raise CryptoError(OHTTP_KEY_CONFIG, "length of a configuration", found=size)
        config = _decode_one(data[at + 2 : end])
        key_ids.append(data[at + 2])
        if config is not None:
            configs.append(config)
        at = end
    _check_ids(key_ids)
    if not configs:
        raise CryptoError(OHTTP_UNKNOWN_SUITE, "no key configuration has a known KEM and suite")
    return tuple(configs)


def _decode_one(data: bytes) -> KeyConfig | None:
    """One configuration of at least 3 bytes; None if its KEM or all its suites are unknown."""
    number = int.from_bytes(data[1:_HEAD_SIZE])
    if number not in _KEMS:
        return None
    kem = Kem(number)
    key_end = _HEAD_SIZE + kem.public_key_size
    listed = data[key_end + 2 :]
    size = int.from_bytes(data[key_end : key_end + 2])
    # A config cut within the key gives size 0; the limit on suites keeps the loop short.
    if size != len(listed) or size % _SUITE_SIZE or not 0 < size <= MAX_SUITES * _SUITE_SIZE:
        raise CryptoError(OHTTP_KEY_CONFIG, "length of the suites", found=size, expected=len(listed))
    pairs = [
        (int.from_bytes(listed[at : at + 2]), int.from_bytes(listed[at + 2 : at + 4]))
        for at in range(0, size, _SUITE_SIZE)
    ]
    suites = tuple((kdf, Aead(aead)) for kdf, aead in pairs if kdf == Kdf.HKDF_SHA256 and aead in _AEADS)
    public_key = data[_HEAD_SIZE:key_end]
    return KeyConfig(data[0], kem, public_key, suites) if suites else None


def _check_ids(key_ids: list[int]) -> None:
    if len(set(key_ids)) != len(key_ids):
        raise CryptoError(OHTTP_DUPLICATE_KEY)
