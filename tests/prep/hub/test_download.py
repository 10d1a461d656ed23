"""The door to the hub: every error of the client has its line, and every way to stop a process its state."""

import errno
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prep.errors import OutputError, UnreachableHubError
from prep.hub import snapshot
from prep.hub.catalog import resolve_names
from prep.hub.client import DownloadOptions
from prep.hub.client_errors import CLIENT_ERRORS, describe_client_error, make_download_error
from prep.hub.download import download_repositories
from tests.support.modelscope_server import Hub, PatternBody

ROOT = Path(__file__).parents[3]
TOKEN = "ms-very-secret-0123456789"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def find_client_errors() -> dict[str, type[BaseException]]:
    from modelscope_hub import errors

    found: dict[str, type[BaseException]] = {}
    waiting: list[type[BaseException]] = [errors.HubError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__ == "modelscope_hub.errors":
            found[kind.__name__] = kind
    return found


def test_every_error_of_the_client_is_mapped_and_no_other() -> None:
    assert sorted(CLIENT_ERRORS) == sorted(find_client_errors())


def test_each_mapped_error_says_its_own_line() -> None:
    for name, kind in find_client_errors().items():
        assert describe_client_error(kind("a message of the server")) == CLIENT_ERRORS[name]
        assert all(CLIENT_ERRORS[name])


@pytest.mark.parametrize("name", sorted(CLIENT_ERRORS))
def test_a_hub_that_could_not_be_asked_is_told_from_one_that_refused(name: str) -> None:
    what, hint = CLIENT_ERRORS[name]
    error = make_download_error(what, f"o/set: {what}", hint)
    assert isinstance(error, UnreachableHubError) == (name in ("NetworkError", "RequestTimeoutError"))
    assert (str(error), error.hint) == (f"o/set: {what}", hint)


def test_an_error_below_a_mapped_one_says_that_ones_line() -> None:
    from modelscope_hub._download_control import _DownloadDeadlineError

    assert describe_client_error(_DownloadDeadlineError("x")) == CLIENT_ERRORS["RequestTimeoutError"]


def test_the_first_failed_file_speaks_for_all() -> None:
    from modelscope_hub.errors import FileDownloadError, FileIntegrityError, ServerError

    error = FileDownloadError(
        "x", failed_files={"a": FileIntegrityError("x"), "b": ServerError("x"), "c": OSError()}
    )
    what, hint = CLIENT_ERRORS["FileIntegrityError"]
    assert describe_client_error(error) == (f"'a': {what} (2 more files failed)", hint)
    unknown = FileDownloadError("x", failed_files={"a": RuntimeError("x")})
    assert describe_client_error(unknown)[0] == "'a': the transfer failed: RuntimeError: x"


def test_a_full_disk_behind_a_network_error_is_named_as_such() -> None:
    """As modelscope-hub 0.5.0 reports it: after retries, as a network error."""
    from modelscope_hub.errors import NetworkError

    error = NetworkError("x")
    error.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert describe_client_error(error) == (
        "cannot be written: no space left on device",
        "free some disk space or choose another --to; what has arrived is kept",
    )
    error.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert describe_client_error(error) == CLIENT_ERRORS["NetworkError"]


def test_the_token_is_not_shown_with_the_options() -> None:
    assert TOKEN not in repr(DownloadOptions(token=TOKEN))


class RecordedView:
    """Counts what a view is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.bytes_by_path: dict[str, int] = {}
        self.finished: set[str] = set()

    def start(self, title: str, total_bytes: int | None) -> None:
        self.stages.append((title, total_bytes))
        self.bytes_by_path = {}

    def advance(self, path: str, size: int, byte_count: int) -> None:
        self.bytes_by_path[path] = self.bytes_by_path.get(path, 0) + byte_count

    def finish(self, path: str) -> None:
        self.finished.add(path)


def test_progress_counts_every_byte_of_every_file_once(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a" * 5000, "b": b"b" * 70000})
    hub.fail("file", path="a", flip=True, times=1)
    hub.fail("file", path="b", cut_after=20000, times=1)
    view = RecordedView()
    requests = resolve_names(["o/set"], "dataset")
    download_repositories(requests, tmp_path, DownloadOptions(), view)
    asking = f"asking {hub.endpoint} for the listing"
    assert view.stages == [(asking, None), ("downloading o/set", 75000), ("verifying o/set", 75000)]
    assert view.bytes_by_path == {"a": 5000, "b": 70000}
    assert view.finished == {"a", "b"}


def test_a_download_in_another_thread_leaves_the_signals_alone(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a"})
    work = threading.Thread(
        target=download_repositories, args=(resolve_names(["o/set"], "dataset"), tmp_path, DownloadOptions())
    )
    work.start()
    work.join()
    assert (tmp_path / "set/a").read_bytes() == b"a"


def test_sigterm_is_handled_only_while_a_download_runs(hub: Hub, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    hub.add("o/set", {"a": b"a"})
    download_repositories(resolve_names(["o/set"], "dataset"), tmp_path, DownloadOptions())
    assert signal.getsignal(signal.SIGTERM) is before


# Whole processes


@contextmanager
def start(folder: Path, *arguments: str, names: tuple[str, ...] = ("o/set",)) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "launch", "prep", "download", *names, "--to", str(folder), *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "5"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    with start(folder, *arguments) as process:
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def wait_until_fetching(hub: Hub, process: "subprocess.Popen[str]", requests: int = 1) -> None:
    deadline = time.monotonic() + 30
    while hub.count_requests("/repo") < requests:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_bodies(folder: Path) -> dict[str, bytes]:
    """Return what stands in a published folder, the manifest apart; nothing where there is no folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lfc-download.json"
    }


