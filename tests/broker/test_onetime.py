"""One-time keys: what they are, who opens what, and that each says whether it is post-quantum."""

from __future__ import annotations

import pytest

from strongroom.broker import hpke_release, jwe, onetime, teekey
from strongroom.errors import BrokerError

RESOURCE = "default/model/lite0"


def sealed(key: onetime.OneTimeKey, content: bytes) -> bytes:
    public = teekey.parse_jwk(key.jwk)
    if isinstance(public, teekey.HpkePublicKey):
        return hpke_release.seal(public, content, resource=RESOURCE)
    return jwe.seal(public, content)


def test_only_the_classical_key_calls_itself_classical() -> None:
    """The client refuses a keyset that promises more than the key under which it came."""
    assert onetime.HpkeKey().classical is False
    assert onetime.ClassicalKey().classical is True


@pytest.mark.parametrize("make", [onetime.HpkeKey, onetime.ClassicalKey])
def test_a_key_opens_what_was_sealed_to_it_and_nothing_else(make: type[onetime.OneTimeKey]) -> None:
    key, other = make(), make()
    document = sealed(key, b"a key")
    assert key.open(document, RESOURCE) == b"a key"
    with pytest.raises(BrokerError):
        other.open(document, RESOURCE)


@pytest.mark.parametrize("make", [onetime.HpkeKey, onetime.ClassicalKey])
def test_its_thumbprint_is_that_of_its_jwk(make: type[onetime.OneTimeKey]) -> None:
    key = make()
    assert key.recipient == teekey.thumbprint(teekey.parse_jwk(key.jwk))
    assert key.recipient != make().recipient
