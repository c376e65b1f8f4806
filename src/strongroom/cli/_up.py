"""The body of `strongroom up`."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from strongroom.cli._output import emit, say, working
from strongroom.engines.import_roots import measure_default
from strongroom.engines.local import LocalOptions, LocalService, exclusive, prepare
from strongroom.engines.supervisor import PartEvent, Supervisor


def run_up(options: LocalOptions, policy_out: Path | None, *, json_output: bool) -> None:
    """Prepare the service, run it until SIGINT or SIGTERM, stop it."""
    started = time.monotonic()
    with exclusive(options.home):
        with working("Measuring the worker's code ..."):
            measurement = measure_default()
        prepared = prepare(options, measurement)
        if policy_out is not None:
            policy_out.write_text(prepared.policy, encoding="utf-8")
        asyncio.run(_supervise(options, prepared, policy_out, started, json_output=json_output))


async def _supervise(
    options: LocalOptions,
    prepared: LocalService,
    policy_out: Path | None,
    started: float,
    *,
    json_output: bool,
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    supervisor = Supervisor(prepared.parts, prepared.logs, report=_Reporter(json_output=json_output))
    starting = asyncio.ensure_future(supervisor.start())
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _announce(options, prepared, policy_out, time.monotonic() - started, json_output=json_output)
            await stopped
    finally:
        starting.cancel()
        stopped.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)
        await supervisor.stop()
    if not json_output:
        say("Stopped.")


class _Reporter:
    """Tells people what happens to the parts; machines get one JSON line each."""

    def __init__(self, *, json_output: bool) -> None:
        self._json = json_output

    def __call__(self, event: PartEvent) -> None:
        if self._json:
            emit({"event": event.what, "part": event.part, "detail": event.detail})
        elif event.what in {"ready", "died"}:
            say(f"{event.part:<10} {event.what} {event.detail}".rstrip())


def _announce(
    options: LocalOptions,
    prepared: LocalService,
    policy_out: Path | None,
    seconds: float,
    *,
    json_output: bool,
) -> None:
    if json_output:
        emit(
            {
                "event": "serving",
                "url": options.url,
                "models": list(prepared.models),
                "policy": None if policy_out is None else str(policy_out),
                "evidence": "SIMULATED",
                "seconds": round(seconds, 3),
            }
        )
        return
    say(f"Serving {', '.join(prepared.models)} at {options.url} after {seconds:.1f} s. Ctrl-C stops all.")
    say("Evidence is SIMULATED: this shows how the service works and is NOT protection.")
    if policy_out is not None:
        say(f"Policy for clients: {policy_out}")
