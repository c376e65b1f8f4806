"""Secrets: an attester of others, a guest of Confidential Containers, gets bytes as they were stored."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from log_rig import W1
from strongroom.attestation.evidence import EvidenceKind
from strongroom.broker import admin, admin_consent
from strongroom.broker.admin_secrets import MAX_SECRET, register_secret
from strongroom.broker.kbs import KeyBroker
from strongroom.broker.log import verify_log
from strongroom.broker.principal import Principal
from strongroom.broker.release import open_service_key
from strongroom.broker.witness_client import WitnessClient
from strongroom.broker.witnessing import Witnessing

ALICE = Principal("mtls:" + "a" * 64)
BOB = Principal("mtls:" + "b" * 64)
SECRET = "default/credential/database"
CONTENT = b"postgresql://\xff\x00 not even text"
KEY = "pictures/service-key/current"
OTHERS = (
    b"\"aa.toml\" = '''\n[token_configs]\n'''\n\"policy.rego\" = '''\ndefault AllowRequest := true\n'''\n"
)


def serve(rig: Any, **changes: Any) -> None:
    """Register the secret, and let the service and a guest's init-data name it."""
    register_secret(rig.store, **{"resource": SECRET, "content": CONTENT, **changes})
    rig.change_service(rig.policy(allow_classical_release=True), models=["default/model/lite0", SECRET])


def guest(rig: Any, **changes: Any) -> Any:
    """A guest with a classical one-time key and more in its init-data than ours."""
    models = changes.pop("models", (f"kbs:///{SECRET}",))
    init_data = rig.init_data(models=models) + OTHERS
    return rig.attester(EvidenceKind.TDX, classical=True, init_data=init_data, **changes).attest()


def test_a_guest_gets_the_bytes_in_a_jwe(rig) -> None:
    serve(rig)
    attester = guest(rig)
    assert attester.fetch(SECRET) == CONTENT
    answer = json.loads(rig.broker.resource(attester.session, None, SECRET))
    assert set(answer) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
    assert rig.broker.resource(None, attester.token, SECRET)  # by its token too


def test_a_worker_gets_them_under_its_hpke_key(rig) -> None:
    serve(rig)
    models = ("kbs:///default/model/lite0", f"kbs:///{SECRET}")
    assert rig.attester(models=models).attest().fetch(SECRET) == CONTENT


def test_the_release_is_logged_and_the_bytes_are_not(rig) -> None:
    serve(rig)
    attester = guest(rig)
    attester.fetch(SECRET)
    registered = next(each for each in admin.log_entries(rig.store) if each["event"] == "secret-registered")
    entry = rig.last_entry()
    assert (entry["event"], entry["resource"], entry["recipient"]) == ("released", SECRET, attester.recipient)
    assert entry["manifest"] == registered["manifest"]
    assert "document" not in entry
    verify_log(rig.store)
    with rig.store.read() as db:
        rows = db.execute("SELECT entry, opening FROM log").fetchall()
        (stored,) = db.execute("SELECT wrapped FROM models WHERE resource = ?", (SECRET,)).fetchone()
    for text in (*(part for row in rows for part in row), stored):
        assert CONTENT not in text
        assert base64.urlsafe_b64encode(CONTENT).rstrip(b"=") not in text


def test_what_stands_for_the_bytes_says_nothing_about_them(rig) -> None:
    first, second = (register_secret(rig.store, resource=SECRET, content=CONTENT).manifest for _ in range(2))
    assert first != second


def test_it_is_in_no_keyset_and_begins_no_epoch(rig) -> None:
    serve(rig)
    worker = rig.attester().attest()
    (epoch, *_) = open_service_key(
        worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures", classical=True
    )
    assert list(epoch.keyset.models) == ["lite0"]
    before = admin.services(rig.store)[0].last_epoch
    register_secret(rig.store, resource=SECRET, content=b"another")
    assert admin.services(rig.store)[0].last_epoch == before
    assert guest(rig).fetch(SECRET) == b"another"


def test_two_secrets_with_one_tag_do_not_clash(rig) -> None:
    serve(rig)
    register_secret(rig.store, resource="default/certificate/database", content=b"pem")
    rig.change_service(models=["default/model/lite0", SECRET, "default/certificate/database"])


def test_a_service_may_have_secrets_alone(rig) -> None:
    serve(rig)
    rig.change_service(models=[SECRET])
    assert guest(rig).fetch(SECRET) == CONTENT


