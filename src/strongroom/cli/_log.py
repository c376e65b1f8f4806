"""What the commands of `strongroom log` do."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.broker import audit, files, keyfile, log, log_entry
from strongroom.broker.log_errors import LOG_ENTRY_UNKNOWN, LOG_STATE
from strongroom.broker.log_source import FolderSource, HttpSource, LogSource, StoreSource
from strongroom.broker.receipt import Receipt, Witnesses, check_checkpoint, witnesses_of
from strongroom.cli._output import emit, say
from strongroom.cli._show import open_store
from strongroom.cli.errors import FILE_UNREADABLE, OPTION_INVALID
from strongroom.codec import checkpoint, note
from strongroom.codec.note import MAX_NOTE
from strongroom.crypto.notes import KEY_SIZE, NoteKey, NoteSigner, NoteType
from strongroom.crypto.sign import PREFIX, VerifyingKey
from strongroom.errors import EXIT_UNREACHABLE, BrokerError, ConfigError, StrongroomError

if TYPE_CHECKING:
    from strongroom.broker.store import Store

_MAX_RECEIPTS: Final = 64 * 1024 * 1024
_MAX_KEY: Final = 1024
_MAX_WITNESS_CONNECTIONS: Final = 64
_AUDIT_KEY_HEX: Final = 2 * log_entry.AUDIT_KEY_BYTES
_NO_WITNESS: Final = "none is asked for: a broker that lies about its log could show others another one"


def log_key(text: str | None) -> NoteKey:
    """The key of `--key`, of a log or of its broker.

    Raises:
        ConfigError: `option-invalid`, there is none.
        CryptoError: `note-key-invalid` or `signing-key-invalid`.
    """
    if text is None:
        raise ConfigError(OPTION_INVALID, "--key is needed", expected=f"NAME+ID+BASE64 or {PREFIX}...")
    if text.startswith(PREFIX):
        return log_entry.log_key(VerifyingKey.parse(text))
    return NoteKey.parse(text)


def witnesses(keys: Sequence[str] | None, threshold: int | None) -> Witnesses:
    """The witnesses of `--witness` and `--threshold`.

    Raises:
        ConfigError: `option-invalid`.
        CryptoError: `note-key-invalid` or `signing-key-invalid`.
    """
    texts = list(dict.fromkeys(keys or ()))
    if threshold is not None and threshold > len(texts):
        raise ConfigError(OPTION_INVALID, "--threshold", found=threshold, expected=f"at most {len(texts)}")
    found = witnesses_of(texts, threshold or len(texts))
    if any(key.type is not NoteType.COSIGNATURE_V1 for key in found.keys):
        raise ConfigError(OPTION_INVALID, "--witness", expected="a key for cosignatures")
    return found


@contextmanager
def opened(
    source: str | None, key: str | None, home: Path | None, config: Path | None
) -> Iterator[tuple[LogSource, NoteKey]]:
    """The log of the arguments and its key."""
    if source is None:
        with open_store(home, config) as store:
            log.verify_log(store)
            own = log_entry.log_key(store.signing_key.verifying_key)
            yield StoreSource(store), own if key is None else log_key(key)
    elif source.startswith(("http://", "https://")):
        served = HttpSource(source)
        try:
            yield served, log_key(key)
        finally:
            served.close()
    else:
        yield FolderSource(Path(source)), log_key(key)


def verify_log(
    source: LogSource,
    key: NoteKey,
    expected: Witnesses,
    *,
    since: Path | None,
    keep: Path | None,
    json_output: bool,
) -> None:
    """Verify a whole log and print what was found."""
    kept, kept_note = None, b""
    if since is not None:
        kept_note = _read(since, MAX_NOTE)
        kept = check_checkpoint(kept_note, key)
    step = audit.verify(source, key, expected, since=kept, since_note=kept_note)
    signed = note.parse(step.state.checkpoint)
    others = [each.name for each in signed.signatures if each.name != key.name]
    if keep is not None:
        files.write_whole(keep, step.state.checkpoint)
    if json_output:
        emit(
            {
                "log": key.text,
                "size": step.head.size,
                "root": step.head.root.hex(),
                "witnesses": [each.name for each in expected.keys],
                "threshold": expected.threshold,
                "signatures": others,
                "since": None if kept is None else kept.size,
            }
        )
        return
    say(f"The log holds: {step.head.size} entries, all under the signed checkpoint")
    say(f"  log       {key.text}")
    say(f"  root      {step.head.root.hex()}")
    if kept is not None:
        say(f"  since     it has grown from the checkpoint kept, of {kept.size} entries")
    if expected.threshold:
        say(f"  witnesses {expected.threshold} or more of {', '.join(each.name for each in expected.keys)}")
    else:
        say(f"  witnesses {_NO_WITNESS}")


def verify_receipts(paths: Sequence[Path], key: NoteKey, expected: Witnesses, *, json_output: bool) -> None:
    """Verify receipts offline and print what they prove."""
    found = []
    for path in paths:
        for line in _read(path, _MAX_RECEIPTS).splitlines():
            if line.strip():
                given = Receipt.parse(line)
                found.append({"index": given.proof.index, **given.check(key, expected)})
    if not found:
        raise ConfigError(FILE_UNREADABLE, "there is no receipt in it")
    if json_output:
        emit({"log": key.text, "threshold": expected.threshold, "entries": found})
        return
    for facts in found:
        say(json.dumps(facts, ensure_ascii=False))
    say(f"{len(found)} receipts hold under {key.text}")
    if not expected.threshold:
        say(f"witnesses: {_NO_WITNESS}")


def follow(
    source: str,
    key: NoteKey,
    expected: Witnesses,
    state_file: Path,
    audit_key_file: Path | None,
    *,
    interval: float | None,
) -> None:
    """Print new entries for ever, or once where there is no interval."""
    owner = None if audit_key_file is None else _audit_key(audit_key_file)
    state = audit.State()
    if state_file.exists():
        state = audit.State.parse(_read(state_file, audit.MAX_STATE), key)
    with opened(source, key.text, None, None) as (served, _):
        while True:
            try:
                step = audit.advance(served, state, key, expected)
                for index, entry in step.entries():
                    _print_entry(index, entry, owner)
            except audit.LogForked as fork:
                files.write_whole(state_file.with_name(f"{state_file.name}.fork"), b"\n".join(fork.evidence))
                raise
            except StrongroomError as error:
                if interval is None or error.exit_code != EXIT_UNREACHABLE:
                    raise
                logging.getLogger("strongroom.log").warning("%s", error)
            else:
                state = step.state
                files.write_whole(state_file, state.render())
            if interval is None:
                return
            time.sleep(interval)


def take_receipts(
    store: Store, *, index: int | None, service: str | None, resource: str | None, out: Path | None
) -> None:
    """Write the receipts of one entry, or of all that are about a service or resource."""
    wanted = _wanted(store, service=service, resource=resource)
    if index is None and not wanted:
        raise ConfigError(OPTION_INVALID, "what for", expected="--index, --service or --resource")
    lines = []
    head, newest = log.published(store), log.newest(store)
    with store.read() as db:
        if index is not None:
            chosen = [index]
        else:
            chosen = [
                number
                for number, entry, _ in log.entries(db)
                if all(_is_about(key, number, entry) for key in wanted)
            ]
        size = checkpoint.parse(note.parse(head).text).size
        if any(number >= size for number in chosen):  # not yet cosigned
            head = newest
            size = checkpoint.parse(note.parse(head).text).size
        for number in chosen:
            members = log.receipt(db, number, head, size).members()
            lines.append(json.dumps(members, ensure_ascii=False, separators=(",", ":")))
    if not lines:
        raise BrokerError(LOG_ENTRY_UNKNOWN, "no entry is about it")
    text = "".join(f"{line}\n" for line in lines)
    if out is None:
        say(text.removesuffix("\n"))
    else:
        files.write_whole(out, text.encode())
        say(f"{len(lines)} receipts are in {out}.")


def show_key(store: Store, *, service: str | None, resource: str | None, json_output: bool) -> None:
    """Print the log's key, or the audit key of one subject."""
    wanted = _wanted(store, service=service, resource=resource)
    if len(wanted) > 1:
        raise ConfigError(OPTION_INVALID, "--service or --resource, not both")
    public = log_entry.log_key(store.signing_key.verifying_key).text
    if json_output:
        ed25519 = log_entry.note_signer(store.signing_key).key.text
        emit({"log": public, "log_ed25519": ed25519, **({"audit_key": wanted[0].hex()} if wanted else {})})
    else:
        say(wanted[0].hex() if wanted else public)


