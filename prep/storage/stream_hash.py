"""The sha256 of what passes by in blocks: two streams at a time where the CPU can, which takes half as long.

Whoever brings a block hashes it together with what another stream has waiting, be that another thread's; there is
no thread of its own.
"""

import hashlib
import threading
from collections import deque
from functools import cache
from types import ModuleType
from weakref import WeakSet

# What a stream lets wait for another one, before it is hashed by itself.
_MOST_WAITING = 8 << 20
# What an early stream reads ahead.
_EARLY = 4 << 20
# A call for fewer bytes is not worth it.
_LEAST_WAITING = 1 << 18

# Who hashes holds the first; the second guards what waits, for moments alone.
_hashing, _noting = threading.Lock(), threading.Lock()
_streams: "WeakSet[_PairedHash]" = WeakSet()


class StreamHash:
    """The sha256 of all blocks so far, which must not change after they were given."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, block: bytes | bytearray) -> None:
        """Take the next block."""
        self._digest.update(block)

    def hexdigest(self) -> str:
        """Return the hash of all blocks so far."""
        return self._digest.hexdigest()

    def wait_for_others(self, seconds: float) -> None:
        """Wait, for who is early, until another stream was hashed together with what waits here, or for so long."""

    def close(self) -> None:
        """Forget what waits, when nobody wants the hash any more."""


def open_hash() -> StreamHash:
    """Return a new hash: one that pairs with others where this CPU gains by that."""
    fast = _find_fast()
    return StreamHash() if fast is None else _PairedHash(fast)


@cache
def _find_fast() -> ModuleType | None:
    try:
        from prep.storage import _sha256
    except ImportError:
        return None
    return _sha256 if _sha256.IS_FAST else None


class _PairedHash(StreamHash):
    def __init__(self, fast: ModuleType) -> None:
        self._fast = fast
        self._state = bytearray(fast.START)
        self._blocks: deque[memoryview] = deque()
        self._waiting = 0
        self._was_hashed = threading.Event()

    def update(self, block: bytes | bytearray) -> None:
        """Take the next block; it is hashed now or later."""
        if not block:
            return
        with _noting:
            self._blocks.append(memoryview(block))
            self._waiting += len(block)
            _streams.add(self)
        if self._waiting >= _LEAST_WAITING:
            self._hash_some(self._waiting >= _MOST_WAITING)

    def wait_for_others(self, seconds: float) -> None:
        """Wait while much waits, but not for longer than this."""
        self._was_hashed.clear()
        if self._waiting >= _EARLY:
            self._was_hashed.wait(seconds)

    def hexdigest(self) -> str:
        """Hash all that waits, and return the hash."""
        self._hash_some(must=True)
        while self._waiting:
            with _hashing:
                self._hash_alone()
        digest: bytes = self._fast.digest(self._state)
        return digest.hex()

    def close(self) -> None:
        """Forget what waits."""
        with _hashing, _noting:
            self._blocks.clear()
            self._waiting = 0
            _streams.discard(self)

    def _hash_some(self, must: bool) -> None:
        """Hash what waits in two streams; by itself, what is too much to wait. Another thread may be at it."""
        if not _hashing.acquire(blocking=must):
            return
        try:
            while self._waiting and (other := self._find_other()):
                self._hash_beside(other)
            while self._waiting >= _MOST_WAITING:
                self._hash_alone()
        finally:
            _hashing.release()

    def _find_other(self) -> "_PairedHash | None":
        with _noting:
            others = [stream for stream in _streams if stream is not self and stream._waiting]
        return max(others, key=lambda stream: stream._waiting, default=None)

    def _hash_beside(self, other: "_PairedHash") -> None:
        mine, its = self._blocks[0], other._blocks[0]
        size = min(len(mine), len(its))
        self._fast.update_two(self._state, mine[:size], other._state, its[:size])
        self._drop(size)
        other._drop(size)

    def _hash_alone(self) -> None:
        if self._blocks:
            block = self._blocks[0]
            self._fast.update(self._state, block)
            self._drop(len(block))

    def _drop(self, size: int) -> None:
        """Forget bytes of the first block that were hashed."""
        with _noting:
            block = self._blocks.popleft()
            if size < len(block):
                self._blocks.appendleft(block[size:])
            self._waiting -= size
        self._was_hashed.set()
