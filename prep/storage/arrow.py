"""Loading pyarrow, which takes longer than most that is done with it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

import prep

_NEEDLESS = ("numpy", "pyarrow._s3fs", "pyarrow._gcsfs", "pyarrow._azurefs", "pyarrow._hdfs")


@contextmanager
def without_needless() -> Iterator[None]:
    """Let pyarrow load in half the time: here it never hands over arrays, and reads from no cloud."""
    if not prep.is_own_process or "numpy" in sys.modules or "pyarrow" in sys.modules:
        yield
        return
    # What is None here cannot be imported, which pyarrow allows for.
    sys.modules.update(dict.fromkeys(_NEEDLESS, cast(ModuleType, None)))
    try:
        yield
    finally:
        for name in _NEEDLESS:
            del sys.modules[name]
