"""`lfc` killed just before its n-th change of the disk: forked from a process that has all it needs imported.

Run as a module it is that process: it takes one JSON line a call, and answers with one.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
# Each changes a name, or is the moment before which a file's content may not be on the disk.
CHANGES = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "link", "symlink", "fsync", "truncate")
NEVER = -1
KILLED = -signal.SIGKILL


class Ended(NamedTuple):
    """How one call ended: its exit code, `KILLED` when it was killed, all that it printed, its changes of the disk."""

    code: int
    said: str
    changes: int


Call = Callable[[list[str], int], Ended]


@contextmanager
def open_killer(scratch: Path) -> Iterator[Call]:
    """Start the process; yields what runs `lfc` with arguments, killed at its n-th change (`NEVER`: not at all)."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.killing", str(scratch / "said")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def call(argv: list[str], moment: int) -> Ended:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"argv": argv, "moment": moment}) + "\n")
        server.stdin.flush()
        return Ended(*json.loads(server.stdout.readline()))

    with server:
        yield call
        server.stdin.close()


def _serve(said: Path) -> None:
    # Imported once, so that each call does little else than its work; none of them starts a thread.
    import orjson  # noqa: F401
    import pyarrow.compute  # noqa: F401
    import rich.progress  # noqa: F401

    import launch.cli
    import prep.combine.mix
    import prep.combine.split
    import prep.convert.convert
    import prep.hub.download
    import prep.quality.repair
    import prep.quality.stats
    import prep.registry.dataset_info  # noqa: F401

    count = said.with_name("count")
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(said)
            _die_at(task["moment"], os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            sys.argv = ["lfc", *task["argv"]]
            launch.cli.main()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        words = said.read_text(encoding="utf-8", errors="replace")
        answer = Ended(os.waitstatus_to_exitcode(status), words, count.stat().st_size)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _become(said: Path) -> None:
    """Let a forked child print into a file; what its parent reads stays the parent's."""
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for handle, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, handle)


def _die_at(moment: int, count: int) -> None:
    """Let this process end at its n-th change; each one before is a byte more in the file `count`."""
    import prep.hub.snapshot

    left = moment

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == NEVER and moment != NEVER:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(count, b".")
            return real(*args, **named)

        return call

    # The disk is as slow as it is; what counts is the moment, not the wait.
    os.fsync = lambda fd: None
    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))
    # It asks the system itself, past `os`.
    setattr(prep.hub.snapshot, "_swap_paths", dying(prep.hub.snapshot._swap_paths))  # noqa: B010


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
