"""`lfc` in a process forked from one that has all it needs imported: quick, measured, and killed where it is wanted.

Run as a module it is that process: it takes one JSON line a call, and answers with one.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

ROOT = Path(__file__).parents[2]
# Each changes a name, or is the moment before which a file's content may not be on the disk.
CHANGES = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "link", "symlink", "fsync", "truncate")
NEVER = -1
KILLED = -signal.SIGKILL
# Whatever a command is asked, by then it has ended, or is ended.
_PATIENCE_S = 60


class Ended(NamedTuple):
    """How one call ended: its exit code, `KILLED` when it was killed, and what it said on stderr.

    `changes` are those of the disk; `peak_mib` is the most memory that it had, 0 when it was killed.
    """

    code: int
    said: str
    changes: int
    peak_mib: int


class Call(Protocol):
    """Runs `lfc` with arguments in a folder, killed at its n-th change (`NEVER`: not at all)."""

    def __call__(self, argv: Sequence[str], moment: int = NEVER, folder: Path = ROOT) -> Ended: ...


@contextmanager
def fork_lfc(scratch: Path) -> Iterator[Call]:
    """Start the process, which keeps its notes in a folder; yields what calls it."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.forked_lfc", str(scratch / "said")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def call(argv: Sequence[str], moment: int = NEVER, folder: Path = ROOT) -> Ended:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"argv": argv, "moment": moment, "folder": str(folder)}) + "\n")
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

    count, peak = said.with_name("count"), said.with_name("peak")
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(said, peak)
            _die_at(task["moment"], os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            os.chdir(task["folder"])
            signal.alarm(_PATIENCE_S)
            sys.argv = ["lfc", *task["argv"]]
            launch.cli.main()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        words = said.read_text(encoding="utf-8", errors="replace")
        answer = Ended(os.waitstatus_to_exitcode(status), words, count.stat().st_size, int(peak.read_text() or 0))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _become(said: Path, peak: Path) -> None:
    """Let a forked child print into a file, and note the most memory that it had when it ends."""
    peak.write_text("", encoding="utf-8")
    error = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDWR)
    for handle, source in ((0, null), (1, null), (2, error)):
        os.dup2(source, handle)
    real = os._exit

    def leave(status: int) -> NoReturn:
        told = Path("/proc/self/status")
        if told.exists():
            peak.write_text(str(int(told.read_text().split("VmHWM:")[1].split()[0]) >> 10), encoding="utf-8")
        real(status)

    os._exit = leave


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
