"""Key files: written once, readable by their owner only, overwritten before they are removed.

Overwriting reaches the old blocks on a disk that writes in place. On a copy-on-write file system or a flash
drive it may not; what then protects is that a key file holds only a key wrapped under another one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from strongroom.broker.errors import KEY_FILE_EXPOSED, STORE_UNUSABLE
from strongroom.errors import BrokerError


def create(path: Path, content: bytes, *, rng: Callable[[int], bytes] = os.urandom) -> bool:
    """Create `path` with mode 0600 and `content`, whole or not at all.

    Returns:
        False where the file was already there; it is then left as it is.

    Raises:
        BrokerError: `store-unusable`, the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{rng(8).hex()}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)  # unlike rename, this never replaces a key that another process made
            except FileExistsError:
                return False
            sync_folder(path.parent)
            return True
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise BrokerError(STORE_UNUSABLE, f"cannot write {path.name}: {error.strerror}") from error


def read(path: Path, *, limit: int) -> bytes:
    """The content of a key file, at most `limit` bytes.

    Raises:
        BrokerError: `key-file-exposed` where group or others have any right to the file or another user owns
            it;
            `store-unusable` where it is missing, a link, not a plain file or longer than `limit`.
    """
    try:
        with os.fdopen(
            os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb"
        ) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BrokerError(STORE_UNUSABLE, f"{path.name} is not a plain file")
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise BrokerError(
                    KEY_FILE_EXPOSED,
                    path.name,
                    found=f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}",
                    expected=f"mode 0600, owner {os.geteuid()}",
                )
            content = file.read(limit + 1)
    except OSError as error:
        raise BrokerError(STORE_UNUSABLE, f"cannot read {path.name}: {error.strerror}") from error
    if len(content) > limit:
        raise BrokerError(STORE_UNUSABLE, f"{path.name} is too long for a key file")
    return content


def replace(path: Path, content: bytes, *, rng: Callable[[int], bytes] = os.urandom) -> None:
    """Give a key file other content, whole or not at all, and overwrite what it held before.

    Raises:
        BrokerError: `store-unusable`, the file is not there or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{rng(8).hex()}")
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as before:
            if not create(temporary, content, rng=rng):
                raise FileExistsError(errno.EEXIST, "its name is taken")
            temporary.replace(path)
            sync_folder(path.parent)
            before.write(rng(os.fstat(before.fileno()).st_size))
            before.flush()
            os.fsync(before.fileno())
    except OSError as error:
        raise BrokerError(STORE_UNUSABLE, f"cannot change {path.name}: {error.strerror}") from error


def destroy(path: Path, *, rng: Callable[[int], bytes] = os.urandom) -> None:
    """Overwrite a key file with random bytes and remove it. A missing file is fine.

    Raises:
        BrokerError: `store-unusable`, the file cannot be removed.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
                file.write(rng(os.fstat(file.fileno()).st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            sync_folder(path.parent)
    except OSError as error:
        raise BrokerError(STORE_UNUSABLE, f"cannot remove {path.name}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable.

    Raises:
        OSError: The folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
