"""Appraisals of evidence per second, on one core: verification up to the root, and the policy.

    python benchmarks/appraisals.py [SECONDS]

Each kind runs for the given time (3 seconds without one), one appraisal after the other, with simulated
evidence in production formats. The evidence is read and verified anew each time, its collateral included;
the policy is read once, as a broker does.
"""

from __future__ import annotations

import statistics
import sys
import time

from strongroom.attestation.policy import Policy
from strongroom.conformance.case import ACCEPTED, Case, appraise_by
from strongroom.conformance.kit import generate


def measure(case: Case, seconds: float) -> tuple[float, float]:
    """Appraisals per second, and the 99th percentile of their times in milliseconds."""
    policy = Policy.parse(case.members["policy"])
    times = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        appraise_by(policy, case.members)
        times.append(time.perf_counter() - start)
    return len(times) / sum(times), statistics.quantiles(times, n=100)[98] * 1000


def main() -> None:
    """Print one line for each kind."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    good = [
        case for case in generate(int(time.time())) if case.type == "appraisal" and case.expected == ACCEPTED
    ]
    print(f"{'kind':<14}{'per second':>12}{'p99 ms':>10}   SIMULATED evidence, policy included, one core")
    for case in good:
        if case.name.endswith("/accepted"):
            rate, late = measure(case, seconds)
            print(f"{case.name.partition('/')[0]:<14}{rate:>12.0f}{late:>10.2f}")


if __name__ == "__main__":
    main()
