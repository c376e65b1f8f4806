"""The launcher: what its process gets, how it quotes for it, and how both end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation import initdata
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import TrustRoots
from strongroom.attestation.verify import verify_evidence
from strongroom.engines import launcher as module
from strongroom.engines.errors import EngineError
from strongroom.engines.launcher import Enclave, Launcher, SimulatedQuoting, answer
from strongroom.worker.quoter import LAST, MORE, PACKET, REFUSED
from strongroom_simulator.state import KINDS, SimulatorState

TinyWorker = Any
NOW = 1_800_000_000
REPORT_DATA = bytes(range(64))

LAUNCH = """
import sys
from pathlib import Path
from strongroom.attestation.measurement import measure
from strongroom.engines.launcher import Launcher
measurement = measure(Path(sys.argv[1]), [Path(sys.argv[2])], entry="program:main")
Launcher(measurement, None, b'{"wait": "/dev/null"}').run()
"""


class BrokenBackend:
    """Raises what it is given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def quote(self, report_data: bytes) -> Evidence:
        raise self.error


@pytest.fixture
def state(tmp_path: Path) -> SimulatorState:
    return SimulatorState.open(tmp_path / "simulator", now=lambda: NOW)


@pytest.fixture
def waiting(tiny: TinyWorker, tmp_path: Path) -> Iterator[Enclave]:
    """A launched worker that waits for a signal and ends with status 5 at SIGTERM."""
    os.mkfifo(tmp_path / "ready")
    enclave = tiny.launcher({"wait": str(tmp_path / "ready")}).start()
    (tmp_path / "ready").read_bytes()  # until the worker has opened and closed it
    yield enclave
    enclave.kill()
    enclave.wait(30)


# What the process gets.


def test_the_process_gets_what_it_needs_and_no_more(tiny: TinyWorker) -> None:
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        report = tiny.report(word="\u00e9")
    finally:
        os.close(leaked)
    config, quotes = map(int, report["argv"][1:])
    assert report["config"] == {"out": str(tiny.out), "word": "\u00e9"}
    assert report["argv"][0] == "strongroom-worker"
    assert report["cwd"] == "/"
    assert report["stdin"] == "/dev/null"
    assert report["umask"] == 0o077
    assert report["pgid"] == report["pid"]  # Ctrl-C in a terminal goes to the launcher alone
    others = set(report["fds"]) - {0, 1, 2, config, quotes}
    assert len(others) <= 2  # its output file, and the folder that it lists


def test_a_large_configuration_arrives_whole(tiny: TinyWorker) -> None:
    text = "x" * (1024 * 1024)
    assert tiny.report(text=text)["config"]["text"] == text


def test_a_process_that_does_not_read_its_configuration_does_not_block_the_launcher(tiny: TinyWorker) -> None:
    (tiny.root / "other.py").write_text("def main():\n    return 3\n")
    launcher = tiny.launcher({"text": "x" * (1024 * 1024)}, entry="other:main")
    assert launcher.start().wait(60) == 3


# How it ends.


def test_its_exit_status_is_passed_on(tiny: TinyWorker) -> None:
    tiny.report(expect=7, status=7)
    tiny.report(expect=0, status=None)


def test_a_killed_process_has_the_shells_status(waiting: Enclave) -> None:
    waiting.kill()
    assert waiting.wait(30) == 128 + signal.SIGKILL


