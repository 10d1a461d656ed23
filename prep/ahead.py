"""Threads that work ahead or behind: reading, unpacking, hashing and writing need no interpreter lock."""

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

Item = TypeVar("Item")

_BLOCKS_BEHIND = 8


def work_ahead(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """Yield what a thread makes of `items`, at most `depth` ahead; its errors are raised here.

    Closing this early ends the thread after the item that it is making.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def make() -> None:
        try:
            with closing(items):
                for item in items:
                    ready.put((item, None))
                    if stop.is_set():
                        return
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the items are used
            ready.put((None, error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (made := ready.get()) is not None:
            item, error = made
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        while thread.is_alive():
            _drain(ready)
            thread.join(timeout=0.01)


class WorkBehind:
    """Hands blocks to a function in a thread, in their order; what it raises comes up at a later call."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._blocks: queue.Queue[bytes | None] = queue.Queue(_BLOCKS_BEHIND)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, block: bytes) -> None:
        """Give the next block; waits while many are under way."""
        self._raise_error()
        self._blocks.put(block)

    def wait(self) -> None:
        """Wait until every block was taken."""
        self._blocks.join()
        self._raise_error()

    def stop(self) -> None:
        """End the thread; blocks that it has not taken yet are lost unless `wait` came before."""
        _drain(self._blocks)
        self._blocks.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (block := self._blocks.get()) is not None:
            if self._error is None:
                try:
                    self._take(block)
                except BaseException as error:  # noqa: BLE001 - raised again where the blocks come from
                    self._error = error
            self._blocks.task_done()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _drain(waiting: "queue.Queue[Any]") -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
