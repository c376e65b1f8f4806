from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strongroom.worker.pace import Pace

SECONDS = st.floats(min_value=0, max_value=1000)


def _settled(pace: Pace, *, prepare: float, share: float) -> Pace:
    for _ in range(200):
        pace.observe(prepare=prepare, share=share)
    return pace


def test_before_anything_is_known_three_for_each_slot() -> None:
    assert Pace(slots=2, limit=64).capacity == 6


def test_a_slow_model_leaves_the_queue_to_others() -> None:
    assert _settled(Pace(slots=2, limit=64), prepare=0.001, share=0.05).capacity == 6


def test_a_tiny_model_holds_as_many_as_the_limit() -> None:
    assert _settled(Pace(slots=2, limit=64), prepare=0.0005, share=0.0001).capacity == 64


def test_slow_decoding_asks_for_more_in_flight() -> None:
    quick = _settled(Pace(slots=2, limit=64), prepare=0.0, share=0.01).capacity
    slow = _settled(Pace(slots=2, limit=64), prepare=0.03, share=0.01).capacity
    assert slow >= quick + 3


def test_fetches_come_in_bulk() -> None:
    pace = _settled(Pace(slots=2, limit=64), prepare=0.0005, share=0.0001)
    assert pace.free(64) == 0
    assert pace.free(44) == 0
    assert pace.free(43) == 21
    assert pace.free(0) == 64


def test_the_limit_holds_even_below_the_slots() -> None:
    pace = Pace(slots=8, limit=3)
    assert pace.capacity == 3
    assert pace.free(2) == 1


@given(st.integers(1, 64), st.integers(1, 4096), st.lists(st.tuples(SECONDS, SECONDS)), st.integers(0, 5000))
def test_capacity_stays_within_its_bounds(
    slots: int, limit: int, times: list[tuple[float, float]], held: int
) -> None:
    pace = Pace(slots=slots, limit=limit)
    for prepare, share in times:
        pace.observe(prepare=prepare, share=share)
    assert min(3 * slots, limit) <= pace.capacity <= limit
    assert 0 <= pace.free(held) <= limit
    assert pace.free(pace.capacity) == 0
    assert pace.free(0) == pace.capacity
