"""Several processes over one JSONL: each reads its byte ranges itself and sends finished bytes back.

Threads would meet the interpreter's lock. The pieces come back in the file's order, and are those that one
process makes.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from prep.errors import InputError
from prep.readers import BLOCK_BYTES, count_lines
from prep.shards import ConvertPlan, ShardResult
from prep.splice import LineConverter

_TASKS_AHEAD = 2
# Of one worker's shards, each of a block: what one task makes, and a little more.
_RESULTS_AHEAD = 12
# Linux alone lets a pipe be larger than its default; elsewhere the number is ignored.
_PIPE_BYTES = 1 << 20
_MAX_WORKERS = 4
_START = "import sys; sys.path.insert(0, sys.argv[1]); from prep.workers import serve; serve()"


class Task(NamedTuple):
    """A range of whole lines of a file."""

    path: str
    name: str
    label: str
    start: int
    bytes: int
    first_row: int


def count_workers() -> int:
    """Return how many processes are worth starting here: the processors that this one may use, 4 at most."""
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(processors, _MAX_WORKERS)


class WorkerPool:
    """Processes that convert ranges of lines; leave it by `with`, so that none stays behind."""

    def __init__(self, plan: ConvertPlan, workers: int) -> None:
        self._workers = [_Worker(plan) for _ in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()

    def convert(self, tasks: Iterable[Task]) -> Iterator[ShardResult]:
        """Yield the tasks' shards in the tasks' order; raises InputError when a process ends early."""
        waiting = iter(enumerate(tasks))
        sent = 0
        for place, task in waiting:
            self._workers[place % len(self._workers)].send(task)
            sent = place + 1
            if sent == _TASKS_AHEAD * len(self._workers):
                break
        received = 0
        while received < sent:
            yield from self._workers[received % len(self._workers)].receive()
            received += 1
            for place, task in waiting:
                self._workers[place % len(self._workers)].send(task)
                sent = place + 1
                break


class _Worker:
    def __init__(self, plan: ConvertPlan) -> None:
        # Found by its path, because a checkout need not be installed.
        command = [sys.executable, "-c", _START, str(Path(__file__).parent.parent)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE_BYTES
        )
        self._results: queue.Queue[tuple[ShardResult, bool] | None] = queue.Queue(_RESULTS_AHEAD)
        self._send_line(plan.to_json())
        threading.Thread(target=self._read_results, daemon=True).start()

    def send(self, task: Task) -> None:
        self._send_line(task._asdict())

    def receive(self) -> Iterator[ShardResult]:
        """Yield the shards of the next task."""
        last = False
        while not last:
            item = self._results.get()
            if item is None:
                code = self._process.wait()
                raise InputError(
                    f"a conversion process ended early, with exit code {code}", hint="run again with --workers 1"
                )
            result, last = item
            yield result

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close_quietly(stream)

    def _send_line(self, content: dict[str, Any]) -> None:
        stream = self._process.stdin
        if stream is not None:
            try:
                stream.write(json.dumps(content).encode() + b"\n")
                stream.flush()
            except OSError:
                # It has ended; `receive` says so.
                return

    def _read_results(self) -> None:
        stream = self._process.stdout
        while stream is not None and (result := _read_result(stream)) is not None:
            self._results.put(result)
        self._results.put(None)


def serve() -> None:
    """Convert what comes on stdin until it ends: a worker's whole life."""
    # Ctrl-C reaches the whole group of processes; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines, out = sys.stdin.buffer, sys.stdout.buffer
    plan = ConvertPlan.from_json(json.loads(lines.readline()))
    converters: dict[str, LineConverter] = {}
    try:
        for line in lines:
            task = Task(**json.loads(line))
            converter = converters.setdefault(task.label, LineConverter(plan, task.name, task.label))
            for data, first_row, last in _read_range(task):
                _write_result(out, converter.convert(data, first_row), last=last)
    except BrokenPipeError:
        # The process that asked has gone. Python would complain once more when it closes stdout.
        os._exit(1)


def _read_range(task: Task) -> Iterator[tuple[bytes, int, bool]]:
    """Yield a task's lines in blocks: (bytes, the first line's number, whether they are the last)."""
    first_row, left = task.first_row, task.bytes
    with Path(task.path).open("rb") as stream:
        stream.seek(task.start)
        while left:
            data = stream.read(min(left, BLOCK_BYTES))
            if not data:
                raise InputError(f"{task.name} became shorter while it was read")
            if len(data) < left and not data.endswith(b"\n"):
                data += stream.readline()
            left -= len(data)
            yield data, first_row, not left
            first_row += count_lines(data)


def _write_result(stream: IO[bytes], result: ShardResult, *, last: bool) -> None:
    payload = (result.records, result.tool_records, result.rejects, result.too_long)
    header = {
        "sizes": [len(part) for part in payload],
        "counts": dict(result.counts),
        "columns": sorted(result.columns),
        "first_reject": result.first_reject,
        "last": last,
    }
    stream.write(json.dumps(header).encode() + b"\n")
    for part in payload:
        stream.write(part)
    stream.flush()


def _read_result(stream: IO[bytes]) -> tuple[ShardResult, bool] | None:
    """Read one result, or return None at the end, be it the pipe's or a killed process's."""
    try:
        header = json.loads(stream.readline() or "null")
        if header is None:
            return None
        parts = [stream.read(size) for size in header["sizes"]]
    except (OSError, ValueError):
        return None
    if [len(part) for part in parts] != header["sizes"]:
        return None
    records, tool_records, rejects, too_long = parts
    counts, columns = Counter(header["counts"]), set(header["columns"])
    result = ShardResult(records, tool_records, rejects, too_long, counts, columns, header["first_reject"])
    return result, header["last"]


def _close_quietly(stream: Any) -> None:
    try:
        stream.close()
    except OSError:
        return
