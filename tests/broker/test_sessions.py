"""Sessions: bounded in number and time; a challenge is answered once."""

from __future__ import annotations

import base64
import threading

import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.broker.sessions import Session, Sessions, digest_of

KEY = "ed25519+mldsa65:" + "A" * 43


@pytest.fixture
def sessions(clock) -> Sessions:
    return Sessions(KEY, now=clock, limit=3, seconds=300)


def open_one(sessions: Sessions) -> tuple[str, Session]:
    return sessions.open(EvidenceKind.SGX)


def test_a_session_is_found_by_the_digest_of_its_identifier(sessions: Sessions, clock) -> None:
    identifier, session = open_one(sessions)
    assert len(identifier) == 32
    assert sessions.find(digest_of(identifier)) is session
    assert session.expires == clock.time + 300
    assert session.decision.kind is EvidenceKind.SGX


def test_a_nonce_is_standard_base64_of_32_bytes_and_never_the_same(clock) -> None:
    many = Sessions(KEY, now=clock, limit=1000)
    nonces = [open_one(many)[1].nonce for _ in range(500)]
    assert {len(nonce) for nonce in nonces} == {44}
    assert {len(base64.b64decode(nonce, validate=True)) for nonce in nonces} == {32}
    assert len(set(nonces)) == 500


def test_the_server_does_not_keep_identifiers(sessions: Sessions) -> None:
    identifier, session = open_one(sessions)
    assert identifier not in (session.digest, session.nonce, *sessions._waiting)


def test_an_unknown_session_is_refused(sessions: Sessions, refused) -> None:
    open_one(sessions)
    for identifier in ("", "0" * 32, "x", "\u00e9"):
        with refused("session-unknown"):
            sessions.find(digest_of(identifier))
    with refused("session-unknown"):
        digest_of("0" * 129)


def test_a_session_ends_with_its_time(sessions: Sessions, clock, refused) -> None:
    identifier, session = open_one(sessions)
    clock.turn(299.9)
    session.check_alive(clock())
    clock.turn(0.1)
    with refused("session-expired"):
        sessions.find(digest_of(identifier)).check_alive(clock())


def test_expired_sessions_make_room(sessions: Sessions, clock) -> None:
    for _ in range(3):
        sessions.attested(open_one(sessions)[1], "token", 2**40)
    clock.turn(300)
    open_one(sessions)
    assert len(sessions) == 1


def test_the_oldest_unattested_session_makes_room(sessions: Sessions, clock, refused) -> None:
    attested = open_one(sessions)
    sessions.attested(attested[1], "token", 2**40)
    waiting = [open_one(sessions) for _ in range(2)]
    clock.turn(1)
    newest = open_one(sessions)
    assert len(sessions) == 3
    with refused("session-unknown"):
        sessions.find(digest_of(waiting[0][0]))
    for identifier, session in (attested, waiting[1], newest):
        assert sessions.find(digest_of(identifier)) is session


def test_a_flood_of_challenges_pushes_out_no_attested_session(sessions: Sessions) -> None:
    kept = [open_one(sessions) for _ in range(2)]
    for _, session in kept:
        sessions.attested(session, "token", 2**40)
    for _ in range(1000):
        open_one(sessions)
    assert len(sessions) == 3
    for identifier, session in kept:
        assert sessions.find(digest_of(identifier)) is session


def test_when_all_are_attested_a_new_one_is_refused(sessions: Sessions, clock, refused) -> None:
    for _ in range(3):
        sessions.attested(open_one(sessions)[1], "token", 2**40)
    with refused("sessions-full"):
        open_one(sessions)
    clock.turn(300)
    open_one(sessions)


def test_a_session_that_made_room_is_not_attested_afterwards(sessions: Sessions, refused) -> None:
    _, session = open_one(sessions)
    for _ in range(3):
        open_one(sessions)
    with refused("session-unknown"):
        sessions.attested(session, "token", 2**40)
    assert session.token is None
    assert len(sessions) == 3


def test_a_dropped_session_is_gone(sessions: Sessions, refused) -> None:
    for attested in (False, True):
        identifier, session = open_one(sessions)
        if attested:
            sessions.attested(session, "token", 2**40)
        sessions.drop(session)
        with refused("session-unknown"):
            sessions.find(digest_of(identifier))
    assert len(sessions) == 0


def test_the_same_answer_gives_the_token_again_another_is_refused(sessions: Sessions, refused) -> None:
    _, session = open_one(sessions)
    assert session.take_answer(b"answer") is None
    with refused("session-spent"):  # still being appraised
        session.take_answer(b"answer")
    sessions.attested(session, "token", 2**40)
    assert session.take_answer(b"answer") == "token"
    with refused("session-spent"):
        session.take_answer(b"another answer")


def test_of_many_answers_at_once_one_is_taken(sessions: Sessions) -> None:
    _, session = open_one(sessions)
    barrier = threading.Barrier(8)
    taken: list[int] = []

    def answer(number: int) -> None:
        barrier.wait()
        try:
            session.take_answer(b"answer %d" % number)
        except Exception:  # the others are refused
            return
        taken.append(number)

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_ten_thousand_is_the_default_bound(clock) -> None:
    many = Sessions(KEY, now=clock)
    for _ in range(10_050):
        open_one(many)
    assert len(many) == 10_000


def test_a_token_is_good_for_its_session_and_time(sessions: Sessions, refused) -> None:
    _, session = open_one(sessions)
    with refused("token-missing"):
        session.check_token(None, 0)
    sessions.attested(session, "token", 60)
    for bearer in (None, "token"):
        session.check_token(bearer, 59.9)
        with refused("token-expired"):
            session.check_token(bearer, 60)
    for other in ("", "toke", "token ", "\u00e9"):
        with refused("token-invalid"):
            session.check_token(other, 0)
