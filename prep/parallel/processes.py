"""Several processes that do tasks, where threads would wait for the GIL.

Each gets its tasks over its own pipes, and ends when they close: with the process that sends
them, however that ends.
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

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_AHEAD = 2
# Linux alone lets a pipe be larger than its default; elsewhere the number is ignored.
_PIPE_BYTES = 1 << 20
_MAX_WORKERS = 4
_PROGRAM = Path(__file__).with_name("worker_process.py")


def count_workers() -> int:
    """Return how many processes are worth starting here: the CPUs that this one may use, 4 at most."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cpus, _MAX_WORKERS)


class WorkerPool(Generic[Task, Result]):
    """Processes that each make, by `make(*arguments)`, the function that does a task; leave it by `with`.

    `make` is found by its name, so it stands in a module; arguments, tasks and results are pickled.
    """

    def __init__(self, workers: int, make: Callable[..., Callable[[Task], Result]], *arguments: object) -> None:
        self._stack = ExitStack()
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            worker = _Worker((make, arguments))
            self._stack.callback(worker.stop)
            self._idle.put(worker)
        self._ahead = workers * _TASKS_AHEAD
        self._threads = ThreadPoolExecutor(max_workers=workers)
        # Before the processes end: a thread that waits for one would wait forever.
        self._stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def map(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the results in the tasks' order.

        Raises: the UserError that a process raised, and InputError when one ended early.
        """
        running: deque[Future[Result]] = deque()
        for task in tasks:
            running.append(self._threads.submit(self._run_task, task))
            if len(running) == self._ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def _run_task(self, task: Task) -> Any:
        worker = self._idle.get()
        try:
            return worker.run(task)
        finally:
            self._idle.put(worker)


class _Worker:
    def __init__(self, opening: object) -> None:
        # Found by its path, because a checkout need not be installed; -P keeps the working folder's modules out.
        command = [sys.executable, "-P", str(_PROGRAM)]
        # The CPUs are shared out by process already.
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE_BYTES, env=env
        )
        self._opening = opening
        self._is_open = False

    def run(self, task: object) -> Any:
        """Return a task's result; raises what the process says."""
        if not self._is_open:
            self._exchange(self._opening)
            self._is_open = True
        return self._exchange(task)

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
            result = pickle.load(stdout)  # noqa: S301
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            raise InputError(
                f"a worker process ended early, with exit code {code}",
                hint="look at the memory: the system ends processes when there is none left",
            ) from error
        if isinstance(result, UserError):
            raise result
        return result


def serve() -> None:
    """Do the tasks that come on stdin until it ends: a worker's whole life."""
    # Ctrl-C reaches the whole group of processes; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin = sys.stdin.buffer
    # What a library prints must not stand between two results.
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(content: object) -> None:
        pickle.dump(content, stdout)
        stdout.flush()

    try:
        make, arguments = pickle.load(stdin)  # noqa: S301 - from the process that started this one
        do_task = make(*arguments)
        send(None)
        while True:
            try:
                task = pickle.load(stdin)  # noqa: S301
            except EOFError:
                return
            send(do_task(task))
    except UserError as error:
        send(error)
    except BrokenPipeError:
        # The process that sent the task has gone. Python would complain once more when it closes stdout.
        os._exit(1)
