from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from strongroom.worker.stopping import Stopper


def test_it_is_set_once_and_tells_each_listener_once() -> None:
    stopper, told = Stopper(), []
    stopper.listen(lambda: told.append("first"))
    assert not stopper.stopped
    stopper.set()
    stopper.set()
    assert stopper.stopped
    assert told == ["first"]


def test_a_late_listener_is_told_at_once() -> None:
    stopper, told = Stopper(), []
    stopper.set()
    stopper.listen(lambda: told.append("late"))
    assert told == ["late"]


def test_waiting_ends_early_when_it_is_set() -> None:
    stopper = Stopper()
    assert stopper.wait(0.001) is False
    threading.Thread(target=stopper.set).start()
    assert stopper.wait(60) is True


def test_waiting_for_a_future_ends_with_the_future() -> None:
    stopper = Stopper()
    future: Future[Any] = Future()
    threading.Thread(target=lambda: future.set_result(7)).start()
    stopper.wait_for(future)
    assert future.result() == 7
    assert not stopper.stopped


def test_waiting_for_a_future_ends_with_the_wish_to_stop() -> None:
    stopper = Stopper()
    future: Future[Any] = Future()
    threading.Thread(target=stopper.set).start()
    stopper.wait_for(future)
    assert not future.done()
