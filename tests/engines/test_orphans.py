from __future__ import annotations

import os
import signal
import subprocess
import sys

from strongroom.engines.orphans import die_with

# A parent that forks a child which waits, and says its process id.
PARENT = """
import os, signal, subprocess, sys
from strongroom.engines.orphans import die_with
number = signal.Signals(int(sys.argv[1]))
subprocess.Popen([sys.executable, "-c", sys.argv[2]], preexec_fn=die_with(os.getpid(), number))
signal.pause()
"""
CHILD = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked") and sys.exit())
os.write(1, b"%d " % os.getpid())
signal.pause()
"""


def last_words(number: signal.Signals) -> str:
    """What a child says after its parent has been killed; returns when the child has ended too."""
    command = [sys.executable, "-c", PARENT, str(int(number)), CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = b""
        while not pid.endswith(b" "):
            pid += os.read(parent.stdout.fileno(), 1)
        os.kill(int(pid), 0)  # it runs
        parent.kill()
        return parent.stdout.read().decode()  # the pipe ends when both have closed it


def test_a_child_is_killed_with_its_parent() -> None:
    assert last_words(signal.SIGKILL) == ""


def test_a_child_is_asked_to_end_when_its_parent_is_killed() -> None:
    assert last_words(signal.SIGTERM) == "asked"


def test_a_child_whose_parent_is_gone_already_does_not_start() -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    orphan = subprocess.Popen(["/bin/true"], preexec_fn=die_with(gone.pid, signal.SIGKILL))  # noqa: PLW1509 -- under test
    assert orphan.wait(30) == 1
    child = subprocess.Popen(["/bin/true"], preexec_fn=die_with(os.getpid(), signal.SIGKILL))  # noqa: PLW1509 -- under test
    assert child.wait(30) == 0
