"""Reading a whole file of somebody else: never more of it than there is room for, and never from a pipe."""

import os
import stat
from pathlib import Path

MOST_BYTES = 32 << 20


def read_bounded(path: Path, most_bytes: int = MOST_BYTES, *, errors: str = "strict") -> str:
    """Return the UTF-8 text of a file; `errors` is what `bytes.decode` does with what is none.

    Raises: OSError as reading does, ValueError when it is no file, is larger than that, or is not UTF-8.
    """
    # A pipe would wait for who writes into it.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError("it is not a file")
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes >> 20} MiB")
    return content.decode("utf-8", errors)
