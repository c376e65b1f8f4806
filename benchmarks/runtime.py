"""What our runtime costs over OpenVINO's own asynchronous loop, on the same cores, graph and pictures.

    python benchmarks/runtime.py --model lite0 --rounds 20

Both sides take turns in short rounds, so that other work on the machine hurts them alike; the medians of the
rounds' ratios are printed, in throughput and in processor time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "demo")]

import _models  # noqa: E402
from lite0 import build_lite0  # noqa: E402
from strongroom.models._openvino_compile import open_graph  # noqa: E402
from strongroom.models.bundle import Bundle, read_bundle  # noqa: E402
from strongroom.models.importers import import_model  # noqa: E402
from strongroom.models.openvino_runtime import OpenVinoRuntime  # noqa: E402
from strongroom.models.preprocess import parse_preprocess  # noqa: E402
from strongroom.models.quiet_openvino import CORE, ov  # noqa: E402

Picture = NDArray[np.uint8]


def build(name: str) -> Bundle:
    """The model as a bundle, through the real importer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        if name == "lite0":
            build_lite0(path)
        else:
            ov.save_model(_models.resnet50(), path, compress_to_fp16=False)
        preset = parse_preprocess("lite0" if name == "lite0" else "imagenet")
        return read_bundle(import_model(path, name=name, preprocess=preset))


def their_loop(bundle: Bundle, picture: Picture) -> Callable[[int], None]:
    """OpenVINO's AsyncInferQueue, copying each output out."""
    graph = open_graph(bundle)
    graph.reshape({0: ov.PartialShape(list(picture.shape))})
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    requests = ov.AsyncInferQueue(CORE.compile_model(graph, "CPU", settings))
    requests.set_callback(lambda request, _: request.get_output_tensor(0).data.copy())

    def run(count: int) -> None:
        for _ in range(count):
            requests.start_async({0: picture})
        requests.wait_all()

    return run


def our_loop(runtime: OpenVinoRuntime, picture: Picture) -> Callable[[int], None]:
    """Our runtime, with as many requests in flight as it has slots."""

    def run(count: int) -> None:
        free = threading.Semaphore(runtime.slots)
        for _ in range(count):
            free.acquire()
            runtime.submit({"image": picture}, lambda *_: free.release())
        for _ in range(runtime.slots):
            free.acquire()

    return run


def measure(run: Callable[[int], None], count: int) -> tuple[float, float]:
    """Inferences per second, and processor seconds for one."""
    wall, processor = time.perf_counter(), time.process_time()
    run(count)
    return count / (time.perf_counter() - wall), (time.process_time() - processor) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("lite0", "resnet50"), default="lite0")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a round")
    arguments = parser.parse_args()
    bundle = build(arguments.model)
    picture = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    runtime = OpenVinoRuntime(bundle)
    loops = [their_loop(bundle, picture), our_loop(runtime, picture)]
    warm = [measure(run, 8)[0] for run in loops]
    count = max(8, round(arguments.seconds * min(warm)))
    rounds = []
    for number in range(arguments.rounds):
        order = (0, 1) if number % 2 else (1, 0)
        found = {index: measure(loops[index], count) for index in order}
        rounds.append((found[0], found[1]))
    throughput = statistics.median(ours[0] / theirs[0] for theirs, ours in rounds)
    processor = statistics.median(theirs[1] / ours[1] for theirs, ours in rounds)
    print(
        f"{arguments.model}: {arguments.rounds} rounds of {count},"
        f" {runtime.streams} streams, {runtime.slots} slots"
    )
    print(f"  OpenVINO's loop    {statistics.median(theirs[0] for theirs, _ in rounds):8.1f} /s")
    print(f"  our runtime        {statistics.median(ours[0] for _, ours in rounds):8.1f} /s")
    print(f"  ours over theirs   {throughput:8.3f} in throughput, {processor:.3f} in processor time")
    runtime.close()


if __name__ == "__main__":
    main()
