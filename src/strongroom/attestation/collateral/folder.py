"""A folder of collateral, one file for each item: a cache with a network, a source without one.

    NAME.json    {"type": "strongroom-collateral/1", "item": NAME, "parts": {PART: TEXT, ...}}

A file is trusted no more than an answer from the network. One that is not whole, not of its name or too large
counts as absent. How long it holds is what its parts say themselves (`validity.period`), never its age.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final, Literal

import msgspec

from strongroom.attestation.collateral import validity
from strongroom.attestation.collateral.errors import COLLATERAL_UNWRITABLE
from strongroom.attestation.collateral.needs import Item
from strongroom.attestation.evidence import MAX_COLLATERAL
from strongroom.errors import ConfigError, EvidenceError
from strongroom.forms import ready

MAX_ITEMS: Final = 4096
"""Files in a folder; one more takes the place of the one that was written first."""

_MAX_FILE: Final = 2 * MAX_COLLATERAL
_SUFFIX: Final = ".json"
_TEMPORARY: Final = ".new"
_MODE: Final = 0o644
"""Nothing in it is secret, and who fills a folder is often another user than who reads it."""


@ready
class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["strongroom-collateral/1"]
    item: str
    parts: dict[str, str]


class CollateralFolder:
    """A folder of collateral. Threads and processes may share one: files are replaced whole.

    Args:
        path: The folder. It is made when the first item is kept.
        max_items: Most files in it.
    """

    def __init__(self, path: Path, *, max_items: int = MAX_ITEMS) -> None:
        self.path = path
        self._max_items = max_items

    def load(self, item: Item) -> dict[str, str] | None:
        """The parts of an item, whether or not they still hold; None if there is no usable file."""
        try:
            with self.path_of(item).open("rb") as stream:
                data = stream.read(_MAX_FILE + 1)
            file = msgspec.json.decode(data, type=_File)
            if len(data) > _MAX_FILE or file.item != item.name:
                return None
            validity.check(item, file.parts)
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError, EvidenceError):
            return None
        return file.parts

    def keep(self, item: Item, parts: dict[str, str]) -> None:
        """Write an item's file, whole or not at all.

        Raises:
            ConfigError: `collateral-folder-unwritable`.
        """
        content = msgspec.json.encode(_File("strongroom-collateral/1", item.name, parts))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._make_room(item)
            self._write(self.path_of(item), msgspec.json.format(content, indent=1) + b"\n")
        except OSError as error:
            raise ConfigError(COLLATERAL_UNWRITABLE, f"{self.path}: {error.strerror}") from error

    def path_of(self, item: Item) -> Path:
        """Where the file of an item is or would be. Names are made of digits and fixed words."""
        return self.path / f"{item.name}{_SUFFIX}"

    def _make_room(self, item: Item) -> None:
        files = [path for path in self.path.glob(f"*{_SUFFIX}") if path != self.path_of(item)]
        for path in sorted(files, key=_written)[: max(0, len(files) - self._max_items + 1)]:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        # No fsync: what a power cut takes away is fetched again, and what it cuts off counts as absent.
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=self.path)
        try:
            with os.fdopen(fd, "wb") as stream:
                os.fchmod(fd, _MODE)
                stream.write(content)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # another process has just removed it