def test_it_can_be_asked_to_end(waiting: Enclave) -> None:
    with pytest.raises(TimeoutError):
        waiting.wait(0.01)
    os.kill(waiting.pid, 0)  # it runs
    waiting.terminate()
    assert waiting.wait(30) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_the_launcher_end_the_process_in_order(
    tiny: TinyWorker, tmp_path: Path, number: int
) -> None:
    os.mkfifo(tmp_path / "ready")
    launcher = tiny.launcher({"wait": str(tmp_path / "ready")})
    before = signal.getsignal(number)
    pid = os.fork()  # the signal must not meet the test run itself
    if pid == 0:
        code = 99
        try:
            code = launcher.run() if signal.getsignal(number) is before else 98
            code = code if signal.getsignal(number) is before else 97
        finally:
            os._exit(code)
    (tmp_path / "ready").read_bytes()
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_a_signal_before_the_process_runs_is_not_lost(
    tiny: TinyWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = tiny.launcher({"wait": str(tiny.out)})
    start = launcher.start

    def interrupted_start() -> Enclave:
        os.kill(os.getpid(), signal.SIGTERM)
        return start()

    monkeypatch.setattr(launcher, "start", interrupted_start)
    assert launcher.run() in {128 + signal.SIGTERM, 5}


def test_the_process_dies_with_its_launcher(tiny: TinyWorker) -> None:
    command = [sys.executable, "-c", LAUNCH, str(tiny.python), str(tiny.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launching:
        assert launching.stdout
        worker = int(launching.stdout.readline())
        os.kill(worker, 0)  # it runs
        launching.kill()
        assert launching.stdout.read() == ""  # the pipe ends when both have closed it
        launching.wait(30)


def test_an_interpreter_that_vanished_is_an_error(tiny_own_python: TinyWorker) -> None:
    launcher = tiny_own_python.launcher({})
    tiny_own_python.python.unlink()
    fds = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(EngineError, match="launch-refused"):
        launcher.start()
    assert len(list(Path("/proc/self/fd").iterdir())) == fds


# How it quotes.


def exchange(tiny: TinyWorker, requests: list[bytes], backend: object = None) -> list[list[bytes]]:
    """Launch the worker, let it send these requests, and return the packets of each answer."""
    config = {"requests": [request.hex() for request in requests], "out": str(tiny.out)}
    assert tiny.launcher(config, backend).start().wait(60) == 0
    return [[bytes.fromhex(packet) for packet in packets] for packets in json.loads(tiny.out.read_text())]


@pytest.mark.parametrize("kind", KINDS)
def test_the_quote_says_what_was_measured(
    tiny: TinyWorker, state: SimulatorState, kind: EvidenceKind
) -> None:
    measurement = tiny.measure()
    init_data = b"the exact bytes"
    backend = SimulatedQuoting.of(state, kind, measurement, init_data)
    (packets,) = exchange(tiny, [REPORT_DATA], backend)
    evidence = Evidence.parse(b"".join(packet[1:] for packet in packets))
    claims = verify_evidence(evidence, TrustRoots(simulated=frozenset({state.root_of(kind)})), NOW)
    expected = measurement.sha256 if kind is EvidenceKind.SGX else measurement.sha384
    assert claims.measurement == expected.hex()
    assert claims.report_data == REPORT_DATA
    assert claims.init_data_digest == initdata.digest(init_data)
    assert evidence.init_data == init_data
    assert claims.simulated


def test_a_changed_worker_gets_quotes_of_another_measurement(tiny: TinyWorker, state: SimulatorState) -> None:
    roots = TrustRoots(simulated=frozenset({state.root_sha256}))
    found = []
    for line in ("", "# one more line\n"):
        with (tiny.root / "part.py").open("a") as file:
            file.write(line)
        backend = SimulatedQuoting.of(state, EvidenceKind.SGX, tiny.measure(), b"")
        (packets,) = exchange(tiny, [REPORT_DATA], backend)
        evidence = Evidence.parse(b"".join(packet[1:] for packet in packets))
        found.append(verify_evidence(evidence, roots, NOW).measurement)
    assert found[0] != found[1]


def test_requests_of_another_size_are_refused_and_the_next_works(tiny: TinyWorker) -> None:
    answers = exchange(tiny, [bytes(63), bytes(65), bytes(1000), REPORT_DATA])
    assert answers[:3] == [[REFUSED + b"report-data-size"]] * 3
    (last,) = answers[3]
    assert Evidence.parse(last[1:]).quote == REPORT_DATA


def test_a_backend_that_cannot_quote_is_reported_by_code(
    tiny: TinyWorker, caplog: pytest.LogCaptureFixture
) -> None:
    backend = BrokenBackend(EngineError(module.LAUNCH_REFUSED, "no quote today"))
    assert exchange(tiny, [REPORT_DATA], backend) == [[REFUSED + b"launch-refused"]]
    assert "no quote today" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_backend_that_breaks_ends_the_connection(tiny: TinyWorker) -> None:
    assert exchange(tiny, [REPORT_DATA], BrokenBackend(RuntimeError("bug"))) == [[b""]]


def test_large_evidence_takes_several_packets() -> None:
    class Large:
        def quote(self, report_data: bytes) -> Evidence:
            return Evidence(EvidenceKind.SGX, report_data * 1024, None, b"i" * 65536)

    packets = list(answer(REPORT_DATA, Large()))
    assert len(packets) > 5
    assert {packet[:1] for packet in packets[:-1]} == {MORE}
    assert packets[-1][:1] == LAST
    assert max(map(len, packets)) == PACKET
    document = b"".join(packet[1:] for packet in packets)
    assert Evidence.parse(document) == Large().quote(REPORT_DATA)


def test_the_real_quoter_understands_the_launcher(tiny: TinyWorker, state: SimulatorState) -> None:
    import socket

    from strongroom.worker.quoter import SocketQuoter

    backend = SimulatedQuoting.of(state, EvidenceKind.TDX, tiny.measure(), b"init")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    serving = threading.Thread(target=Launcher(tiny.measure(), backend, b"{}")._serve, args=(write, theirs))
    serving.start()
    quoter = SocketQuoter(ours)
    assert quoter.quote(REPORT_DATA).init_data == b"init"
    quoter.close()
    serving.join()
    assert os.read(read, 100) == b"{}"
    os.close(read)
