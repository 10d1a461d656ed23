"""Several processes that measure rows: one alone is kept busy by cutting texts, which needs the interpreter.

Each is asked over its own pipes, and ends when they close: with the process that asks, however that ends.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from prep.dataset import Conversation
from prep.errors import InputError, UserError
from prep.tokens import RowEncoder, TemplateOptions, TurnLengths

_BATCH_ROWS = 512
_BATCHES_AHEAD = 2
_START = "import sys; sys.path.insert(0, sys.argv[1]); from prep.length_workers import serve; serve()"


def measure_in_processes(
    tokenizer_path: Path, options: TemplateOptions, conversations: Iterable[Conversation], workers: int
) -> Iterator[list[TurnLengths]]:
    """Yield what `RowEncoder.measure_rows` does, in the same order.

    Raises: InputError as it does, and when a process ends early.
    """
    rows = iter(conversations)
    with ExitStack() as stack:
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            worker = _Worker(tokenizer_path, options)
            stack.callback(worker.stop)
            idle.put(worker)
        threads = ThreadPoolExecutor(max_workers=workers)
        # Before the processes end: a thread that waits for one would wait for ever.
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)

        def measure(batch: Sequence[Conversation]) -> list[list[TurnLengths]]:
            worker = idle.get()
            try:
                return worker.measure(batch)
            finally:
                idle.put(worker)

        asked: deque[Future[list[list[TurnLengths]]]] = deque()
        while (batch := list(islice(rows, _BATCH_ROWS))) or asked:
            if batch:
                asked.append(threads.submit(measure, batch))
            if len(asked) >= workers * _BATCHES_AHEAD or not batch:
                yield from asked.popleft().result()


class _Worker:
    def __init__(self, tokenizer_path: Path, options: TemplateOptions) -> None:
        # Found by its path, because a checkout need not be installed.
        command = [sys.executable, "-c", _START, str(Path(__file__).parent.parent)]
        # The processors are shared out by process already.
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self._opening: tuple[Path, TemplateOptions] | None = (tokenizer_path, options)

    def measure(self, batch: Sequence[Conversation]) -> list[list[TurnLengths]]:
        """Return the rows' turn lengths; raises what the process says."""
        if self._opening is not None:
            self._ask(self._opening)
            self._opening = None
        lengths: list[list[TurnLengths]] = self._ask(batch)
        return lengths

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            # Closing flushes what the process did not take.
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def _ask(self, question: object) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ValueError("the process has no pipes")
        try:
            pickle.dump(question, stdin)
            stdin.flush()
            # Written by our own code in our own process.
            answer = pickle.load(stdout)  # noqa: S301
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            raise InputError(f"a measuring process ended early, with exit code {code}") from error
        if isinstance(answer, UserError):
            raise answer
        return answer


def serve() -> None:
    """Measure the batches that come on stdin until it ends: a worker's whole life."""
    # Ctrl-C reaches the whole group of processes; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer

    def answer(content: object) -> None:
        pickle.dump(content, stdout)
        stdout.flush()

    try:
        encoder = RowEncoder(*pickle.load(stdin))  # noqa: S301 - from the process that started this one
        answer(None)
        while True:
            try:
                batch = pickle.load(stdin)  # noqa: S301
            except EOFError:
                return
            answer(list(encoder.measure_rows(batch)))
    except UserError as error:
        answer(error)
    except BrokenPipeError:
        # The process that asked has gone. Python would complain once more when it closes stdout.
        os._exit(1)
