"""The worker's entry: `main()`, called by the launcher's bootstrap and by nothing else.

The order matters: the process is hardened before it reads or asks for anything, and its errors can show no
value before it meets one. SIGTERM and SIGINT make it take no more requests, answer what it holds, and leave
with 0; so does the end of its launcher, without which it can show no evidence.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, NoReturn

from strongroom.errors import EXIT_FAILED, StrongroomError
from strongroom.worker.hardening import harden
from strongroom.worker.logging import Journal, silence_leaks
from strongroom.worker.stopping import Stopper

if TYPE_CHECKING:
    from strongroom.worker.config import WorkerSettings
    from strongroom.worker.quoter import Quoter
    from strongroom.worker.startup import Enrolled


def main() -> NoReturn:
    """Run a worker until it is told to stop; the launcher leaves its descriptors in `sys.argv`.

    The process exits with 0 after SIGTERM, else with the exit code of the error that its last log line names.
    """
    journal = Journal()
    code = EXIT_FAILED
    try:
        harden()
        silence_leaks(journal)
        code = _run(journal)
    except StrongroomError as error:
        journal.failure("stopped", error)
        code = error.exit_code
    except BaseException as error:
        journal.failure("stopped", error)
    finally:
        # Threads that wait for a broker or a model have nothing left to say, and must not hold up the exit.
        os._exit(code)


def _run(journal: Journal) -> int:
    began = time.monotonic()
    gc.disable()  # until all modules are loaded
    from strongroom.worker.config import read_settings
    from strongroom.worker.quoter import inherited

    descriptor, quoter = inherited(sys.argv)
    settings = read_settings(descriptor)
    stopper = Stopper()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopper.set())
    _watch_launcher(int(sys.argv[2]), stopper)
    enrolled = _enrol_in_background(settings, quoter, stopper, journal)
    # Importing the runtime takes about as long as talking with the broker: both at a time.
    from strongroom.worker.serve import serve

    stopper.wait_for(enrolled)
    if not enrolled.done():
        return 0
    return serve(settings, quoter, enrolled.result(), stopper=stopper, journal=journal, began=began)


def _enrol_in_background(
    settings: WorkerSettings, quoter: Quoter, stopper: Stopper, journal: Journal
) -> Future[Enrolled]:
    from strongroom.worker.startup import enrol, patiently

    result: Future[Enrolled] = Future()

    def work() -> None:
        try:
            result.set_result(patiently(lambda: enrol(settings, quoter), journal, stopper.wait))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name="enrol", daemon=True).start()
    return result


def _watch_launcher(descriptor: int, stopper: Stopper) -> None:
    """Stop when the other end of the quoting socket is closed; sleeps until then."""
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is always reported

    def watch() -> None:
        poll.poll()
        stopper.set()

    threading.Thread(target=watch, name="launcher", daemon=True).start()