def make_witness_key(name: str, out: Path) -> str:
    """Write a new private key for a witness; returns its public half."""
    signer = NoteSigner(name, NoteType.COSIGNATURE_V1, os.urandom(KEY_SIZE))
    if not keyfile.create(out, f"{signer.text}\n".encode()):
        raise ConfigError(OPTION_INVALID, "--out: there is such a file already", found=out)
    return signer.key.text


def run_witness(key_file: Path, state: Path, logs: Sequence[str], listen: str) -> None:
    """Serve as a witness until SIGTERM or SIGINT."""
    import uvicorn

    from strongroom.broker import http_server
    from strongroom.broker.witness import Witness
    from strongroom.broker.witness_server import create_app
    from strongroom.config import listening, split_listen

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    signer = NoteSigner.parse(keyfile.read(key_file, limit=_MAX_KEY).decode("utf-8", "replace").strip())
    if signer.type is not NoteType.COSIGNATURE_V1:
        raise ConfigError(OPTION_INVALID, "--key", expected="a key made by `strongroom log keygen`")
    host, port = split_listen(listen)
    witness = Witness.open(state, signer, [log_key(text) for text in logs], now=time.time)
    try:
        with listening(listen):
            settings = http_server.settings(_MAX_WITNESS_CONNECTIONS)
            uvicorn.run(create_app(witness), host=host, port=port, **settings)
    finally:
        witness.close()


def _wanted(store: Store, *, service: str | None, resource: str | None) -> list[bytes]:
    subjects = [] if service is None else [log_entry.service_subject(service)]
    subjects += [] if resource is None else [log_entry.resource_subject(resource)]
    return [log_entry.audit_key(store.signing_key.raw(), subject) for subject in subjects]


def _is_about(key: bytes, index: int, entry: bytes) -> bool:
    return log_entry.tag(key, index) in log_entry.read(entry).get("tags", ())


def _print_entry(index: int, entry: bytes, owner: bytes | None) -> None:
    members: dict[str, Any] = {"index": index, **log_entry.read(entry)}
    if owner is not None:
        members["mine"] = log_entry.tag(owner, index) in members.get("tags", ())
    say(json.dumps(members, ensure_ascii=False, separators=(",", ":")))


def _audit_key(path: Path) -> bytes:
    text = _read(path, _MAX_KEY).decode("ascii", "replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(text) != _AUDIT_KEY_HEX or not key:
        raise BrokerError(LOG_STATE, f"{path} holds no audit key", expected=f"{_AUDIT_KEY_HEX} hex digits")
    return key


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path}: {error.strerror}") from None
    if len(data) > limit:
        raise ConfigError(FILE_UNREADABLE, f"{path} is too large", expected=f"at most {limit} bytes")
    return data
