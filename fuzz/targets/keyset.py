"""What a service tells its clients: its keyset and the broker's beacon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.attestation.beacon import Beacon, SignedBeacon
from strongroom.attestation.keyset import Keyset, SignedKeyset
from strongroom.codec import b64
from strongroom.crypto.sign import VerifyingKey


def _payload(data: bytes) -> None:
    """A keyset that is read is the one that is written."""
    keyset = Keyset.parse(data)
    if not set(keyset.post_quantum_configs) <= set(keyset.key_configs):
        raise AssertionError("a configuration that is not listed")
    if keyset.payload() != data:
        raise AssertionError("what was read is not what is written")


def _signed(data: bytes) -> None:
    """The key is that of the documented keyset, so that the signature is looked at."""
    SignedKeyset.parse(data).verify(VerifyingKey.parse(_BROKER))


def _beacon(data: bytes) -> None:
    if Beacon.parse(data).payload() != data:
        raise AssertionError("what was read is not what is written")


def _signed_beacon(data: bytes) -> None:
    SignedBeacon.parse(data).verify(VerifyingKey.parse(_BROKER))


_BROKER: Final = "ed25519+mldsa65:iffjhqshZ_usEmhQjkiFq97k1MlfLj2S1Orce0N4wTg"


def _keysets(material: Material) -> Iterator[bytes]:
    yield material.documented("keyset.json")
    yield material.accepted("service")["keyset"].encode()


def _payloads(material: Material) -> Iterator[bytes]:
    for document in _keysets(material):
        yield b64.decode_url(json.loads(document)["keyset"], limit=MAX_INPUT)


def _beacons(material: Material) -> Iterator[bytes]:
    yield material.documented("beacon.json")


def _beacon_payloads(material: Material) -> Iterator[bytes]:
    for document in _beacons(material):
        yield b64.decode_url(json.loads(document)["beacon"], limit=MAX_INPUT)


PARSERS: Final = (
    Parser("payload of a keyset", _payload, _payloads),
    Parser("signed keyset", _signed, _keysets),
    Parser("payload of a beacon", _beacon, _beacon_payloads),
    Parser("signed beacon", _signed_beacon, _beacons),
)
