"""What the system says of processes that a test started."""

import os


def is_running(pid: int) -> bool:
    """Whether a process is there, ended and not waited for included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
