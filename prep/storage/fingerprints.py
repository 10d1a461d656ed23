"""Whether a file is still what it was: sha256 for certain, size, time and inode for every day."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from prep.errors import InputError
from prep.storage.os_errors import explain_read_error

_CHUNK_BYTES = 1 << 18


class Fingerprint(NamedTuple):
    """What a file's change cannot leave as it was; times in nanoseconds."""

    device: int
    inode: int
    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Fingerprint":
        """Look at a file; raises InputError when it is not there."""
        with explain_read_error(path):
            seen = path.stat()
        return cls(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)

    def check(self, path: Path) -> None:
        """Raise InputError when a file is no longer the one that was looked at."""
        now = Fingerprint.of(path)
        if now != self:
            what = (
                f"it had {self.bytes:,} bytes and has {now.bytes:,}" if now.bytes != self.bytes else "it is newer"
            )
            raise InputError(
                f"{path} changed while it was read: {what}", hint="run again when nothing writes to it any more"
            )


def hash_file(path: Path, is_unwanted: Callable[[], bool] = lambda: False) -> str:
    """Return the sha256 of a file's bytes as lower-case hex; of what was read when it is no longer wanted.

    Raises: InputError when it cannot be read.
    """
    digest = hashlib.sha256()
    # One buffer for all: new memory for each block costs a third of the hashing.
    block = memoryview(bytearray(_CHUNK_BYTES))
    with explain_read_error(path), path.open("rb", buffering=0) as stream:
        while (size := stream.readinto(block)) and not is_unwanted():
            digest.update(block[:size])
    return digest.hexdigest()


def hash_unchanged_file(path: Path) -> str:
    """Return a file's sha256, worked out once for as long as the file stays as it is."""
    return _hash_once(path, Fingerprint.of(path))


@lru_cache(maxsize=64)
def _hash_once(path: Path, _seen: Fingerprint) -> str:
    return hash_file(path)
