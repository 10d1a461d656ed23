"""Threads that work ahead or behind: reading, unpacking, hashing and writing need no interpreter lock."""

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Generic, Self, TypeVar, cast

Item = TypeVar("Item")

_BLOCKS_BEHIND = 8


class WorkAhead(Generic[Item]):
    """Iterates over what a thread makes of `items`, from now on and at most `depth` ahead; its errors come up here.

    Closing this early ends the thread after the item that it is making.
    """

    def __init__(self, items: Generator[Item, None, None], depth: int) -> None:
        self._items = items
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._is_closed = False
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        made = None if self._is_closed else self._ready.get()
        if made is None:
            self.close()
            raise StopIteration
        item, error = made
        if error is not None:
            self.close()
            raise error
        return cast(Item, item)

    def close(self) -> None:
        """End the thread; what it made and nobody took is lost."""
        self._is_closed = True
        while self._thread.is_alive():
            _drain(self._ready)
            self._thread.join(timeout=0.01)

    def _make(self) -> None:
        try:
            with closing(self._items):
                for item in self._items:
                    self._ready.put((item, None))
                    if self._is_closed:
                        return
            self._ready.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the items are used
            self._ready.put((None, error))


class WorkBehind:
    """Hands blocks to a function in a thread, in their order; what it raises comes up at a later call."""

    def __init__(self, take: Callable[[bytes | bytearray], None]) -> None:
        self._take = take
        self._blocks: queue.Queue[bytes | bytearray | None] = queue.Queue(_BLOCKS_BEHIND)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, block: bytes | bytearray) -> None:
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
