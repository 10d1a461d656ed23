"""Ctrl-C, SIGTERM and a hub that stalls: each ends a download in an error that says how to go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from prep.errors import DownloadError, InterruptedDownloadError

RESUME_HINT = "run the same command again: what has arrived is kept"
# Less than this is no progress.
_LEAST_BYTES_PER_S = 1024


class _TerminatedError(BaseException):
    """SIGTERM came; no `except Exception` on the way may swallow it."""


class _StalledError(BaseException):
    """The time is over; no `except Exception` on the way may swallow it."""


@contextmanager
def stop_resumable() -> Iterator[None]:
    """End Ctrl-C and SIGTERM in an error that says how to go on, after the client has stopped its threads."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise _TerminatedError

    in_main_thread = threading.current_thread() is threading.main_thread()
    earlier: Callable[[int, FrameType | None], Any] | int | None = None
    if in_main_thread:
        earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (KeyboardInterrupt, _TerminatedError) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise InterruptedDownloadError(
            "interrupted; no folder is half-written", exit_code=128 + number, hint=RESUME_HINT
        ) from None
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, earlier if earlier is not None else signal.SIG_DFL)


@contextmanager
def stop_when_stalled(
    timeout_s: float, explain: Callable[[], tuple[str, str]], count_bytes: Callable[[], int] = lambda: 0
) -> Iterator[None]:
    """End the block in a DownloadError when next to nothing was counted for so long.

    It needs signals of POSIX and the main thread; elsewhere the client's own time limits hold.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    counted = count_bytes()

    def look(signal_number: int, frame: FrameType | None) -> None:
        nonlocal counted
        earlier, counted = counted, count_bytes()
        if counted - earlier < _LEAST_BYTES_PER_S * timeout_s:
            raise _StalledError

    earlier = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, timeout_s, timeout_s)
    try:
        yield
    except _StalledError:
        message, hint = explain()
        raise DownloadError(message, hint=hint) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier if earlier is not None else signal.SIG_DFL)
