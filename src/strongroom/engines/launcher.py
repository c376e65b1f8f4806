"""The launcher: starts exactly what was measured, and quotes for it.

It stands for the loader and the quoting enclave of a TEE. It alone holds the quoting key, and what it
measured is what its quotes say: the process it starts cannot choose its own measurement.

    measurement = measure_default()
    backend = SimulatedQuoting.of(state, EvidenceKind.SGX, measurement, init_data)
    exit_status = Launcher(measurement, backend, config).run()

The process gets three things: its configuration over a pipe, a socket to ask for quotes
(`strongroom.worker.quoter`), and the standard output and error of the launcher for its log. It inherits no
environment and no other file descriptor, and it dies with its launcher.

What the launcher cannot do is in `strongroom.attestation.measurement`: files can change after they were
measured. Simulated evidence is not protection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from strongroom.attestation import initdata
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.measurement import Measurement
from strongroom.engines.errors import LAUNCH_REFUSED, EngineError
from strongroom.engines.orphans import die_with
from strongroom.errors import StrongroomError
from strongroom.worker.quoter import LAST, MORE, PACKET, REFUSED, REPORT_DATA_SIZE
from strongroom_simulator.state import SimulatorState

_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PART: Final = PACKET - 1
_log = logging.getLogger(__name__)


class QuotingBackend(Protocol):
    """What makes quotes for one started process."""

    def quote(self, report_data: bytes) -> Evidence:
        """Evidence about the process that carries these 64 bytes.

        Raises:
            StrongroomError: No evidence can be made.
        """
        ...


@dataclass(frozen=True, slots=True)
class SimulatedQuoting:
    """Quotes of the simulator for one measurement and one init-data.

    Attributes:
        state: The simulator.
        kind: Kind of evidence.
        measurement: MRENCLAVE, MRTD or SNP's launch digest.
        init_data: The exact bytes; evidence carries them, and their digest in the quote.
    """

    state: SimulatorState
    kind: EvidenceKind
    measurement: bytes
    init_data: bytes

    @classmethod
    def of(
        cls, state: SimulatorState, kind: EvidenceKind, measurement: Measurement, init_data: bytes
    ) -> SimulatedQuoting:
        """Quotes for a process that is started from this measurement."""
        digest = measurement.sha256 if kind is EvidenceKind.SGX else measurement.sha384
        return cls(state, kind, digest, init_data)

    def quote(self, report_data: bytes) -> Evidence:
        """Simulated evidence, with collateral and init-data.

        Raises:
            SimulatorError: The simulator cannot quote.
        """
        bound = initdata.host_data if self.kind is EvidenceKind.SNP else initdata.digest
        digest = bound(self.init_data)
        evidence = self.state.quote(self.kind, self.measurement, digest, report_data)
        return replace(evidence, init_data=self.init_data)


class Enclave:
    """A started process, and the thread that quotes for it. Made by `Launcher.start`."""

    def __init__(self, process: subprocess.Popen[bytes], serving: threading.Thread) -> None:
        self._process = process
        self._serving = serving

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to finish what it holds and end (SIGTERM)."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Returns:
            Its exit status; 128 and the number of the signal that ended it.

        Raises:
            TimeoutError: It has not ended after `timeout` seconds.
        """
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        self._serving.join()
        return status if status >= 0 else 128 - status


class Launcher:
    """Starts one process from a measurement.

    Args:
        measurement: What to start; nothing of it may have changed since it was measured.
        backend: Quotes for it.
        config: Its configuration, for it to read from a pipe to the end. Not measured: what the process
            must not take from its host stands in the init-data.
    """

    def __init__(self, measurement: Measurement, backend: QuotingBackend, config: bytes) -> None:
        self._measurement = measurement
        self._backend = backend
        self._config = config

    def run(self) -> int:
        """Start the process and wait for its end, passing on requests to stop as SIGTERM.

        Must be called from the main thread.

        Returns:
            Its exit status; 128 and the number of the signal that ended it.

        Raises:
            EngineError: `launch-refused`.
        """
        enclave: Enclave | None = None
        stop_at_once = False

        def forward(_number: int, _frame: object) -> None:
            nonlocal stop_at_once
            if enclave is None:
                stop_at_once = True
            else:
                enclave.terminate()

        with _handlers(forward):
            enclave = self.start()
            if stop_at_once:
                enclave.terminate()
            return enclave.wait()

    def start(self) -> Enclave:
        """Start the process.

        It is killed when the calling thread ends (the kernel's rule for PR_SET_PDEATHSIG), so call this
        from a thread that stays.

        Raises:
            EngineError: `launch-refused`.
        """
        config_read, config_write = os.pipe2(os.O_CLOEXEC)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = self._spawn(config_read, theirs.fileno())
        except OSError as error:
            os.close(config_write)
            ours.close()
            raise EngineError(LAUNCH_REFUSED, error.strerror or type(error).__name__) from None
        finally:
            os.close(config_read)
            theirs.close()
        serving = threading.Thread(target=self._serve, args=(config_write, ours), name="quoting", daemon=True)
        serving.start()
        return Enclave(process, serving)

    def _spawn(self, config: int, quotes: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._measurement.command((str(config), str(quotes))),
            env=self._measurement.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=(config, quotes),
            umask=0o077,
            process_group=0,
            preexec_fn=die_with(os.getpid(), signal.SIGKILL),  # noqa: PLW1509 -- one system call, prepared before the fork
        )

    def _serve(self, config: int, sock: socket.socket) -> None:
        """Hand over the configuration, then answer requests for quotes until the process closes its end."""
        with sock:
            with contextlib.suppress(BrokenPipeError), os.fdopen(config, "wb") as pipe:
                pipe.write(self._config)
            with contextlib.suppress(ConnectionError):
                while request := sock.recv(REPORT_DATA_SIZE + 1):
                    for packet in answer(request, self._backend):
                        sock.sendall(packet)


def answer(request: bytes, backend: QuotingBackend) -> Iterator[bytes]:
    """The packets that answer one request for a quote (wire format: `strongroom.worker.quoter`)."""
    if len(request) != REPORT_DATA_SIZE:
        yield REFUSED + b"report-data-size"
        return
    try:
        document = backend.quote(request).to_json_bytes()
    except StrongroomError as error:
        _log.warning("cannot quote: %s", error)
        yield REFUSED + error.code.encode()
        return
    parts = [document[start : start + _PART] for start in range(0, len(document), _PART)]
    for part in parts[:-1]:
        yield MORE + part
    yield LAST + parts[-1]


@contextlib.contextmanager
def _handlers(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
