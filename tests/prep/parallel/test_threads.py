"""Threads that work ahead or behind: order, errors, and that none stays."""

import threading
import time
from collections.abc import Generator

import pytest

from prep.parallel.threads import WorkAhead, WorkBehind


def count_to(last: int, closed: list[bool]) -> Generator[int, None, None]:
    try:
        yield from range(last)
    finally:
        closed.append(True)


def wait_until_alone(before: int) -> None:
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline, "a thread stayed"
        time.sleep(0.01)


def test_items_come_in_their_order() -> None:
    assert list(WorkAhead(count_to(1_000, []), 3)) == list(range(1_000))


def test_an_error_is_raised_where_the_items_are_used() -> None:
    def fail() -> Generator[int, None, None]:
        yield 1
        raise ValueError("broken")

    items = WorkAhead(fail(), 3)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_closing_early_ends_the_thread_and_closes_the_source() -> None:
    before, closed = threading.active_count(), list[bool]()
    items = WorkAhead(count_to(1_000_000_000, closed), 3)
    assert next(items) == 0
    items.close()
    wait_until_alone(before)
    assert closed == [True]


def test_blocks_are_taken_in_their_order() -> None:
    before, taken = threading.active_count(), list[bytes | bytearray]()
    behind = WorkBehind(taken.append)
    for number in range(500):
        behind.put(b"%d" % number)
    behind.wait()
    assert taken == [b"%d" % number for number in range(500)]
    behind.stop()
    wait_until_alone(before)


def test_what_the_function_raises_comes_up_at_a_later_call() -> None:
    def fail(block: bytes | bytearray) -> None:
        raise OSError(28, "no space left")

    behind = WorkBehind(fail)
    behind.put(b"a")
    with pytest.raises(OSError, match="no space left"):
        behind.wait()
    with pytest.raises(OSError, match="no space left"):
        behind.put(b"b")
    behind.stop()
