"""Shares of a key, any k of n of which give it back: SLIP-39 (Shamir's scheme over GF(2^8), in words).

A share is 33 words with a checksum. Fewer than k shares tell nothing about the key. Beside the checksum a
share says which set it is of, so that one of another backup is found out before it spoils the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shamir_mnemonic import MnemonicError, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.share import Share

from strongroom.broker.errors import SHARE_INVALID, SHARES_INVALID, SHARES_MISSING
from strongroom.errors import BrokerError

MAX_SHARES: Final = 16
MIN_THRESHOLD: Final = 2
KEY_BYTES: Final = 32
WORDS: Final = 33
_TEXT_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class ShareSet:
    """What the shares of one key have in common. It is no secret.

    Attributes:
        identifier: 15 random bits that stand in each share.
        threshold: How many shares give the key.
        count: How many there are.
    """

    identifier: int
    threshold: int
    count: int


def split(key: bytes, *, threshold: int, count: int) -> tuple[ShareSet, list[str]]:
    """Split a key of 32 bytes. The randomness is that of the library, from the operating system.

    Raises:
        BrokerError: `shares-invalid`, not 2 <= threshold <= count <= 16.
        ValueError: The key is not 32 bytes.
    """
    if not MIN_THRESHOLD <= threshold <= count <= MAX_SHARES:
        raise BrokerError(SHARES_INVALID, found=f"{threshold} of {count}")
    if len(key) != KEY_BYTES:
        raise ValueError("a key is 32 bytes")
    # There is no passphrase to make slow: the key is random.
    (shares,) = generate_mnemonics(1, [(threshold, count)], key, iteration_exponent=0)
    return ShareSet(Share.from_mnemonic(shares[0]).identifier, threshold, count), shares


def combine(shares: Sequence[str], of: ShareSet) -> bytes:
    """The key, from enough shares of a set.

    Args:
        shares: Their words. No error repeats one.
        of: The set that they must be of.

    Raises:
        BrokerError: `share-invalid`, with the number of the first that is no share or of another set;
            `shares-missing`.
    """
    distinct: dict[int, str] = {}
    for number, text in enumerate(shares, 1):
        distinct[_index(number, text, of)] = " ".join(text.split())
    if len(distinct) < of.threshold:
        raise BrokerError(SHARES_MISSING, found=len(distinct), expected=of.threshold)
    chosen = list(distinct.values())[: of.threshold]
    try:
        key: bytes = combine_mnemonics(chosen)
    except MnemonicError:
        raise BrokerError(SHARE_INVALID, "one of the first that were given is forged") from None
    return key


def _index(number: int, text: str, of: ShareSet) -> int:
    """Which share of its set it is."""
    words = text.split() if len(text) <= _TEXT_LIMIT else []
    if len(words) != WORDS:
        raise BrokerError(SHARE_INVALID, f"share {number}", found=f"{len(words)} words", expected=WORDS)
    try:
        share = Share.from_mnemonic(" ".join(words))
    except MnemonicError:
        raise BrokerError(SHARE_INVALID, f"share {number} has a wrong word") from None
    if (share.identifier, share.member_threshold) != (of.identifier, of.threshold):
        raise BrokerError(SHARE_INVALID, f"share {number} is of another backup")
    if share.group_count != 1 or len(share.value) != KEY_BYTES:
        raise BrokerError(SHARE_INVALID, f"share {number} is of something else")
    index: int = share.index
    return index