def test_a_process_prints_nothing_of_the_client(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a"})
    assert run(tmp_path)[::2] == (0, "")
    hub.add("o/set", {"a": b"b"})
    hub.fail("file", status=404)
    code, out, err = run(tmp_path)
    assert (code, out) == (1, "")
    assert err == (
        f"Error: o/set: 'a': not found on the hub (404) ({hub.endpoint})\n"
        "  Try: check OWNER/NAME, and --model for a model; a private one needs --token-env\n"
    )


@posix_only
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_download_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    old, new = {"a": b"old" * 10}, {"a": b"new" * 100_000, "b": b"b"}
    hub.add("o/set", old)
    assert run(tmp_path)[0] == 0
    hub.add("o/set", new)
    hub.bytes_per_s = 50_000
    with start(tmp_path) as process:
        wait_until_fetching(hub, process, 2)
        time.sleep(0.3)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (exit_code, "")
    assert err == (
        "Error: interrupted; no folder is half-written\n"
        "  Try: run the same command again: what has arrived is kept\n"
    )
    assert read_bodies(tmp_path / "set") == old
    hub.bytes_per_s = None
    hub.requests.clear()
    assert run(tmp_path)[0] == 0
    assert read_bodies(tmp_path / "set") == new
    ranges = [headers.get("range", "") for path, query, headers in hub.requests if query.get("FilePath") == "a"]
    assert len(ranges) == 1
    assert int(ranges[0].removeprefix("bytes=").removesuffix("-")) > 0


@posix_only
def test_killed_at_random_moments_the_target_is_old_or_new_and_the_next_run_completes(
    hub: Hub, tmp_path: Path, full: bool
) -> None:
    dice = random.Random(4)
    states = [{f"{name}.txt": (name + str(round_)).encode() * 9000 for name in "abc"} for round_ in range(2)]
    hub.bytes_per_s = 400_000
    killed = 0
    for round_ in range(50 if full else 5):
        before = read_bodies(tmp_path / "set")
        after = states[round_ % 2]
        hub.add("o/set", after)
        with start(tmp_path) as process:
            time.sleep(dice.uniform(0.2, 1.1))
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        assert read_bodies(tmp_path / "set") in (before, after)
        assert run(tmp_path)[0] == 0
        assert read_bodies(tmp_path / "set") == after
        assert [path.name for path in (tmp_path / ".lfc").iterdir()] == ["set.lock"]
    assert killed > 0
    assert run(tmp_path, "--offline")[0] == 0


def kill_before_change(work: Callable[[], object], number: int) -> bool:
    """Run `work` in a child that is killed just before its nth change of a name on the disk; True if it ended first."""
    changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
    child = os.fork()
    if child == 0:
        counter = itertools.count(1)

        def watch(event: str, arguments: object) -> None:
            if event in changes and next(counter) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.addaudithook(watch)
            work()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code == 0


@pytest.fixture
def own_tqdm_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the client's bars a lock of this process alone: a child killed inside the shared one would hold it for ever."""
    import tqdm.auto
    import tqdm.std

    lock = threading.RLock()
    for bar in (tqdm.std.tqdm, tqdm.auto.tqdm):
        monkeypatch.setattr(bar, "_lock", lock, raising=False)
        monkeypatch.setattr(bar, "monitor_interval", 0)


@posix_only
@pytest.mark.usefixtures("own_tqdm_lock")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_killed_before_any_change_of_a_name_the_target_is_old_or_new_and_the_next_run_completes(
    hub: Hub, tmp_path: Path, full: bool, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if exchange and not sys.platform.startswith("linux"):
        pytest.skip("exchanges two folders in one step")
    if not exchange:
        monkeypatch.setattr(snapshot, "_swap_paths", lambda one, other: False)
    target = tmp_path / "set"
    work = functools.partial(
        download_repositories, resolve_names(["o/set"], "dataset"), tmp_path, DownloadOptions(jobs=1)
    )
    old, new = {"a": b"old", "same": b"s", "sub/gone": b"g"}, {"a": b"new", "same": b"s", "b": b"b"}
    hub.add("o/set", old)
    work()
    (target / "sub/mine").write_bytes(b"mine")
    mine = {"sub/mine": b"mine"}
    absent = 0
    for number in itertools.count(1, 1 if full else 3):
        hub.add("o/set", new)
        finished = kill_before_change(work, number)
        found = read_bodies(target)
        absent += found == {}
        assert found in ({**old, **mine}, {**new, **mine}, *([] if exchange else [{}]))
        work()
        assert read_bodies(target) == {**new, **mine}
        assert [path.name for path in (tmp_path / ".lfc").iterdir()] == ["set.lock"]
        old, new = new, old
        if finished:
            break
    assert number > 20
    # Without an exchange there is one moment between two renames, and the next run fixes it.
    assert absent <= 1


def test_of_two_processes_at_once_one_downloads_and_the_other_says_so(hub: Hub, tmp_path: Path) -> None:
    files = {"a": b"a" * 200_000}
    hub.add("o/set", files)
    hub.bytes_per_s = 5_000
    with start(tmp_path) as first:
        wait_until_fetching(hub, first)
        code, out, err = run(tmp_path)
        hub.bytes_per_s = None
        assert (code, out) == (1, "")
        assert err == (
            f"Error: {tmp_path / 'set'} is being written by another process\n"
            "  Try: wait until it has finished, then run again\n"
        )
        first.communicate(timeout=60)
        assert first.returncode == 0
    assert read_bodies(tmp_path / "set") == files
    assert run(tmp_path)[0] == 0


def test_a_lock_that_is_held_is_an_output_error(hub: Hub, tmp_path: Path) -> None:
    from prep.storage.locks import lock_file

    hub.add("o/set", {"a": b"a"})
    with lock_file(tmp_path / "set", timeout_s=0), pytest.raises(OutputError):
        download_repositories(resolve_names(["o/set"], "dataset"), tmp_path, DownloadOptions())
    assert not (tmp_path / "set").exists()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_the_token_is_not_in_the_process_list(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = TOKEN
    hub.add("o/set", {"a": b"a" * 100_000})
    hub.bytes_per_s = 5_000
    monkeypatch.setenv("TEAM_TOKEN", TOKEN)
    with start(tmp_path, "--token-env", "TEAM_TOKEN") as process:
        wait_until_fetching(hub, process)
        command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        hub.bytes_per_s = None
        out, err = process.communicate(timeout=60)
    assert b"TEAM_TOKEN" in command_line
    assert TOKEN.encode() not in command_line
    assert process.returncode == 0
    assert TOKEN not in out + err


@posix_only
def test_bars_with_speed_and_time_left_show_on_a_terminal(hub: Hub, tmp_path: Path) -> None:
    import pty

    hub.add("o/set", {"data/a.bin": b"a" * 300_000})
    hub.bytes_per_s = 300_000
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "launch", "prep", "download", "o/set", "--to", str(tmp_path), "--json"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
        stdout=subprocess.PIPE,
        stderr=end,
    )
    os.close(end)
    shown = b""
    try:
        while block := os.read(terminal, 65536):
            shown += block
    except OSError:
        # Linux ends a terminal that nobody holds any more with EIO.
        pass
    out, _ = process.communicate(timeout=30)
    os.close(terminal)
    assert json.loads(out)["repositories"][0]["state"] == "downloaded"
    text = shown.decode()
    assert "downloading o/set" in text
    assert "data/a.bin" in text
    assert "kB/s" in text
    assert "0:00:0" in text


def read_peak_bytes(pid: int) -> int:
    """Return the most memory that a running process has held, 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_file_that_is_cut_three_times_is_resumed_in_little_memory(
    hub: Hub, tmp_path: Path, full: bool
) -> None:
    body = PatternBody(300_000_000 if full else 20_000_000)
    hub.add("o/set", {"model.safetensors": body})
    hub.fail("file", cut_after=body.size // 4, times=3)
    peak_bytes = 0
    with start(tmp_path) as process:
        # Not the accounting of wait4: that counts what the test's own process held when it forked.
        while process.poll() is None:
            peak_bytes = max(peak_bytes, read_peak_bytes(process.pid))
            time.sleep(0.05)
    assert process.returncode == 0
    starts = [
        int(headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        for path, _, headers in hub.requests
        if path.endswith("/repo")
    ]
    assert len(starts) == 4
    assert starts[0] == 0
    assert all(earlier < later for earlier, later in itertools.pairwise(starts))
    recorded = json.loads((tmp_path / "set/.lfc-download.json").read_text(encoding="ascii"))["files"]
    assert recorded["model.safetensors"]["sha256"] == body.sha256()
    assert 0 < peak_bytes < 200_000_000
