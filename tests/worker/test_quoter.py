"""The worker's side of quoting: the wire format, and an answer that never serves another request."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.errors import EvidenceError
from strongroom.worker.quoter import LAST, MAX_PACKETS, MORE, PACKET, REFUSED, SocketQuoter, inherited

REPORT_DATA = bytes(range(64))
EVIDENCE = Evidence(EvidenceKind.SGX, b"quote" * 12_000, None, b"init")
DOCUMENT = EVIDENCE.to_json_bytes()

Script = Callable[[bytes], list[bytes]]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def launcher(pair: tuple[socket.socket, socket.socket]) -> Iterator[Callable[[Script], SocketQuoter]]:
    """`launcher(script)`: a quoter whose other end answers each request with the script's packets."""
    ours, theirs = pair
    threads: list[threading.Thread] = []

    def start(script: Script, timeout: float = 30.0) -> SocketQuoter:
        def serve() -> None:
            while request := theirs.recv(1000):
                for packet in script(request):
                    theirs.send(packet)

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return SocketQuoter(ours, timeout=timeout)

    yield start
    ours.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


Launcher = Callable[..., SocketQuoter]


def packets(document: bytes, size: int = PACKET - 1) -> list[bytes]:
    parts = [document[start : start + size] for start in range(0, len(document), size)]
    return [MORE + part for part in parts[:-1]] + [LAST + parts[-1]]


def code(quoter: SocketQuoter, report_data: bytes = REPORT_DATA) -> str:
    with pytest.raises(EvidenceError) as caught:
        quoter.quote(report_data)
    return caught.value.code


def test_an_answer_in_several_packets(launcher: Launcher) -> None:
    requests: list[bytes] = []

    def script(request: bytes) -> list[bytes]:
        requests.append(request)
        return packets(DOCUMENT)

    quoter = launcher(script)
    assert len(packets(DOCUMENT)) > 2
    assert quoter.quote(REPORT_DATA) == EVIDENCE
    assert quoter.quote(bytes(64)) == EVIDENCE
    assert requests == [REPORT_DATA, bytes(64)]


def test_a_refusal_carries_the_code_and_the_next_request_works(launcher: Launcher) -> None:
    answers = [[REFUSED + b"simulator-state-damaged"], packets(DOCUMENT)]
    quoter = launcher(lambda _: answers.pop(0))
    with pytest.raises(EvidenceError, match=r"simulator-state-damaged.*quote-refused"):
        quoter.quote(REPORT_DATA)
    assert quoter.quote(REPORT_DATA) == EVIDENCE


def test_a_long_or_odd_refusal_is_cut(launcher: Launcher) -> None:
    quoter = launcher(lambda _: [REFUSED + b"\xff" * 10_000])
    with pytest.raises(EvidenceError) as caught:
        quoter.quote(REPORT_DATA)
    assert caught.value.code == "quote-refused"
    assert len(caught.value.detail) == 64


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_of_another_size_is_not_even_sent(launcher: Launcher, size: int) -> None:
    requests: list[bytes] = []
    quoter = launcher(lambda request: requests.append(request) or [])
    assert code(quoter, bytes(size)) == "quote-refused"
    assert requests == []


@pytest.mark.parametrize("answer", [b"?x", b"{}", b"\0"])
def test_an_unknown_mark_breaks_the_connection(launcher: Launcher, answer: bytes) -> None:
    assert code(launcher(lambda _: [answer])) == "quoting-lost"


@pytest.mark.parametrize(
    ("document", "expected"), [(b"{}", "evidence-malformed"), (b"", "evidence-malformed")]
)
def test_an_answer_that_is_no_evidence_is_refused(launcher: Launcher, document: bytes, expected: str) -> None:
    assert code(launcher(lambda _: [LAST + document])) == expected


def test_an_answer_that_is_too_large_is_refused(launcher: Launcher) -> None:
    assert code(launcher(lambda _: packets(b" " * (1024 * 1024 + 1)))) == "evidence-too-large"


def test_an_answer_without_end_is_refused(launcher: Launcher) -> None:
    quoter = launcher(lambda _: [MORE] * MAX_PACKETS)
    with pytest.raises(EvidenceError, match="does not end"):
        quoter.quote(REPORT_DATA)


def test_the_largest_evidence_fits() -> None:
    assert MAX_PACKETS * (PACKET - 1) > 1024 * 1024


def test_the_launchers_end_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    quoter = SocketQuoter(ours)
    assert code(quoter) == "quoting-lost"
    quoter.close()
    assert code(quoter) == "quoting-lost"


def test_a_late_answer_never_serves_the_next_request(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    quoter = SocketQuoter(ours, timeout=0.01)
    assert code(quoter) == "quoting-lost"  # nobody answered in time
    theirs.send(LAST + DOCUMENT[:100])
    assert code(quoter) == "quoting-lost"
    assert theirs.recv(1000) == REPORT_DATA
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1000)  # the second request was not even sent


def test_several_threads_get_their_own_answers(launcher: Launcher) -> None:
    quoter = launcher(lambda request: packets(Evidence(EvidenceKind.SGX, request).to_json_bytes()))
    wanted = [os.urandom(64) for _ in range(40)]
    got: dict[bytes, bytes] = {}

    def work(mine: list[bytes]) -> None:
        for report_data in mine:
            got[report_data] = quoter.quote(report_data).quote

    threads = [threading.Thread(target=work, args=(wanted[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {report_data: report_data for report_data in wanted}


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_any_answer_gives_evidence_or_our_error(answer: list[bytes]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for packet in answer:
            theirs.send(packet)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(EvidenceError):
            SocketQuoter(ours).quote(REPORT_DATA)


# What a process inherits.


def test_takes_what_the_launcher_left(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    read, write = os.pipe()
    os.close(write)
    descriptor = ours.detach()
    for inherited_descriptor in (read, descriptor):
        os.set_inheritable(inherited_descriptor, True)
    config, quoter = inherited(["strongroom-worker", str(read), str(descriptor)])
    assert config == read
    assert not os.get_inheritable(read)
    assert not os.get_inheritable(descriptor)
    for packet in packets(DOCUMENT):
        theirs.send(packet)
    assert quoter.quote(REPORT_DATA) == EVIDENCE
    quoter.close()
    os.close(read)


@pytest.mark.parametrize(
    "argv",
    [[], ["w"], ["w", "1"], ["w", "x", "1"], ["w", "0", "y"], ["w", "0", "99999"], ["w", "99999", "0"]],
)
def test_without_a_launcher_there_is_no_quoter(argv: list[str]) -> None:
    with pytest.raises(EvidenceError, match=r"not started by a launcher.*quoting-lost"):
        inherited(argv)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_another_socket_is_not_taken(kind: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs, pytest.raises(EvidenceError, match="quoting-lost"):
        inherited(["w", str(theirs.fileno()), str(ours.fileno())])
    with socket.socket() as network, pytest.raises(EvidenceError, match="quoting-lost"):
        inherited(["w", str(network.fileno()), str(network.fileno())])
