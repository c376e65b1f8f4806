"""`strongroom log`: verify, follow, export, receipts, keys, witness."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from log_rig import MemoryLog, entries
from strongroom.broker import log, log_entry
from strongroom.broker.log_entry import Event
from strongroom.broker.store import Store
from strongroom.codec import note
from strongroom.crypto.notes import NoteKey, NoteSigner

MODEL = "default/model/lite0"


def append(home: Path, count: int = 1, **facts: object) -> None:
    with Store.open(home / "broker") as store, store.write() as db:
        for _ in range(count):
            members = {"service": "pictures", "resource": MODEL, "kind": "sgx", **facts}
            log.append(store, db, time=1800000000, event=Event.RELEASED, facts=members)


@pytest.fixture
def key(cli, home: Path) -> str:
    append(home, 3)
    append(home, 1, service="sounds", resource="default/model/other")
    text: str = cli("log", "key").out.strip()
    return text


def test_the_keys(cli, home: Path, key: str) -> None:
    with Store.open(home / "broker") as store:
        assert key == log_entry.log_key(store.signing_key.verifying_key).text
        secret = store.signing_key.raw()
        ed25519 = log_entry.note_signer(store.signing_key).key.text
    assert cli("log", "key", "--json").json == {"log": key, "log_ed25519": ed25519}
    found = cli("log", "key", "--service", "pictures", "--json").json
    assert found["audit_key"] == log_entry.audit_key(secret, "service/pictures").hex()
    found = cli("log", "key", "--resource", f"kbs:///{MODEL}").out.strip()
    assert found == log_entry.audit_key(secret, f"resource/{MODEL}").hex()
    assert cli("log", "key", "--service", "a", "--resource", "b").code == 2


def test_the_store_is_verified(cli, home: Path, key: str) -> None:
    result = cli("log", "verify")
    assert result.code == 0
    assert result.out.startswith("The log holds: 4 entries")
    assert "witnesses none is asked for" in result.out
    found = cli("log", "verify", "--json").json
    assert (found["log"], found["size"], found["signatures"], found["threshold"]) == (key, 4, [], 0)


def test_a_store_that_was_changed_is_not(cli, home: Path, key: str) -> None:
    with Store.open(home / "broker") as store, store.write() as db:
        db.execute("DELETE FROM log WHERE seq = 1")
    assert "log-broken" in cli("log", "verify").err


def test_an_exported_log_is_verified_with_its_key_alone(cli, home: Path, key: str, tmp_path: Path) -> None:
    folder, kept = tmp_path / "www", tmp_path / "checkpoint"
    assert cli("log", "export", folder).out == f"4 entries are in {folder}.\n"
    found = cli("log", "verify", folder, "--key", key, "--keep", kept, "--json").json
    assert found["size"] == 4
    broker_key = "ed25519+mldsa65:" + key.split("+", maxsplit=1)[0].removeprefix("strongroom-log/")
    assert cli("log", "verify", folder, "--key", broker_key).code == 0
    append(home, 300)
    assert cli("log", "export", folder, "--json").json["size"] == 304
    found = cli("log", "verify", folder, "--key", key, "--since", kept, "--json").json
    assert (found["size"], found["since"]) == (304, 4)
    assert "grown from the checkpoint" in cli("log", "verify", folder, "--key", key, "--since", kept).out


def test_a_log_that_was_put_back_is_refused(cli, home: Path, key: str, tmp_path: Path) -> None:
    older, newer, kept = tmp_path / "older", tmp_path / "newer", tmp_path / "kept"
    cli("log", "export", older)
    append(home)
    cli("log", "export", newer)
    assert cli("log", "verify", newer, "--key", key, "--keep", kept).code == 0
    result = cli("log", "verify", older, "--key", key, "--since", kept)
    assert result.code == 3
    assert "log-forked" in result.err


def test_without_a_key_nothing_is_verified(cli, home: Path, key: str, tmp_path: Path) -> None:
    cli("log", "export", tmp_path / "www")
    for arguments in ((tmp_path / "www",), ("http://127.0.0.1:9",), ("--receipt", tmp_path / "none")):
        assert "option-invalid" in cli("log", "verify", *arguments).err
    assert cli("log", "verify", tmp_path / "www", "--key", "hello").code == 2
    assert cli("log", "verify", "http://127.0.0.1:9", "--key", key).code == 4


def test_receipts_of_an_owner(cli, home: Path, key: str, tmp_path: Path) -> None:
    out = tmp_path / "receipts.jsonl"
    assert cli("log", "receipt", "--service", "pictures", "--out", out).out == f"3 receipts are in {out}.\n"
    found = cli("log", "verify", "--receipt", out, "--key", key, "--json").json
    assert [entry["index"] for entry in found["entries"]] == [0, 1, 2]
    assert {entry["resource"] for entry in found["entries"]} == {MODEL}
    shown = cli("log", "verify", "--receipt", out, "--key", key).out
    assert f"3 receipts hold under {key}" in shown
    assert "none is asked for" in shown
    single = cli("log", "receipt", "--index", "3").out
    assert json.loads(single)["opening"]["facts"]["service"] == "sounds"
    assert len(cli("log", "receipt", "--resource", "default/model/other").out.splitlines()) == 1


def test_a_receipt_that_was_changed_is_refused(cli, home: Path, key: str, tmp_path: Path) -> None:
    text = cli("log", "receipt", "--index", "1").out
    path = tmp_path / "receipt"
    for old, new, code in (
        ("pictures", "sounds", "log-receipt-invalid"),
        ("sgx", "tdx", "merkle-proof-invalid"),
        ("index 1", "index 2", "merkle-proof-invalid"),
        ("\\n4\\n", "\\n5\\n", "signature-invalid"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        result = cli("log", "verify", "--receipt", path, "--key", key)
        assert (result.code, code in result.err) == (3, True), result.err
    path.write_text("\n")
    assert "file-unreadable" in cli("log", "verify", "--receipt", path, "--key", key).err


def test_a_receipt_is_of_something(cli, home: Path, key: str) -> None:
    assert "option-invalid" in cli("log", "receipt").err
    assert "log-entry-unknown" in cli("log", "receipt", "--service", "nobody").err
    assert "log-entry-unknown" in cli("log", "receipt", "--index", "4").err


def test_an_auditor_follows(cli, home: Path, key: str, tmp_path: Path) -> None:
    folder, state, owner = tmp_path / "www", tmp_path / "state", tmp_path / "audit.key"
    owner.write_text(cli("log", "key", "--service", "sounds").out)
    follow = ("log", "follow", folder, "--key", key, "--state", state, "--once", "--audit-key", owner)
    cli("log", "export", folder)
    found = [json.loads(line) for line in cli(*follow).out.splitlines()]
    assert [(entry["index"], entry["event"], entry["mine"]) for entry in found] == [
        (0, "released", False),
        (1, "released", False),
        (2, "released", False),
        (3, "released", True),
    ]
    assert all("service" not in entry for entry in found)
    assert cli(*follow).out == ""
    append(home, 2, service="sounds")
    cli("log", "export", folder)
    found = [json.loads(line) for line in cli(*follow).out.splitlines()]
    assert [(entry["index"], entry["mine"]) for entry in found] == [(4, True), (5, True)]


def test_a_fork_ends_the_following_with_the_evidence(cli, home: Path, key: str, tmp_path: Path) -> None:
    older, newer, state = tmp_path / "older", tmp_path / "newer", tmp_path / "state"
    cli("log", "export", older)
    append(home)
    cli("log", "export", newer)
    follow = ("--key", key, "--state", state, "--once")
    assert cli("log", "follow", newer, *follow).code == 0
    result = cli("log", "follow", older, *follow)
    assert (result.code, "log-forked" in result.err) == (3, True)
    evidence = (tmp_path / "state.fork").read_bytes()
    assert evidence == (newer / "checkpoint").read_bytes() + b"\n" + (older / "checkpoint").read_bytes()
    assert cli("log", "follow", newer, *follow).code == 0, "the state that was kept is still that of before"


def test_a_state_or_an_audit_key_of_something_else_is_refused(
    cli, home: Path, key: str, tmp_path: Path
) -> None:
    folder, state = tmp_path / "www", tmp_path / "state"
    cli("log", "export", folder)
    follow = ("log", "follow", folder, "--key", key, "--once", "--state")
    state.write_text("{}")
    assert "log-state-invalid" in cli(*follow, state).err
    state.write_text("abc")
    assert "log-state-invalid" in cli(*follow, tmp_path / "new", "--audit-key", state).err
    assert (
        cli("log", "follow", tmp_path / "none", "--key", key, "--once", "--state", tmp_path / "x").code == 4
    )


def test_witnesses_that_did_not_cosign_are_missed(cli, home: Path, key: str, tmp_path: Path) -> None:
    witness = cli("log", "keygen", "witness.example/w1", "--out", tmp_path / "w1").out.strip()
    result = cli("log", "verify", "--witness", witness)
    assert (result.code, "log-unwitnessed" in result.err) == (3, True)
    assert cli("log", "verify", "--witness", witness, "--threshold", "2").code == 2
    assert cli("log", "verify", "--witness", key).code == 2


def test_the_key_of_a_witness(cli, tmp_path: Path) -> None:
    path = tmp_path / "w1"
    public = cli("log", "keygen", "witness.example/w1", "--out", path).out.strip()
    assert NoteSigner.parse(path.read_text().strip()).key.text == public
    assert path.stat().st_mode & 0o777 == 0o600
    assert "option-invalid" in cli("log", "keygen", "witness.example/w1", "--out", path).err
    assert "note-key-invalid" in cli("log", "keygen", "a name", "--out", tmp_path / "w2").err


def test_a_witness_stands_alone(cli, tmp_path: Path) -> None:
    """The real process: it cosigns, is killed, and goes on from what it had cosigned."""
    rig = MemoryLog(entries(5))
    public = cli("log", "keygen", "witness.example/w1", "--out", tmp_path / "w1").out.strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-P", "-m", "strongroom", "log", "witness", "--key", str(tmp_path / "w1")]
    command += ["--state", str(tmp_path / "state"), "--log", rig.signer.key.text, "--listen", listen]
    url = f"http://{listen}/add-checkpoint"

    def started() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=dict(os.environ))
        while True:
            try:
                httpx.get(url, trust_env=False)
                return process
            except httpx.TransportError:
                assert process.poll() is None
                time.sleep(0.05)

    process = started()
    try:
        answer = httpx.post(url, content=rig.request(0), trust_env=False)
        signed = note.Note(note.parse(rig.checkpoint()).text, note.parse_signatures(answer.content))
        assert NoteKey.parse(public).check(signed) > 1_700_000_000
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = started()
        answer = httpx.post(url, content=rig.request(0, 3), trust_env=False)
        assert (answer.status_code, answer.text) == (409, "5\n")
    finally:
        process.terminate()
        process.wait()


def test_a_witness_with_the_wrong_key_does_not_start(cli, home: Path, key: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(MemoryLog().signer.text)
    arguments = ("--state", tmp_path / "state", "--log", key)
    assert "option-invalid" in cli("log", "witness", "--key", path, *arguments).err
    path.write_text("hello")
    assert "note-key-invalid" in cli("log", "witness", "--key", path, *arguments).err
    path.chmod(0o644)
    assert "key-file-exposed" in cli("log", "witness", "--key", path, *arguments).err