def test_a_secret_that_is_not_registered(rig, refused) -> None:
    with refused("resource-unknown"):
        guest(rig).fetch(SECRET)


def test_a_secret_of_another_service(rig, refused) -> None:
    serve(rig)
    rig.change_service()
    with refused("model-foreign"):
        guest(rig).fetch(SECRET)


def test_a_secret_that_the_init_data_does_not_name(rig, refused) -> None:
    serve(rig)
    with refused("init-data-model"):
        guest(rig, models=()).fetch(SECRET)


def test_a_secrets_own_policy(rig, refused) -> None:
    serve(rig, policy_text=rig.policy(kinds=[EvidenceKind.TDX], measurements={EvidenceKind.TDX: ["00" * 48]}))
    with refused("policy-measurement"):
        guest(rig).fetch(SECRET)
    assert rig.last_entry()["resource"] == SECRET


def test_a_classical_key_needs_both_policies(rig, refused) -> None:
    serve(rig, policy_text=rig.policy())
    with refused("release-classical"):
        guest(rig).fetch(SECRET)


def test_a_revoked_secret_stays_revoked(rig, refused) -> None:
    serve(rig)
    admin_consent.revoke_model(rig.store, SECRET)
    with refused("resource-revoked"):
        guest(rig).fetch(SECRET)
    with refused("resource-revoked"):
        register_secret(rig.store, resource=SECRET, content=b"another")


def test_an_approval_holds_for_the_bytes_that_were_approved(rig, refused) -> None:
    serve(rig, approvers=[ALICE.text, BOB.text], approvals=1)
    with refused("approval-missing"):
        guest(rig).fetch(SECRET)
    seen = admin_consent.statement(rig.store, SECRET, "pictures", by=ALICE)
    admin_consent.approve(rig.store, SECRET, "pictures", seen.digest, by=ALICE)
    assert guest(rig).fetch(SECRET) == CONTENT
    register_secret(
        rig.store, resource=SECRET, content=CONTENT, approvers=[ALICE.text, BOB.text], approvals=1
    )
    with refused("approval-missing"):
        guest(rig).fetch(SECRET)


def test_a_secret_of_another_tenant_needs_a_grant(rig, refused) -> None:
    admin_consent.set_tenant(rig.store, "bank", [ALICE.text])
    register_secret(rig.store, resource="bank/credential/ledger", content=b"x", by=ALICE)
    with refused("model-not-granted"):
        rig.change_service(models=["default/model/lite0", "bank/credential/ledger"])


def test_nobody_but_its_tenants_administrators_may_register_it(rig, refused) -> None:
    admin_consent.set_tenant(rig.store, "bank", [ALICE.text])
    with refused("admin-forbidden"):
        register_secret(rig.store, resource="bank/credential/ledger", content=b"x", by=BOB)


def test_without_the_witnesses_nothing_leaves(rig, refused) -> None:
    serve(rig)
    with_witness = Witnessing(rig.store, [WitnessClient(W1.key, "http://127.0.0.1:9", timeout=0.2)], 1)
    rig.broker = KeyBroker(rig.store, now=rig.clock, witnessing=with_witness)
    attester = guest(rig)
    with refused("witness-missing"):
        attester.fetch(SECRET)
    assert rig.last_entry()["event"] == "withheld"
    with_witness.close()


@pytest.mark.parametrize("resource", ["default/model/x", "pictures/service-key/current"])
def test_types_with_a_meaning_of_their_own_are_no_secrets(rig, refused, resource: str) -> None:
    with refused("resource-path-invalid"):
        register_secret(rig.store, resource=resource, content=b"x")


def test_its_size_is_bounded(rig, refused) -> None:
    for content in (b"", b"x" * (MAX_SECRET + 1)):
        with refused("admin-request-invalid"):
            register_secret(rig.store, resource=SECRET, content=content)
    serve(rig, content=b"x" * MAX_SECRET)
    assert guest(rig).fetch(SECRET) == b"x" * MAX_SECRET


def test_a_policy_that_is_none_and_approvers_that_are_none(rig, refused) -> None:
    with refused("policy-invalid"):
        register_secret(rig.store, resource=SECRET, content=b"x", policy_text="x")
    with refused("approvers-invalid"):
        register_secret(rig.store, resource=SECRET, content=b"x", approvals=1)
