"""A Ray cluster that does tasks; what they read and write lies on storage that all of its machines share."""

import logging
import os
import pickle
import shutil
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from prep.errors import InputError, StackError, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

NAMESPACE = "lfc"
DEFAULT_ADDRESS = "auto"
_KNOCK_S = 10.0
_TASKS_AHEAD = 2
# A pool's name, what makes the function, with which arguments, and the working folder.
_Opening = tuple[str, Callable[..., Callable[[Any], Any]], tuple[Any, ...], str]
# What a worker made for a pool, by the pool's name: each of its tasks takes it.
_MADE: dict[str, Callable[[Any], Any]] = {}
# Which cluster this process is connected to.
_CONNECTED: dict[str, str] = {}


def connect(address: str) -> Any:
    """Return the module `ray`, connected to a cluster; raises StackError without it, or when it does not answer."""
    try:
        import ray
    except ImportError:
        raise StackError(
            "a Ray cluster needs ray, which is not installed here", hint="pip install 'llamafactory-companion[ray]'"
        ) from None
    if ray.is_initialized() and _CONNECTED.get("address", address) != address:
        # Ray knows one cluster at a time, and would ask that one about the other's jobs.
        ray.shutdown()
    if not ray.is_initialized():
        try:
            _knock(address)
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            message = f"no Ray cluster answers at {address!r:.200}: {str(error).splitlines()[0]:.200}"
            raise StackError(message, hint="--address HOST:PORT, as `ray start --head` tells it") from error
        _CONNECTED["address"] = address
        _silence_listener()
    return ray


def _knock(address: str) -> None:
    """Raise OSError at once where nobody listens: Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _silence_listener() -> None:
    """Keep what Ray tells of its workers off stdout, which holds results alone."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


class ClusterPool(Generic[Task, Result]):
    """Workers of a cluster that make, by `make(*arguments)`, the function that does a task; leave it by `with`.

    Results pass through files in `room`, a folder of its own that is made and removed here; so no row's text goes
    through Ray. A task whose worker or machine is gone is done by another one.
    """

    def __init__(
        self, address: str, room: Path, make: Callable[..., Callable[[Task], Result]], *arguments: object
    ) -> None:
        self._ray = connect(address or DEFAULT_ADDRESS)
        self._room = room.absolute()
        self._room.mkdir(parents=True, mode=0o700)
        self._name = token_hex(8)
        self._opening = self._ray.put((self._name, make, arguments, str(Path.cwd())))
        self._task = self._ray.remote(max_retries=-1, num_cpus=1)(do_task)
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self._ahead = max(cpus, 1) * _TASKS_AHEAD

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()
        shutil.rmtree(self._room, ignore_errors=True)

    def map(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the results in the tasks' order; raises the UserError that a worker met."""
        running: deque[tuple[Any, Path]] = deque()
        for number, task in enumerate(tasks):
            place = self._room / f"{number}.result"
            running.append((self._task.remote(self._opening, task, str(place)), place))
            if len(running) == self._ahead:
                yield self._take(*running.popleft())
        while running:
            yield self._take(*running.popleft())

    def _take(self, done: Any, place: Path) -> Any:
        from ray.exceptions import RayError

        try:
            self._ray.get(done)
            # Written by our own code, into a folder of our own.
            result = pickle.loads(place.read_bytes())  # noqa: S301
        except RayError as error:
            raise StackError(f"a task failed on the cluster: {str(error).strip().splitlines()[-1]:.300}") from error
        except OSError as error:
            raise InputError(
                f"{place} is not here, though a worker wrote it: {error.strerror}",
                hint="put inputs and output on storage that all machines of the cluster share",
            ) from error
        place.unlink()
        if isinstance(result, UserError):
            raise result
        return result


def do_task(opening: _Opening, task: Any, place: str) -> None:
    """Do one task in a worker of the cluster, and write its result, whole or not at all."""
    name, make, arguments, folder = opening
    os.chdir(folder)
    try:
        if name not in _MADE:
            _MADE.clear()
            _MADE[name] = make(*arguments)
        result = _MADE[name](task)
    except UserError as error:
        result = error
    partial = Path(f"{place}.{token_hex(4)}")
    partial.write_bytes(pickle.dumps(result))
    partial.replace(place)
