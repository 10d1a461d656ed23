"""A bound on memory for files that say of themselves how much they need: whoever made them may have lied."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prep.errors import InputError
from prep.rows.line_blocks import MAX_LINE_HINT

# A batch under way, those ahead of it, what they become: rows of ordinary length take a tenth of this.
_ROWS_AT_ONCE = 8


@contextmanager
def limit_memory(path: Path, max_row_bytes: int) -> Iterator[None]:
    """Let this process take a few rows of the largest size more than it has now, while the block reads `path`.

    Linux counts what is allocated, and keeps a process to it; elsewhere there is no bound.
    Raises: InputError when that is not enough.
    """
    limit = _ROWS_AT_ONCE * max_row_bytes
    try:
        with _keep_below(limit):
            yield
    except MemoryError as error:
        raise InputError(
            f"{path}: a few of its rows take more than {limit >> 20:,} MiB when unpacked", hint=MAX_LINE_HINT
        ) from error


@contextmanager
def _keep_below(more_bytes: int) -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _count_data_bytes() + more_bytes
    bounds = [bound for bound in (before, most, wanted) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _count_data_bytes() -> int:
    """Return what the kernel counts against the limit: all that was allocated, used or not."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["VmData"].split()[0]) << 10
