"""What the worker does to its own process before it holds any secret.

No core dump, no debugger of the same user (ptrace, /proc/PID/mem), no new privileges, files for their owner
only, no stdin. Each setting is read back from the kernel: a worker that could not harden itself does not
start. These are habits, not the protection itself: against the operator, only a TEE isolates a process.
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final, Protocol

from strongroom.worker.errors import HARDENING_FAILED, WorkerError

PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39
_UMASK: Final = 0o077


class Kernel(Protocol):
    """The system calls of this module."""

    def prctl(self, option: int, argument: int) -> int:
        """Call prctl with one argument; returns its result, negative for an error."""
        ...

    def set_core_limit(self, limit: int) -> None:
        """Set both RLIMIT_CORE values."""
        ...

    def core_limits(self) -> tuple[int, int]:
        """Soft and hard RLIMIT_CORE."""
        ...

    def umask(self, mask: int) -> int:
        """Set the umask; returns the one before."""
        ...

    def close_stdin(self) -> None:
        """Put /dev/null in the place of file descriptor 0."""
        ...


class LinuxKernel:
    """The real one."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def prctl(self, option: int, argument: int) -> int:
        """The unused arguments are zero, as PR_SET_NO_NEW_PRIVS demands."""
        zero = ctypes.c_ulong(0)
        return int(self._libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero))

    def set_core_limit(self, limit: int) -> None:
        """As in setrlimit(2)."""
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))

    def core_limits(self) -> tuple[int, int]:
        """As in getrlimit(2)."""
        return resource.getrlimit(resource.RLIMIT_CORE)

    def umask(self, mask: int) -> int:
        """Set the umask; returns the one before."""
        return os.umask(mask)

    def close_stdin(self) -> None:
        """Descriptor 0 stays taken, so that no socket or file of ours can become somebody's stdin."""
        null = os.open(os.devnull, os.O_RDONLY)
        if null != 0:
            os.dup2(null, 0)
            os.close(null)


def harden(kernel: Kernel | None = None) -> None:
    """Harden this process, and check that it took.

    Raises:
        WorkerError: `hardening-failed`; the detail names the setting.
    """
    kernel = kernel or LinuxKernel()
    try:
        kernel.umask(_UMASK)
        kernel.set_core_limit(0)
        kernel.close_stdin()
    except (OSError, ValueError):
        raise WorkerError(HARDENING_FAILED, "a resource limit, the umask or stdin") from None
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(PR_SET_DUMPABLE, 0)
    if kernel.umask(_UMASK) != _UMASK:
        raise WorkerError(HARDENING_FAILED, "umask")
    if kernel.core_limits() != (0, 0):
        raise WorkerError(HARDENING_FAILED, "RLIMIT_CORE")
    if kernel.prctl(PR_GET_NO_NEW_PRIVS, 0) != 1:
        raise WorkerError(HARDENING_FAILED, "PR_SET_NO_NEW_PRIVS")
    if kernel.prctl(PR_GET_DUMPABLE, 0) != 0:
        raise WorkerError(HARDENING_FAILED, "PR_SET_DUMPABLE")
