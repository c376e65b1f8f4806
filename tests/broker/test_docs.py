"""The reference of the broker says what the code does: its examples, its codes, its bounds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from strongroom.broker import (
    admin_errors,
    admin_requests,
    envelope,
    errors,
    jwe,
    log_entry,
    log_errors,
    messages,
    onetime,
    release,
    teekey,
)
from strongroom.broker.log_entry import Event
from strongroom.broker.receipt import check_checkpoint
from strongroom.broker.release_forms import MAX_EPOCHS
from strongroom.broker.sessions import DEFAULT_LIMIT, DEFAULT_SECONDS
from strongroom.codec import b64, jcs
from strongroom.crypto.merkle import leaf_hash
from strongroom.crypto.sign import SigningKey
from strongroom.errors import ErrorCode

EXAMPLE = re.compile(r"<!-- example: ([a-z-]+) -->\n```[a-z]*\n(.*?)\n```\n", re.DOTALL)
VECTORS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "vectors"
BROKER = SigningKey.from_raw(b"\x01" * 64)


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "reference" / "broker.md").read_text()


@pytest.fixture(scope="module")
def log_page() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "reference" / "log.md").read_text()


@pytest.fixture(scope="module")
def admin_page() -> str:
    return (Path(__file__).resolve().parents[2] / "docs" / "reference" / "administration.md").read_text()


@pytest.fixture(scope="module")
def examples(text: str) -> dict[str, str]:
    return dict(EXAMPLE.findall(text))


def test_the_report_data(examples: dict[str, str]) -> None:
    key = json.loads(examples["tee-pubkey"])
    assert jcs.canonical(key).decode() == examples["tee-pubkey"]
    assert teekey.to_jwk(teekey.generate(lambda size: b"\x05" * size).public_key()) == key
    assert messages.report_data(examples["nonce"], key).hex() == examples["kbs-report-data"]


def test_the_model_key(examples: dict[str, str]) -> None:
    recipient = teekey.thumbprint(teekey.parse_jwk(json.loads(examples["tee-pubkey"])))
    sealed = (VECTORS / "model-key.json").read_bytes()
    payload = b64.decode_url(json.loads(sealed)["payload"], limit=4096)
    assert payload == examples["model-key"].encode()
    key = release.open_model_key(sealed, BROKER.verifying_key, recipient, "default/model/lite0")
    assert jcs.canonical(release.model_document(recipient, key)) == payload
    jwe_document = jwe.seal(teekey.parse_jwk(json.loads(examples["tee-pubkey"])), sealed)
    assert jwe.open_sealed(teekey.generate(lambda size: b"\x05" * size), jwe_document) == sealed


def test_the_hpke_release() -> None:
    vector = json.loads((VECTORS / "hpke-release.json").read_text(encoding="utf-8"))
    key = onetime.HpkeKey(lambda size: bytes.fromhex(vector["seed"])[:size])
    assert key.jwk == vector["tee-pubkey"]
    assert key.recipient == vector["recipient"]
    assert messages.report_data(vector["nonce"], key.jwk).hex() == vector["report-data"]
    assert key.open(jcs.canonical(vector["answer"]), vector["resource"]).decode() == vector["plaintext"]


def test_the_log(log_page: str) -> None:
    examples = dict(EXAMPLE.findall(log_page))
    secret = BROKER.raw()
    entry, opening = log_entry.make(
        event=Event.REFUSED,
        time=1800000000,
        facts={"kind": "sgx", "code": "policy-measurement", "stage": "attest", "service": "pictures"},
        salt=bytes(32),
        index=0,
        secret=secret,
    )
    assert opening is not None
    assert entry.decode() == examples["log-entry"]
    assert jcs.canonical(opening.members()).decode() == examples["log-opening"]
    assert log_entry.audit_key(secret, log_entry.service_subject("pictures")).hex() == examples["audit-key"]
    key = log_entry.log_key(BROKER.verifying_key)
    assert key.text == examples["log-key"]
    head = check_checkpoint((VECTORS / "log-checkpoint.txt").read_bytes(), key)
    assert (head.size, head.root) == (1, leaf_hash(entry))


def test_every_code_and_event_is_listed(text: str, log_page: str, admin_page: str) -> None:
    for page, module in ((text, errors), (log_page, log_errors), (admin_page, admin_errors)):
        for kind in vars(module).values():
            if isinstance(kind, ErrorCode):
                assert f"`{kind.code}`" in page, kind.code
    for event in Event:
        assert f"`{event}`" in log_page


def test_what_is_public_is_in_the_first_table(log_page: str) -> None:
    public, hidden = log_page.split("*opening*, which only", 1)
    for name in log_entry.PUBLIC:
        assert f"`{name}`" in public
    for name in ("service", "recipient", "policy", "resource", "document"):
        assert f"`{name}`" not in public
        assert f"`{name}`" in hidden


def test_every_member_of_a_document_is_listed(text: str) -> None:
    for form in (release.ModelDocumentForm, release.ServiceDocumentForm, release.EpochForm, release.KeyForm):
        for name in form.__struct_fields__:
            assert f"`{name}`" in text, name


def test_the_bounds(text: str) -> None:
    assert f"at most {messages.MAX_AUTH // 1024} KiB" in text
    assert f"at most {messages.MAX_ATTEST // 1024**2} MiB" in text
    assert f"at most {envelope.MAX_ENVELOPE // 1024} KiB" in text
    assert f"at most {DEFAULT_LIMIT:,}" in text
    assert f"lives for {DEFAULT_SECONDS // 60} minutes" in text
    assert f"At most {MAX_EPOCHS} epochs" in text


def test_every_request_and_member_is_listed(admin_page: str) -> None:
    for request in admin_requests._ACTIONS:
        assert f"| `{request.__struct_config__.tag}` |" in admin_page
        for name in request.__struct_fields__:
            assert f"`{name}`" in admin_page, name
