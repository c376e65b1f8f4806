"""Shares of a key: enough of them give it, fewer tell nothing, and a wrong one is named."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic.share import Share
from shamir_mnemonic.wordlist import WORDLIST

from strongroom.broker import shares
from strongroom.broker.shares import ShareSet
from strongroom.errors import StrongroomError

KEY = bytes(range(32))
OF, FIVE = shares.split(KEY, threshold=3, count=5)


@settings(max_examples=20)
@given(st.binary(min_size=32, max_size=32), st.integers(2, 16), st.data())
def test_any_k_of_n_give_the_key(key: bytes, threshold: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(threshold, 16))
    of, texts = shares.split(key, threshold=threshold, count=count)
    assert (of.threshold, of.count, len(texts)) == (threshold, count, count)
    chosen = data.draw(st.permutations(texts))[:threshold]
    assert shares.combine(chosen, of) == key


def test_every_choice_of_three_of_five(refused) -> None:
    for size in range(6):
        for chosen in itertools.permutations(FIVE, size):
            if size >= 3:
                assert shares.combine(chosen, OF) == KEY
            else:
                with refused("shares-missing"):
                    shares.combine(chosen, OF)


def test_fewer_tell_nothing() -> None:
    """Two of three: over many splits of one key, each byte of a share takes all values alike."""
    seen: Counter[int] = Counter()
    for _ in range(200):
        _, texts = shares.split(KEY, threshold=3, count=3)
        for text in texts[:2]:
            value = Share.from_mnemonic(text).value
            assert KEY not in value
            seen.update(value)
    assert len(seen) == 256
    assert max(seen.values()) < 2 * min(seen.values()) + 60


def test_one_share_twice_is_one(refused) -> None:
    with refused("shares-missing"):
        shares.combine([FIVE[0], FIVE[0].upper().lower(), f"  {FIVE[1]}\n"], OF)


def test_words_may_stand_on_several_lines() -> None:
    assert shares.combine([text.replace(" ", "\n") for text in FIVE[:3]], OF) == KEY


def test_a_wrong_word_is_found_and_the_share_named(refused) -> None:
    words = FIVE[1].split()
    for at in range(len(words)):
        other = WORDLIST[(WORDLIST.index(words[at]) + 1) % len(WORDLIST)]
        changed = " ".join([*words[:at], other, *words[at + 1 :]])
        with pytest.raises(StrongroomError, match="share 2") as caught:
            shares.combine([FIVE[0], changed, FIVE[2]], OF)
        assert caught.value.code == "share-invalid"


@pytest.mark.parametrize(
    "text", ["", "canary", "canary " * 33, FIVE[0] + " canary", "c" * 10_000, "\0é " * 33]
)
def test_what_is_no_share_is_named_and_not_repeated(text: str) -> None:
    with pytest.raises(StrongroomError, match="share 3") as caught:
        shares.combine([FIVE[0], FIVE[1], text], OF)
    assert caught.value.code == "share-invalid"
    assert "canary" not in str(caught.value)


def test_a_share_of_another_backup_is_named() -> None:
    _, others = shares.split(KEY, threshold=3, count=5)
    with pytest.raises(StrongroomError, match="share 2 is of another backup"):
        shares.combine([FIVE[0], others[1], FIVE[2]], OF)
    with pytest.raises(StrongroomError, match="share 1 is of another backup"):
        shares.combine(FIVE, ShareSet(OF.identifier, 2, 5))


def test_a_forged_share_with_a_right_checksum_is_refused(refused) -> None:
    share = Share.from_mnemonic(FIVE[0])
    forged = Share(*[getattr(share, name) for name in (
        "identifier", "extendable", "iteration_exponent", "group_index", "group_threshold", "group_count",
        "index", "member_threshold",
    )], value=os.urandom(32)).mnemonic()  # fmt: skip
    with refused("share-invalid"):
        shares.combine([forged, FIVE[1], FIVE[2]], OF)


def test_mutants_never_give_another_key(survey) -> None:
    rng = random.Random(18)

    def mutant() -> list[str]:
        words = FIVE[0].split()
        for at in rng.sample(range(len(words)), rng.randint(1, 4)):
            words[at] = rng.choice([word for word in WORDLIST if word != words[at]])
        return [" ".join(words), *FIVE[1:3]]

    outcomes = survey(lambda texts: shares.combine(texts, OF), [mutant() for _ in range(300)])
    assert outcomes == {"share-invalid": 300}


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 5), (0, 0), (4, 3), (2, 17), (17, 17), (-1, 3)])
def test_numbers_that_make_no_sense(threshold: int, count: int, refused) -> None:
    with refused("shares-invalid"):
        shares.split(KEY, threshold=threshold, count=count)


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        shares.split(bytes(16), threshold=2, count=3)
