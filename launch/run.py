"""One run of LLaMA-Factory from its folder: prepare, start, watch, stop.

A run's child is started by a supervisor, a small process of its own that writes the result when the child ends.
So a run goes on when the terminal that started it is closed or killed, and its folder alone tells its state.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from launch.command import Command, build_llamafactory_command, record_environment
from launch.config import RunConfig
from launch.evidence import find_flags, read_dataset_manifests, read_versions
from launch.gpu import read_gpus
from launch.llamaboard_files import write_run_settings
from launch.private import open_private_log, read_known_secrets, write_config_text, write_private
from launch.process import (
    GRACE_S,
    POLL_S,
    Child,
    Poll,
    describe_failure,
    kill_group,
    run_child,
    start_detached,
    stop_signals_raise,
)
from launch.runs import RunFolder, RunState, is_alive, is_supervised, read_run
from prep.errors import ChildFailedError, InputError, OutputError, StoppedError, UserError
from prep.files import explain_os_error, try_lock, write_json, write_text
from prep.secrets import holds_secret, mask_text, mask_values

_START_S = 60.0
_PATIENCE_S = 0.5
_GRACE_BEFORE_START_S = 5.0
_ROOT = Path(__file__).parent.parent
_SUPERVISE = "import sys; sys.path.insert(0, sys.argv[1]); from launch.run import supervise; supervise(sys.argv[2])"


def run_llamafactory(
    cli: Path,
    action: str,
    config: RunConfig,
    folder: Path,
    on_poll: Poll = lambda: None,
    env: Mapping[str, str] | None = None,
) -> float:
    """Run one LLaMA-Factory action in a new run folder to its end and return its seconds; `env` adds variables.

    Raises: OutputError when a run of that name stands there, ChildFailedError when the action failed.
    """
    with stop_signals_raise():
        return run_to_end(prepare_llamafactory(cli, action, config, folder, env), on_poll)


def run_to_end(run: RunFolder, on_poll: Poll = lambda: None) -> float:
    """Start a prepared run, wait for its end and return its seconds; a signal at any moment stops it first.

    Raises: ChildFailedError when it did not start, or failed.
    """
    with stop_signals_raise():
        try:
            start_supervisor(run)
            return finish_run(run, on_poll)
        except (KeyboardInterrupt, StoppedError):
            # It came between the two.
            stop_run(run)
            raise


def start_llamafactory(
    cli: Path, action: str, config: RunConfig, folder: Path, env: Mapping[str, str] | None = None
) -> RunFolder:
    """Start one LLaMA-Factory action in a new run folder and return as soon as it runs; `env` adds variables."""
    run = prepare_llamafactory(cli, action, config, folder, env)
    start_supervisor(run)
    return run


def prepare_llamafactory(
    cli: Path,
    action: str,
    config: RunConfig,
    folder: Path,
    env: Mapping[str, str] | None = None,
    slot: str | None = None,
) -> RunFolder:
    """Write down all of one LLaMA-Factory action in a new run folder: it is then a queued run.

    `env` is added to the child's variables; `slot` is the batch's name for the place that the run takes.
    """
    added = dict(env or {})
    run = create_run_folder(folder)
    environ = {**os.environ, **added}
    command = build_llamafactory_command(cli, action, run.config, config.values, environ, read_gpus().gpus or ())
    prepare_run(run, action, command.with_env(added), config, slot)
    return run


def prepare_run(run: RunFolder, action: str, command: Command, config: RunConfig, slot: str | None = None) -> None:
    """Write a command and its config into an empty run folder: it is then a queued run."""
    write_config_text(run.config, config.text, config.values)
    write_text(run.command, command.format() + "\n")
    write_json(run.environment, record_environment(command, os.environ))
    plan = {
        "action": action,
        "argv": command.argv,
        "env": dict(command.env),
        "values": mask_values(config.values),
        "slot": slot,
        "versions": read_versions(Path(command.argv[0])),
        "datasets": mask_values(read_dataset_manifests(config.values)),
    }
    # Written last: without it the folder is no run, and may be written over.
    if holds_secret(dict(command.env)):
        write_private(run.plan, json.dumps(plan, indent=2) + "\n")
    else:
        write_json(run.plan, plan)


def create_run_folder(path: Path) -> RunFolder:
    """Make a run folder; raises OutputError when a run, or anything that is not one's beginning, stands there."""
    run = RunFolder(path)
    beginnings = {run.config, run.command, run.environment}
    with explain_os_error(path):
        if path.exists() and not set(path.iterdir()) <= beginnings:
            raise OutputError(f"run folder {path} exists already", hint="--name ANOTHER_NAME")
        path.mkdir(parents=True, exist_ok=True)
    return run


def begin_again(folder: Path) -> Path:
    """Return the place of a run's next attempt: `runs/a`, `runs/a.2`, `runs/a.3`, the first that is free."""
    number = 2
    path = folder
    while path.exists():
        path = folder.with_name(f"{folder.name}.{number}")
        number += 1
    return path


