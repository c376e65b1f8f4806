"""The broker without HTTP: sessions and decisions, nothing kept between requests, all logged."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest

from strongroom.attestation.beacon import SignedBeacon
from strongroom.attestation.evidence import DCAP_KINDS, EvidenceKind
from strongroom.attestation.policy import Policy
from strongroom.broker import admin, hpke_release, keyfile, log, log_entry, messages
from strongroom.broker.errors import STORE_UNUSABLE
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.log import verify_log
from strongroom.broker.release import open_model_key, open_service_key
from strongroom.broker.resource import Resource
from strongroom.crypto.ohttp import Gateway, seal_request
from strongroom.errors import BrokerError

KEY = "pictures/service-key/current"
MODEL = "default/model/lite0"


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def refusal(rig: Any) -> tuple[str, str, str | None]:
    entry = rig.last_entry()
    assert entry["event"] == "refused"
    verify_log(rig.store)
    return entry["code"], entry["stage"], entry.get("resource")


def counted(rig: Any) -> dict[str, int]:
    entry = rig.last_entry()
    assert entry["event"] == "refusals"
    assert entry.keys() == {"type", "index", "time", "event", "counts"}
    verify_log(rig.store)
    counts: dict[str, int] = entry["counts"]
    return counts


def log_size(rig: Any) -> int:
    return sum(1 for _ in admin.log_entries(rig.store))


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_a_worker_gets_its_keys(rig, kind: EvidenceKind) -> None:
    worker = rig.attester(kind).attest()
    (epoch,) = open_service_key(worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures")
    model = open_model_key(worker.fetch(MODEL), rig.broker_key, worker.recipient, MODEL)
    assert model.identity == rig.identity
    assert (model.manifest, model.sealed) == ("sha256:" + "11" * 32, "sha256:" + "22" * 32)
    sealed = seal_request(epoch.keyset.key_configs[0], None, b"a picture")
    assert Gateway(epoch.keys).open_request(sealed.data).plaintext == b"a picture"
    assert epoch.keyset.models["lite0"].manifest == model.manifest
    assert epoch.keyset.broker_key == rig.broker_key.text
    assert epoch.keyset.key_release == "hpke-0x647a"


def test_a_release_is_logged_with_what_was_released_to_whom(rig) -> None:
    worker = rig.attester().attest()
    worker.fetch(KEY)
    worker.fetch(MODEL)
    attested, service_key, model = list(admin.log_entries(rig.store))[-3:]
    assert [entry["event"] for entry in (attested, service_key, model)] == [
        "attested",
        "released",
        "released",
    ]
    for entry in (attested, service_key, model):
        assert entry["recipient"] == worker.recipient
        assert entry["measurement"] == worker.measurement.hex()
        assert (entry["service"], entry["kind"], entry["anchor"]) == ("pictures", "sgx", "simulated")
        assert entry["time"] == int(rig.clock())
    assert (service_key["resource"], service_key["epochs"]) == (KEY, [1])
    assert (model["resource"], model["manifest"]) == (MODEL, "sha256:" + "11" * 32)
    verify_log(rig.store)


def test_the_log_entry_is_committed_before_the_key_is_encrypted(rig, monkeypatch) -> None:
    worker = rig.attester().attest()
    seen: list[str] = []
    real = hpke_release.seal

    def watching(*args: Any, **kwargs: Any) -> bytes:
        with rig.store.read() as db:  # from outside the release's transaction
            (entry,) = db.execute("SELECT entry FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        seen.append(json.loads(entry)["event"])
        return real(*args, **kwargs)

    monkeypatch.setattr(hpke_release, "seal", watching)
    worker.fetch(KEY)
    assert seen == ["released"]


def test_no_key_leaves_when_the_log_cannot_be_written(rig, refused) -> None:
    worker = rig.attester().attest()
    with rig.store.write() as db:
        db.execute("DELETE FROM log_head")
    with refused("log-broken"):
        worker.fetch(KEY)
    with refused("log-broken"):
        worker.fetch(MODEL)
    with refused("log-broken"):
        rig.attester().attest()


def test_the_log_holds_no_secret(rig, refused) -> None:
    worker = rig.attester().attest()
    epochs = open_service_key(worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures")
    worker.fetch(MODEL)
    with refused("session-unknown"):
        rig.broker.resource("0" * 32, None, KEY)
    with refused("policy-measurement"):
        rig.attester(measurement=bytes(32)).attest()
    with rig.store.read() as db:
        text = b"".join(entry + kept for entry, kept in db.execute("SELECT entry, opening FROM log"))
    raw = [key.private_key.raw() for epoch in epochs for key in epoch.keys]
    for secret in (rig.identity.encode(), worker.session.encode(), worker.token.encode(), *raw):
        assert secret not in text
        assert base64.urlsafe_b64encode(secret).rstrip(b"=") not in text
        assert secret.hex().encode() not in text


def test_readers_of_the_log_learn_no_name_and_no_digest_to_guess_one_from(rig, refused) -> None:
    """Rule 14: what only the owner should see is committed to under 32 random bytes."""
    worker = rig.attester().attest()
    worker.fetch(KEY)
    worker.fetch(MODEL)
    with refused("policy-measurement"):
        rig.attester(measurement=bytes(32)).attest()
    with refused("init-data-model"):
        rig.attester(models=()).attest().fetch(MODEL)
    with rig.store.read() as db:
        entries = [entry for _, entry, _ in log.entries(db)]
    policy = Policy.parse(rig.policy_text).digest
    hidden = ["pictures", "lite0", "default/model", "Example Bank", worker.recipient, policy, "11" * 32]
    for entry in entries:
        for text in hidden:
            assert text.encode() not in entry
    released = json.loads(entries[-5])
    assert released.keys() == {
        "type", "time", "event", "kind", "anchor", "measurement", "tcb_status", "commitment", "tags",
    }  # fmt: skip


def test_an_owner_finds_his_entries_and_no_neighbour_does(rig) -> None:
    rig.attester().attest().fetch(MODEL)
    secret = rig.store.signing_key.raw()
    service = log_entry.audit_key(secret, log_entry.service_subject("pictures"))
    model = log_entry.audit_key(secret, log_entry.resource_subject("kbs:///" + MODEL))
    other = log_entry.audit_key(secret, log_entry.service_subject("sounds"))
    with rig.store.read() as db:
        tags = [(index, json.loads(entry).get("tags", [])) for index, entry, _ in log.entries(db)]
    named = list(admin.log_entries(rig.store))

    def found(key: bytes) -> list[int]:
        return [index for index, each in tags if log_entry.tag(key, index) in each]

    assert found(service) == [entry["index"] for entry in named if entry.get("service") == "pictures"]
    assert [named[index]["event"] for index in found(model)] == [
        "model-registered",
        "service-registered",
        "released",
    ]
    assert found(other) == []
    everything = [tag for _, each in tags for tag in each]
    assert len(set(everything)) == len(everything)  # no two entries look related


# Each check of an attestation refuses alone, ends the session and is logged: counted until there is evidence.


@pytest.mark.parametrize(
    ("attester", "answer", "code"),
    [
        ({}, {"nonce": base64.b64encode(bytes(32)).decode()}, "nonce-foreign"),
        ({"measurement": bytes(32)}, {}, "policy-measurement"),
        ({"broker_key": "ed25519+mldsa65:" + "B" * 43}, {}, "init-data-broker"),
        ({"service": "sounds"}, {}, "service-unknown"),
        ({"release_policy": "sha256:" + "0" * 64}, {}, "init-data-policy"),
    ],
)
def test_a_refused_attestation(
    rig, refused, attester: dict[str, Any], answer: dict[str, Any], code: str
) -> None:
    worker = rig.attester(**attester)
    with refused(code):
        worker.attest(**answer)
    if code == "policy-measurement":
        assert refusal(rig) == (code, "attest", None)
    else:
        assert counted(rig) == {code: 1}
    with refused("session-unknown"):
        rig.broker.attest(worker.session, worker.body())
    with refused("session-unknown"):
        worker.fetch(KEY)


def test_a_simulated_root_that_is_not_allowed(rig, other_simulator, refused) -> None:
    with refused("evidence-untrusted-root"):
        rig.attester(simulator=other_simulator).attest()
    assert counted(rig) == {"evidence-untrusted-root": 1}


def test_a_one_time_key_that_is_not_the_one_in_the_evidence(rig, refused) -> None:
    worker, host = rig.attester(), rig.attester()
    worker.challenge()
    with refused("policy-report-data"):
        rig.broker.attest(worker.session, worker.body(jwk=host.jwk, bound=(worker.nonce, worker.jwk)))
    assert counted(rig) == {"policy-report-data": 1}


def test_a_stale_quote_under_a_fresh_nonce(rig, refused) -> None:
    worker = rig.attester()
    worker.challenge()
    old = worker.nonce
    worker.challenge()
    with refused("policy-report-data"):
        rig.broker.attest(worker.session, worker.body(bound=(old, worker.jwk)))


def test_an_attestation_replayed_into_another_session(rig, refused) -> None:
    worker = rig.attester()
    worker.challenge()
    body = worker.body()
    rig.broker.attest(worker.session, body)
    worker.challenge()
    with refused("nonce-foreign"):
        rig.broker.attest(worker.session, body)
    assert counted(rig) == {"nonce-foreign": 1}


def test_a_second_answer_to_one_challenge(rig, refused) -> None:
    worker = rig.attester().attest()
    with refused("session-spent"):
        rig.broker.attest(worker.session, worker.body())  # a fresh quote over the same nonce
    assert refusal(rig)[0] == "session-spent"
    assert worker.fetch(KEY)  # the session of the first goes on


def test_the_same_answer_again_gives_the_same_token_and_no_new_decision(rig) -> None:
    worker = rig.attester()
    worker.challenge()
    body = worker.body()
    token = rig.broker.attest(worker.session, body)
    before = rig.last_entry()
    assert rig.broker.attest(worker.session, body) == token
    assert rig.last_entry() == before


def test_a_body_that_is_no_attestation_ends_the_session_too(rig, refused) -> None:
    worker = rig.attester()
    worker.challenge()
    with refused("kbs-body-invalid"):
        rig.broker.attest(worker.session, b"{}")
    assert counted(rig) == {"kbs-body-invalid": 1}
    with refused("session-unknown"):
        rig.broker.attest(worker.session, worker.body())


def test_a_quote_of_another_kind_than_the_session_announced(rig, refused) -> None:
    sgx, tdx = rig.attester(EvidenceKind.SGX), rig.attester(EvidenceKind.TDX)
    sgx.challenge()
    body = json.loads(
        messages.attest_body(sgx.nonce, sgx.jwk, tdx.quote(messages.report_data(sgx.nonce, sgx.jwk)))
    )
    del body["tee-evidence"]["primary_evidence"]["cc_eventlog"]
    with refused("evidence-malformed"):
        rig.broker.attest(sgx.session, json.dumps(body).encode())
    assert counted(rig) == {"evidence-malformed": 1}


def test_a_session_that_expired_before_the_answer(rig, refused) -> None:
    worker = rig.attester()
    worker.challenge()
    rig.clock.turn(300)
    with refused("session-expired"):
        rig.broker.attest(worker.session, worker.body())
    assert counted(rig) == {"session-expired": 1}


def test_no_session(rig, refused) -> None:
    with refused("session-unknown"):
        rig.broker.attest(None, b"{}")
    with refused("session-unknown"):
        rig.broker.attest("0" * 32, b"{}")


def test_a_flood_of_challenges_is_bounded(rig, refused) -> None:
    rig.reopen(max_sessions=2)
    worker = rig.attester().attest()
    for _ in range(100):
        rig.attester().challenge()
    assert worker.fetch(KEY)
    rig.attester().attest()
    with refused("sessions-full"):
        rig.attester().challenge()


# Each check of a resource refuses alone and is logged.


def test_no_token(rig, refused) -> None:
    with refused("token-missing"):
        rig.broker.resource(None, None, KEY)


def test_a_challenge_without_an_answer_gets_nothing(rig, refused) -> None:
    worker = rig.attester()
    worker.challenge()
    with refused("token-missing"):
        worker.fetch(KEY)
    assert counted(rig) == {"token-missing": 1}


def test_a_session_that_expired_after_the_attestation(rig, refused) -> None:
    rig.reopen(token_seconds=10_000)
    worker = rig.attester().attest()
    rig.clock.turn(299)
    assert worker.fetch(KEY)
    rig.clock.turn(1)
    with refused("session-expired"):
        worker.fetch(KEY)
    assert refusal(rig) == ("session-expired", "release", KEY)
    with refused("session-unknown"):
        worker.fetch(KEY)


def test_a_token_that_expired_before_its_session(rig, refused) -> None:
    rig.reopen(token_seconds=60)
    worker = rig.attester().attest()
    rig.clock.turn(59)
    assert worker.fetch(KEY)
    rig.clock.turn(1)
    for ask in (
        lambda: worker.fetch(KEY),
        lambda: rig.broker.resource(None, worker.token, KEY),
        lambda: rig.broker.resource(worker.session, worker.token, KEY),
    ):
        with refused("token-expired"):
            ask()
        assert refusal(rig) == ("token-expired", "release", KEY)


def test_a_bearer_token_stands_for_its_session(rig) -> None:
    worker = rig.attester().attest()
    document = worker.key.open(rig.broker.resource(None, worker.token, MODEL), MODEL)
    assert open_model_key(document, rig.broker_key, worker.recipient, MODEL).identity == rig.identity


def test_a_stolen_token_gives_nothing_that_the_thief_can_open(rig, refused) -> None:
    worker, thief = rig.attester().attest(), rig.attester()
    with refused("hpke-release-open-failed"):
        thief.key.open(rig.broker.resource(None, worker.token, MODEL), MODEL)


def test_a_token_of_another_session(rig, refused) -> None:
    one, two = rig.attester().attest(), rig.attester().attest()
    with refused("token-invalid"):
        rig.broker.resource(one.session, two.token, KEY)
    assert refusal(rig) == ("token-invalid", "release", KEY)


def test_a_token_of_another_broker(rig, new_rig, refused) -> None:
    other = new_rig("other").attester().attest()
    worker = rig.attester().attest()
    with refused("token-invalid"):
        rig.broker.resource(None, other.token, KEY)
    with refused("token-invalid"):
        rig.broker.resource(worker.session, other.token, KEY)


def test_a_token_without_its_session(rig, refused) -> None:
    """The server was started anew: it knows its own signature, but no longer the session."""
    worker = rig.attester().attest()
    rig.reopen()
    with refused("session-unknown"):
        rig.broker.resource(None, worker.token, KEY)


def test_a_token_without_a_session_in_it(rig, refused) -> None:
    issuer = rig.broker._issuer
    claims = issuer.issue
    worker = rig.attester().attest()
    decision = rig.broker._sessions.find(next(iter(rig.broker._sessions._attested))).decision
    token = claims(decision.claims, runtime_data={}, token_id="", policy_id="", now=int(rig.clock()))
    with refused("session-unknown"):
        rig.broker.resource(None, token, KEY)
    with refused("token-invalid"):
        rig.broker.resource(worker.session, token, KEY)
    token = claims(decision.claims, runtime_data={}, token_id=5, policy_id="", now=int(rig.clock()))
    with refused("token-invalid"):
        rig.broker.resource(None, token, KEY)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("sounds/service-key/current", "service-foreign"),
        ("pictures/service-key/old", "service-foreign"),
        ("default/model/unknown", "resource-unknown"),
        ("default/secret/x", "resource-unknown"),
    ],
)
def test_a_resource_that_is_not_the_workers(rig, refused, path: str, code: str) -> None:
    worker = rig.attester().attest()
    with refused(code):
        worker.fetch(path)
    assert refusal(rig) == (code, "release", path)


@pytest.mark.parametrize("path", ["", "a", "../model/lite0", "default/model/lite0/x", "default//lite0"])
def test_a_path_that_names_nothing(rig, refused, path: str) -> None:
    worker = rig.attester().attest()
    before = rig.last_entry()
    with refused("resource-path-invalid"):
        rig.broker.resource(worker.session, None, path)
    assert rig.last_entry() == before


def test_a_model_that_the_init_data_does_not_name(rig, refused) -> None:
    worker = rig.attester(models=()).attest()
    assert worker.fetch(KEY)
    with refused("init-data-model"):
        worker.fetch(MODEL)
    assert refusal(rig) == ("init-data-model", "release", MODEL)


def test_a_models_own_policy(rig, refused) -> None:
    measurements = {"sgx": ["77" * 32], "tdx": ["77" * 48]}
    rig.register_model(policy_text=rig.policy(measurements=measurements))
    worker = rig.attester().attest()
    with refused("policy-measurement"):
        worker.fetch(MODEL)
    assert refusal(rig) == ("policy-measurement", "release", MODEL)
    assert worker.fetch(KEY)


def test_a_service_without_an_epoch(rig, refused) -> None:
    worker = rig.attester().attest()
    with rig.store.write() as db:
        db.execute("UPDATE epochs SET honoured_until = 0")
    with refused("epoch-missing"):
        worker.fetch(KEY)
    assert refusal(rig) == ("epoch-missing", "release", KEY)
    with refused("epoch-missing"):
        rig.broker.beacon("pictures")


# What the command line changes holds from the next request on.


def test_a_changed_policy_ends_releases_to_attested_workers(rig, refused) -> None:
    worker = rig.attester().attest()
    assert worker.fetch(KEY)
    rig.change_service(rig.policy(max_evidence_age=500))
    with refused("init-data-policy"):
        worker.fetch(KEY)
    with refused("init-data-policy"):
        worker.fetch(MODEL)
    fresh = rig.attester().attest()
    (epoch,) = open_service_key(fresh.fetch(KEY), rig.broker_key, fresh.recipient, "pictures")
    assert epoch.epoch == 2


def test_a_model_taken_from_the_service_is_no_longer_released(rig, refused) -> None:
    rig.register_model(resource="default/model/other", name="other", sealed_sha256="33" * 32)
    worker = rig.attester().attest()
    rig.change_service(models=["default/model/other"])
    with refused("model-foreign"):
        worker.fetch(MODEL)


def test_rotation_is_seen_at_the_next_request(rig) -> None:
    worker = rig.attester().attest()
    admin.rotate(rig.store, "pictures", grace=100)
    opened = open_service_key(worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures")
    assert [epoch.epoch for epoch in opened] == [2, 1]
    assert rig.last_entry()["epochs"] == [2, 1]
    rig.clock.turn(100)
    opened = open_service_key(worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures")
    assert [epoch.epoch for epoch in opened] == [2]


def test_a_beacon_is_fresh_and_signed(rig) -> None:
    admin.rotate(rig.store, "pictures")
    first, second = (
        SignedBeacon.parse(rig.broker.beacon("pictures")).verify(rig.broker_key) for _ in range(2)
    )
    assert (first.service, first.epoch, first.time) == ("pictures", 2, int(rig.clock()))
    assert first.nonce != second.nonce


def test_beacon_and_policy_of_an_unknown_service(rig, refused) -> None:
    for ask in (rig.broker.beacon, rig.broker.policy):
        for name in ("sounds", "", "../x", "\x00"):
            with refused("service-unknown"):
                ask(name)


def test_the_policy_is_served_to_the_byte(rig) -> None:
    assert rig.broker.policy("pictures") == rig.policy_text


def test_maintenance_deletes_what_is_over_and_begins_what_is_due(rig) -> None:
    admin.rotate(rig.store, "pictures", grace=50)
    rig.broker.maintain()
    assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [2, 1]
    rig.clock.turn(50)
    rig.broker.maintain()
    assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [2]
    rig.clock.turn(admin.DEFAULT_LIFETIME * 3 // 4)
    rig.broker.maintain()
    assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [3, 2]


def test_maintenance_of_a_service_without_grace_leaves_one_epoch(rig) -> None:
    admin.register_service(rig.store, "pictures", rig.policy_text, [MODEL], "Example Bank", grace=0)
    rig.clock.turn(admin.DEFAULT_LIFETIME * 3 // 4 + 1)
    rig.broker.maintain()
    assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [3]


def test_maintenance_logs_what_was_counted(rig) -> None:
    rig.broker.count_refusal("admin-unauthenticated")
    rig.broker.maintain()
    entry = rig.last_entry()
    assert (entry["event"], entry["counts"]) == ("refusals", {"admin-unauthenticated": 1})


# Who proves nothing cannot make the log grow.


def test_refusals_without_evidence_are_one_entry_a_minute(rig, refused) -> None:
    before = log_size(rig)
    for _ in range(50):
        worker = rig.attester()
        worker.challenge()
        with refused("kbs-body-invalid"):
            rig.broker.attest(worker.session, b"{}")
        with refused("session-unknown"):
            rig.broker.attest(worker.session, b"{}")
        with refused("token-missing"):
            rig.broker.resource(None, None, KEY)
    rig.broker.maintain()
    assert log_size(rig) == before + 1
    assert counted(rig) == {"kbs-body-invalid": 1}  # the first, at once
    rig.clock.turn(59)
    rig.broker.maintain()
    assert log_size(rig) == before + 1
    rig.clock.turn(1)
    rig.broker.maintain()
    assert log_size(rig) == before + 2
    assert counted(rig) == {"kbs-body-invalid": 49, "session-unknown": 50, "token-missing": 50}
    rig.clock.turn(60)
    rig.broker.maintain()
    assert log_size(rig) == before + 2  # nothing to tell


def test_evidence_of_another_session_again_and_again_is_counted(rig, refused) -> None:
    other = rig.attester()
    other.challenge()
    before = log_size(rig)
    for _ in range(5):
        worker = rig.attester()
        with refused("policy-report-data"):
            worker.attest(bound=(other.nonce, other.jwk))
    assert log_size(rig) == before + 1


def test_refusals_of_proven_attesters_are_logged_each(rig, refused) -> None:
    before = log_size(rig)
    for _ in range(3):
        with refused("policy-measurement"):
            rig.attester(measurement=bytes(32)).attest()
    assert log_size(rig) == before + 3
    assert refusal(rig) == ("policy-measurement", "attest", None)


def test_a_clock_put_back_does_not_silence_the_counter(rig, refused) -> None:
    for expected in ({"token-missing": 1}, {"token-missing": 1}):
        with refused("token-missing"):
            rig.broker.resource(None, None, KEY)
        assert counted(rig) == expected
        rig.clock.turn(-3600)
    assert log_size(rig) >= 2


def test_what_was_counted_is_logged_when_the_broker_stops_or_the_log_works_again(rig, refused) -> None:
    for _ in range(3):
        with refused("token-missing"):
            rig.broker.resource(None, None, KEY)
    rig.clock.turn(60)
    with rig.store.write() as db:
        (head,) = db.execute("SELECT * FROM log_head").fetchall()
        db.execute("DELETE FROM log_head")
    with refused("log-broken"):
        rig.broker.close()
    with rig.store.write() as db:
        db.execute("INSERT INTO log_head VALUES (?, ?, ?, ?, ?, ?)", head)
    rig.broker.close()
    assert counted(rig) == {"token-missing": 2}


def test_keys_go_when_their_time_is_over_though_no_epoch_can_be_minted(rig, monkeypatch, caplog) -> None:
    def unwritable(*_: Any, **__: Any) -> None:
        raise BrokerError(STORE_UNUSABLE, "no space left")

    rig.clock.turn(admin.DEFAULT_LIFETIME)
    monkeypatch.setattr(keyfile, "create", unwritable)
    rig.broker.maintain()
    assert admin.epochs(rig.store, "pictures") == []
    assert list((rig.folder / "epochs").iterdir()) == []
    assert "pictures gets no new epoch" in caplog.text
    monkeypatch.undo()
    rig.broker.maintain()
    assert [record.epoch for record in admin.epochs(rig.store, "pictures")] == [2]


def test_a_closed_store_is_told(rig, refused) -> None:
    rig.broker.check()
    rig.store.close()
    with refused("store-unusable"):
        rig.broker.check()


def test_eight_threads_attest_and_fetch(rig) -> None:
    failures: list[BaseException] = []
    recipients: set[str] = set()
    start = threading.Barrier(8)

    def work(number: int) -> None:
        try:
            start.wait()
            for _ in range(4):
                worker = rig.attester(DCAP_KINDS[number % 2]).attest()
                recipients.add(worker.recipient)
                open_service_key(worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures")
                assert open_model_key(worker.fetch(MODEL), rig.broker_key, worker.recipient, MODEL)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(recipients) == 32
    events = [entry["event"] for entry in admin.log_entries(rig.store)]
    assert (events.count("attested"), events.count("released")) == (32, 64)
    verify_log(rig.store)


def test_a_broker_reads_its_bounds(rig) -> None:
    broker = KeyBroker(rig.store, now=rig.clock, session_seconds=10)
    given = broker.auth(messages.auth_body("sgx"))
    assert given.expires == int(rig.clock()) + 10
    assert Resource.parse(KEY).path == KEY


REAL_ONLY: dict[str, Any] = {"allow_simulated": False, "simulated_roots": []}


def test_in_production_a_service_that_allows_simulated_evidence_is_refused(rig, refused) -> None:
    with refused("simulated-anchor"):
        KeyBroker(rig.store, now=rig.clock, production=True)
    rig.change_service(rig.policy(**REAL_ONLY))
    KeyBroker(rig.store, now=rig.clock, production=True)


def test_in_production_a_model_that_allows_simulated_evidence_is_refused(rig, refused) -> None:
    rig.change_service(rig.policy(**REAL_ONLY))
    rig.register_model(policy_text=rig.policy())
    with refused("simulated-anchor"):
        KeyBroker(rig.store, now=rig.clock, production=True)
    rig.register_model(policy_text=rig.policy(**REAL_ONLY))
    KeyBroker(rig.store, now=rig.clock, production=True)


def test_in_production_a_service_that_is_changed_later_gets_nothing_either(rig, refused) -> None:
    text = rig.policy_text
    rig.change_service(rig.policy(**REAL_ONLY))
    rig.broker = KeyBroker(rig.store, now=rig.clock, production=True)
    rig.change_service(text)
    with refused("evidence-untrusted-root"):
        rig.attester().attest()


def test_a_classical_worker_is_refused_and_the_refusal_logged(rig, refused) -> None:
    worker = rig.attester(classical=True).attest()
    for path in (KEY, MODEL):
        with refused("release-classical"):
            worker.fetch(path)
        assert refusal(rig) == ("release-classical", "release", path)


@pytest.mark.parametrize("classical", [False, True])
def test_what_the_policy_allows_stands_in_the_keyset(rig, classical: bool) -> None:
    rig.change_service(rig.policy(allow_classical_release=True))
    worker = rig.attester(classical=classical).attest()
    (epoch,) = open_service_key(
        worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures", classical=classical
    )
    assert epoch.keyset.key_release == "classical"
    assert open_model_key(worker.fetch(MODEL), rig.broker_key, worker.recipient, MODEL).resource


def test_a_policy_that_begins_to_allow_classical_keys_ends_the_epochs_that_did_not(rig) -> None:
    """So no key whose keyset says HPKE only is ever released under another."""
    rig.change_service(rig.policy(allow_classical_release=True))
    worker = rig.attester(classical=True).attest()
    found = open_service_key(worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures", classical=True)
    assert [(epoch.epoch, epoch.keyset.key_release) for epoch in found] == [(2, "classical")]
