"""Several processes that answer questions, where threads would meet the interpreter's lock.

Each is asked over its own pipes, and ends when they close: with the process that asks, however that ends.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from prep.errors import InputError, UserError

Question = TypeVar("Question")
Answer = TypeVar("Answer")

_QUESTIONS_AHEAD = 2
# Linux alone lets a pipe be larger than its default; elsewhere the number is ignored.
_PIPE_BYTES = 1 << 20
_MAX_WORKERS = 4
_PROGRAM = Path(__file__).with_name("worker_process.py")


def count_workers() -> int:
    """Return how many processes are worth starting here: the processors that this one may use, 4 at most."""
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(processors, _MAX_WORKERS)


class WorkerPool(Generic[Question, Answer]):
    """Processes that each make, by `make(*arguments)`, the function that answers; leave it by `with`.

    `make` is found by its name, so it stands in a module; arguments, questions and answers are pickled.
    """

    def __init__(self, workers: int, make: Callable[..., Callable[[Question], Answer]], *arguments: object) -> None:
        self._stack = ExitStack()
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            worker = _Worker((make, arguments))
            self._stack.callback(worker.stop)
            self._idle.put(worker)
        self._ahead = workers * _QUESTIONS_AHEAD
        self._threads = ThreadPoolExecutor(max_workers=workers)
        # Before the processes end: a thread that waits for one would wait for ever.
        self._stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def map(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Yield the answers in the questions' order.

        Raises: the UserError that a process raised, and InputError when one ended early.
        """
        asked: deque[Future[Answer]] = deque()
        for question in questions:
            asked.append(self._threads.submit(self._ask, question))
            if len(asked) == self._ahead:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()

    def _ask(self, question: Question) -> Any:
        worker = self._idle.get()
        try:
            return worker.ask(question)
        finally:
            self._idle.put(worker)


class _Worker:
    def __init__(self, opening: object) -> None:
        # Found by its path, because a checkout need not be installed; -P keeps the working folder's modules out.
        command = [sys.executable, "-P", str(_PROGRAM)]
        # The processors are shared out by process already.
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE_BYTES, env=env
        )
        self._opening = opening
        self._is_open = False

    def ask(self, question: object) -> Any:
        """Return the answer; raises what the process says."""
        if not self._is_open:
            self._exchange(self._opening)
            self._is_open = True
        return self._exchange(question)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            # Closing flushes what the process did not take.
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def _exchange(self, content: object) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ValueError("the process has no pipes")
        try:
            pickle.dump(content, stdin)
            stdin.flush()
            # Written by our own code in our own process.
            answer = pickle.load(stdout)  # noqa: S301
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            raise InputError(
                f"a worker process ended early, with exit code {code}",
                hint="look at the memory: the system ends processes when there is none left",
            ) from error
        if isinstance(answer, UserError):
            raise answer
        return answer


def serve() -> None:
    """Answer what comes on stdin until it ends: a worker's whole life."""
    # Ctrl-C reaches the whole group of processes; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin = sys.stdin.buffer
    # What a library prints must not stand between two answers.
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(content: object) -> None:
        pickle.dump(content, stdout)
        stdout.flush()

    try:
        make, arguments = pickle.load(stdin)  # noqa: S301 - from the process that started this one
        answer = make(*arguments)
        send(None)
        while True:
            try:
                question = pickle.load(stdin)  # noqa: S301
            except EOFError:
                return
            send(answer(question))
    except UserError as error:
        send(error)
    except BrokenPipeError:
        # The process that asked has gone. Python would complain once more when it closes stdout.
        os._exit(1)
