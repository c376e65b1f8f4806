"""The command line and the server hold one store at the same time: real processes, one of them killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.evidence import EvidenceKind
from strongroom.broker import admin, epochs
from strongroom.broker.log import verify_log
from strongroom.broker.release import open_service_key

KEY = "pictures/service-key/current"
ROTATE = """
import sys
from pathlib import Path
from strongroom.broker import admin
from strongroom.broker.store import Store
with Store.open(Path(sys.argv[1])) as store:
    for _ in range(int(sys.argv[2])):
        print(admin.rotate(store, "pictures", grace=int(sys.argv[3])), flush=True)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from strongroom.broker import admin, epochs, keyfile
from strongroom.broker.store import Store
real = keyfile.create
def create(*args, **kwargs):
    real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
keyfile.create = create
with Store.open(Path(sys.argv[1])) as store:
    admin.rotate(store, "pictures", grace=100)
"""


def start(code: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def fetch(rig: Any, worker: Any) -> list[int]:
    return [
        epoch.epoch
        for epoch in open_service_key(worker.fetch(KEY), rig.broker_key, worker.recipient, "pictures")
    ]


@pytest.mark.system
def test_the_server_serves_while_the_command_line_rotates(rig) -> None:
    children = [start(ROTATE, rig.folder, "5", "0") for _ in range(2)]
    served = []
    while any(child.poll() is None for child in children):
        worker = rig.attester(EvidenceKind.SGX).attest()
        served.append(fetch(rig, worker)[0])
    minted = []
    for child in children:
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        minted += [int(line) for line in output.split()]
    assert sorted(minted) == list(range(2, 12))  # no epoch twice, none left out
    assert served == sorted(served)
    assert fetch(rig, rig.attester().attest()) == [11]
    verify_log(rig.store)


@pytest.mark.system
def test_a_process_killed_in_a_rotation_changes_nothing(rig) -> None:
    before = admin.epochs(rig.store, "pictures")
    child = start(KILLED, rig.folder)
    child.communicate(timeout=60)
    assert child.returncode == -9
    folder = rig.folder / "epochs"
    assert len(list(folder.iterdir())) == 2  # the key file of an epoch that never was
    assert admin.epochs(rig.store, "pictures") == before
    assert fetch(rig, rig.attester().attest()) == [1]
    epochs.delete_expired(rig.store, int(rig.clock()))
    assert [path.stem for path in folder.iterdir()] == [before[0].key_file]
    assert admin.rotate(rig.store, "pictures", grace=100) == 2
    verify_log(rig.store)
