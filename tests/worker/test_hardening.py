from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from strongroom.worker.errors import WorkerError
from strongroom.worker.hardening import (
    PR_GET_DUMPABLE,
    PR_GET_NO_NEW_PRIVS,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    harden,
)

NOBODY = 65534
SOURCES = Path(__file__).resolve().parents[2] / "src"


class KernelInMemory:
    """A kernel that obeys, except for one setting that it quietly ignores."""

    def __init__(self, *, ignores: str = "") -> None:
        self.ignores = ignores
        self.mask = 0o022
        self.core = (-1, -1)
        self.dumpable = 1
        self.no_new_privs = 0
        self.stdin_closed = False

    def prctl(self, option: int, argument: int) -> int:
        if option == PR_SET_DUMPABLE and self.ignores != "dumpable":
            self.dumpable = argument
        if option == PR_SET_NO_NEW_PRIVS and self.ignores != "no-new-privs":
            self.no_new_privs = argument
        return {PR_GET_DUMPABLE: self.dumpable, PR_GET_NO_NEW_PRIVS: self.no_new_privs}.get(option, 0)

    def set_core_limit(self, limit: int) -> None:
        if self.ignores == "core-refused":
            raise ValueError("not allowed")
        if self.ignores != "core":
            self.core = (limit, limit)

    def core_limits(self) -> tuple[int, int]:
        return self.core

    def umask(self, mask: int) -> int:
        before = self.mask
        if self.ignores != "umask":
            self.mask = mask
        return before

    def close_stdin(self) -> None:
        if self.ignores == "stdin":
            raise OSError("no /dev/null")
        self.stdin_closed = True


def test_an_obedient_kernel_ends_hardened() -> None:
    kernel = KernelInMemory()
    harden(kernel)
    assert (kernel.mask, kernel.core, kernel.dumpable, kernel.no_new_privs) == (0o077, (0, 0), 0, 1)
    assert kernel.stdin_closed


@pytest.mark.parametrize(
    ("ignores", "named"),
    [
        ("dumpable", "PR_SET_DUMPABLE"),
        ("no-new-privs", "PR_SET_NO_NEW_PRIVS"),
        ("core", "RLIMIT_CORE"),
        ("core-refused", "a resource limit"),
        ("umask", "umask"),
        ("stdin", "stdin"),
    ],
)
def test_each_setting_that_did_not_take_refuses_alone(ignores: str, named: str) -> None:
    with pytest.raises(WorkerError) as refused:
        harden(KernelInMemory(ignores=ignores))
    assert refused.value.code == "hardening-failed"
    assert named in refused.value.detail


ATTACKER = """
import ctypes, os, sys
pid, uid = int(sys.argv[1]), int(sys.argv[2])
if uid >= 0:
    os.setgid(uid)
    os.setuid(uid)
try:
    open(f"/proc/{pid}/mem", "rb").close()
    print("memory: open")
except PermissionError:
    print("memory: refused")
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
if libc.ptrace(PTRACE_ATTACH, pid, None, None) == 0:
    os.waitpid(pid, 0)
    libc.ptrace(PTRACE_DETACH, pid, None, None)
    print("ptrace: attached")
else:
    print("ptrace: refused")
"""

VICTIM = """
import ctypes, os, sys, threading
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from strongroom.worker.hardening import LinuxKernel, harden
uid, hardened = int(sys.argv[2]), sys.argv[3] == "hardened"
kernel = LinuxKernel()
if uid >= 0:
    os.setgid(uid)
    os.setuid(uid)
    kernel.prctl(4, 1)  # a change of user makes a process undumpable; a plain program of that user is not
if hardened:
    harden()
print("ready", flush=True)
threading.Event().wait()
"""


def _victim(uid: int, state: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", VICTIM, str(SOURCES), str(uid), state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _attack(state: str) -> tuple[str, dict[str, str], str]:
    uid = NOBODY if os.getuid() == 0 else -1
    victim = _victim(uid, state)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        status = Path(f"/proc/{victim.pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        limits = Path(f"/proc/{victim.pid}/limits").read_text()
        attacker = subprocess.run(
            [sys.executable, "-I", "-c", ATTACKER, str(victim.pid), str(uid)],
            capture_output=True,
            check=True,
            timeout=30,
        )
        return attacker.stdout.decode(), facts, limits
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()


@pytest.mark.system
def test_a_process_of_the_same_user_reads_no_memory_and_attaches_no_debugger() -> None:
    seen, facts, limits = _attack("hardened")
    assert seen.splitlines() == ["memory: refused", "ptrace: refused"]
    assert facts["NoNewPrivs"] == "1"
    assert facts["Umask"] == "0077"
    core = next(line.split() for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core[4:6] == ["0", "0"]


@pytest.mark.system
def test_without_hardening_the_same_attack_succeeds() -> None:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and scope.read_text().strip() != "0":
        pytest.skip("Yama already refuses ptrace to all but ancestors here")
    seen, facts, _ = _attack("plain")
    assert seen.splitlines() == ["memory: open", "ptrace: attached"]
    assert facts["NoNewPrivs"] == "0"


@pytest.mark.system
def test_stdin_is_empty_and_core_dumps_are_off_in_a_real_process() -> None:
    code = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(SOURCES)!r})
        sys.dont_write_bytecode = True
        from strongroom.worker.hardening import LinuxKernel, harden
        harden()
        import os
        print(os.read(0, 10), LinuxKernel().core_limits(), oct(os.umask(0)))
    """)
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], input=b"typed", capture_output=True, check=True, timeout=30
    )
    assert done.stdout == b"b'' (0, 0) 0o77\n"