def start_supervisor(run: RunFolder) -> None:
    """Start the process that runs a prepared run, and wait until it has begun.

    Raises: ChildFailedError when it ends without having begun.
    """
    words = run.path / "supervisor.txt"
    deadline = time.monotonic() + _START_S
    try:
        process = start_detached([sys.executable, "-c", _SUPERVISE, str(_ROOT), str(run.path)], words)
        while not run.process.exists() and not run.result.exists():
            # It also ends when the supervisor of a launcher that was killed is at work on this run already.
            ended = process.poll() is not None and not is_alive(run)
            if (ended and not run.process.exists() and not run.result.exists()) or time.monotonic() > deadline:
                said = words.read_text(encoding="utf-8", errors="replace").strip()
                raise ChildFailedError(f"{run.path}: the run did not start: {said}", exit_code=1)
            time.sleep(0.02)
    except (KeyboardInterrupt, StoppedError):
        # The supervisor may be anywhere between its first instruction and its child's: it finds the request.
        write_text(run.stop_request, "")
        patience = time.monotonic() + _GRACE_BEFORE_START_S
        while not run.result.exists() and (is_alive(run) or time.monotonic() < patience):
            time.sleep(POLL_S)
        raise


def supervise(folder: str) -> None:
    """Run a prepared run's command to its end and write its result: what the supervisor process does."""
    run = RunFolder(Path(folder))
    with (
        try_lock(run.supervisor_lock, patience_s=_PATIENCE_S) as alone,
        try_lock(run.lock, patience_s=_PATIENCE_S) as handle,
    ):
        if alone is None or handle is None or run.result.exists():
            return
        plan = json.loads(run.plan.read_text(encoding="utf-8"))
        command = Command(tuple(plan["argv"]), plan["env"])

        def note_start(child: int) -> None:
            started_at = datetime.now(UTC).isoformat(timespec="seconds")
            write_json(run.process, {"pid": os.getpid(), "child": child, "started_at": started_at})

        started = time.monotonic()
        stopped = False
        if plan["action"] == "train":
            # A config that trains, and that the page cannot show, trains all the same.
            with suppress(UserError):
                write_run_settings(plan["values"])
        open_private_log(run.log, run.config)
        try:
            exit_code = run_child(command, run.log, lambda: _obey_stop(run), Child(note_start, handle))
        except (StoppedError, KeyboardInterrupt) as stop:
            stopped, exit_code = True, getattr(stop, "exit_code", 128 + signal.SIGINT)
        except OutputError as error:
            write_text(run.log, f"{error}\n")
            exit_code = 127
        result = {"exit_code": exit_code, "stopped": stopped, "seconds": round(time.monotonic() - started, 1)}
        log = run.log.read_text(encoding="utf-8", errors="replace")
        write_json(run.result, {**result, "flags": find_flags(log, plan["values"], plan["datasets"])})


def finish_run(run: RunFolder, on_poll: Poll = lambda: None) -> float:
    """Wait for a started run's end and return its seconds; Ctrl-C, SIGTERM and SIGHUP stop it first.

    Raises: ChildFailedError with the child's own exit code and its last telling lines.
    """
    try:
        with stop_signals_raise():
            watch_run(run, on_poll)
    except BaseException:
        stop_run(run)
        raise
    ended = read_run(run.path)
    if ended.state is RunState.LOST:
        raise ChildFailedError(f"{run.path}: its processes were killed; see {run.log}", exit_code=137)
    if ended.exit_code:
        message = describe_failure(str(ended.plan["argv"][0]), ended.exit_code, run.log)
        message = mask_text(message, read_known_secrets(run.config))
        raise ChildFailedError(message, exit_code=ended.exit_code)
    return ended.seconds or 0.0


def watch_run(run: RunFolder, on_poll: Poll = lambda: None) -> None:
    """Call `on_poll` about four times a second for as long as a run lives."""
    while not run.result.exists() and is_alive(run):
        on_poll()
        time.sleep(POLL_S)
    on_poll()


def follow_log(run: RunFolder, *, lines: int | None = None, follow: bool = False) -> Iterator[str]:
    """Yield what a run printed, from its start or its last lines on; `follow` goes on until it ends.

    Raises: InputError when it has not printed anything yet and does not live.
    """
    if not run.log.exists() and not (follow and is_alive(run)):
        raise InputError(f"{run.log} does not exist: the run has not started")
    while not run.log.exists():
        time.sleep(POLL_S)
    with run.log.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read()
        yield text if lines is None else "".join(text.splitlines(keepends=True)[-lines:])
        while follow and not run.result.exists() and is_alive(run):
            time.sleep(POLL_S)
            yield stream.read()
        if follow:
            yield stream.read()


def stop_run(run: RunFolder) -> None:
    """Ask a run to stop as Ctrl-C would, and wait until none of its processes is left."""
    if not is_alive(run):
        return
    write_text(run.stop_request, "")
    deadline = time.monotonic() + 3 * GRACE_S
    while is_alive(run):
        if time.monotonic() > deadline:
            raise ChildFailedError(f"{run.path} does not stop; see {run.process} for its processes", exit_code=1)
        if not is_supervised(run):
            _kill_orphan(run)
        time.sleep(POLL_S)


def _obey_stop(run: RunFolder) -> None:
    if run.stop_request.exists():
        raise StoppedError("a stop request", signal.SIGINT)


def _kill_orphan(run: RunFolder) -> None:
    """End the child of a supervisor that was killed: the lock that is still held proves that it is ours."""
    try:
        kill_group(json.loads(run.process.read_text(encoding="utf-8"))["child"])
    except ProcessLookupError:
        return
