"""The bodies of `strongroom keys rotate-root`, `backup` and `restore`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from strongroom.broker import backup, keyfile, rotation
from strongroom.broker.store import Store
from strongroom.cli._output import emit, say, working
from strongroom.cli.errors import FILE_EXISTS, FILE_UNREADABLE
from strongroom.errors import ConfigError

_SHARE_LIMIT: Final = 4096


def run_rotate_root(store: Store, wait: int, drop: Sequence[str], *, json_output: bool) -> None:
    """Rotate, wait for other brokers, and say what to do with root keys that were given up."""
    given_up = [*drop, *store.root.other_names]
    with working("Wrapping all keys anew ..."):
        rotation.rotate_root(store, drop=given_up)
        done = rotation.finish_within(store, wait, drop=given_up)
    if json_output:
        emit({"version": done.version, "root": store.root.root_name, "dropped": given_up})
        return
    say(f"Data key version {done.version}, guarded by {store.root.root_name}.")
    for name in given_up:
        say(f"{name} opens nothing in this store any more: destroy it.")


def run_backup(store: Store, output: Path, shares: int, threshold: int, *, json_output: bool) -> None:
    """Write the file first: shares of a backup that is not there are worth nothing."""
    made = backup.make(store, threshold=threshold, count=shares)
    if not keyfile.create(output, made.data):
        raise ConfigError(FILE_EXISTS, str(output))
    if json_output:
        emit({"file": str(output), "threshold": threshold, "shares": list(made.shares)})
        return
    say(f"{output}: {len(made.data)} bytes.")
    say(f"Any {threshold} of these {shares} shares open it; fewer tell nothing.")
    for number, share in enumerate(made.shares, 1):
        say(f"\nShare {number} of {shares}:\n{share}")


def run_restore(store: Store, file: Path, shares: Sequence[Path], *, json_output: bool) -> None:
    """Fill the store."""
    backup.restore(store, _read(file, backup.MAX_BACKUP), [_read_share(path) for path in shares])
    emit({"restored": str(file)}) if json_output else say(
        f"Restored {file}. Services have no epoch yet; the broker begins one for each when it starts."
    )


def _read_share(path: Path) -> str:
    return _read(path, _SHARE_LIMIT).decode("ascii", "replace")


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(FILE_UNREADABLE, f"{path}: {error.strerror}") from None
    if len(content) > limit:
        raise ConfigError(FILE_UNREADABLE, f"{path} is too long", expected=f"at most {limit} bytes")
    return content
