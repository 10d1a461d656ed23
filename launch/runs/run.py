"""One run of LLaMA-Factory from its folder: prepare, start, watch, stop.

A run's child is started by a supervisor, a small process of its own that writes the result when the child ends.
So a run goes on when the terminal that started it is closed or killed, and its folder alone tells its state.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

from launch.configs.config import RunConfig
from launch.configs.private import read_known_secrets, write_config_text, write_private
from launch.machine.command import (
    Command,
    answer_command,
    boost_command,
    build_llamafactory_command,
    is_answered_by_row,
    is_boosted,
    record_environment,
)
from launch.machine.gpus import read_gpus
from launch.runs.backends.backend import find_backend
from launch.runs.backends.job import JobState
from launch.runs.backends.local import start_supervisor
from launch.runs.causes import HINTS, Cause, find_cause
from launch.runs.claims import (
    find_command_gpus,
    list_claims,
    list_slot_gpus,
    rank_gpus,
    refuse_shared_gpus,
    refuse_taken_folders,
    starting,
)
from launch.runs.figures import seal_earlier
from launch.runs.folder import Run, RunFolder, RunState, find_job_state, is_alive, list_runs, read_run
from launch.runs.identity import describe_process, is_same_process
from launch.runs.logs import iter_blocks, read_last_lines
from launch.runs.process import POLL_S, Poll, describe_failure, stop_signals_raise
from launch.runs.record import read_dataset_manifests, read_versions
from prep.errors import ChildFailedError, InputError, OutputError, StoppedError
from prep.secrets import holds_secret, mask_text, mask_values
from prep.storage.atomic import write_json, write_text
from prep.storage.bounded import read_bounded
from prep.storage.os_errors import explain_os_error
from prep.storage.paths import find_free_path, require_writable

_JUST_MADE_S = 10.0
_BLOCK_CHARACTERS = 1 << 20


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
        with starting():
            run = prepare_llamafactory(cli, action, config, folder, env)
        return run_to_end(run, on_poll)


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


def prepare_llamafactory(
    cli: Path,
    action: str,
    config: RunConfig,
    folder: Path,
    env: Mapping[str, str] | None = None,
    slot: str | None = None,
) -> RunFolder:
    """Write down all of one LLaMA-Factory action in a new run folder: it is then a queued run.

    `env` is added to the child's variables; `slot` is the batch's name for the place that the run takes. Callers
    hold `starting()`, so that what is taken stays so until this run is written down.
    Raises: OutputError when the folder is taken, or a live run writes where this one will.
    """
    added = dict(env or {})
    command = check_start(cli, action, config.values, folder, added, slot)
    run = create_run_folder(folder)
    if config.values.get("output_dir"):
        seal_earlier(Path(str(config.values["output_dir"])), list_runs())
    prepare_run(run, action, command, config, slot, program=cli)
    return run


def check_start(
    cli: Path,
    action: str,
    values: Mapping[str, Any],
    folder: Path,
    env: Mapping[str, str],
    slot: str | None = None,
) -> Command:
    """Return the command of one action in a run folder that is still to be made; writes nothing.

    Raises: OutputError when the folder cannot be written, when a live run or batch writes where this one will, or
    has a GPU that it will work on. A batch has its slots by right, and so its runs.
    """
    require_writable(folder)
    claims = list_claims(ignored=folder.parent if slot else None)
    refuse_taken_folders(values, claims)
    command = build_command(cli, action, RunFolder(folder).config, values, env)
    if slot is None:
        refuse_shared_gpus(find_command_gpus(action, values, command), claims, env)
    return command


def build_command(
    cli: Path, action: str, path: Path, values: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> Command:
    """Return the command of one action on a run's config at `path`, with the variables beside the user's."""
    environ = {**os.environ, **(env or {})}
    command = build_llamafactory_command(cli, action, path, values, environ, rank_gpus(list_claims()))
    if is_boosted(action, values, environ):
        command = boost_command(command, RunFolder(path.parent).boost)
    elif is_answered_by_row(action, values, environ):
        command = answer_command(command, values, environ, path.with_name("answers.json"))
    return command.with_env(env or {})


def prepare_run(
    run: RunFolder,
    action: str,
    command: Command,
    config: RunConfig,
    slot: str | None = None,
    program: Path | None = None,
) -> None:
    """Write a command and its config into an empty run folder: it is then a queued run.

    `program` is the one whose environment the command runs in, where that is not the command's own first word.
    """
    write_config_text(run.config, config.text, config.values)
    write_text(run.command, command.format() + "\n")
    write_json(run.environment, record_environment(command, os.environ))
    plan = {
        "action": action,
        "argv": command.argv,
        "env": dict(command.env),
        "values": mask_values(config.values),
        "slot": slot,
        "cards": [gpu.name for gpu in read_gpus().gpus or ()],
        "gpus": find_command_gpus(action, config.values, command) if slot is None else list_slot_gpus(slot),
        "launcher": describe_process(os.getpid()),
        "versions": read_versions(program or Path(command.argv[0])),
        "datasets": mask_values(read_dataset_manifests(config.values)),
    }
    # Written last: without it the folder is no run, and may be written over.
    if holds_secret(dict(command.env)):
        write_private(run.plan, json.dumps(plan, indent=2) + "\n")
    else:
        write_json(run.plan, plan)
    run.preparing.unlink(missing_ok=True)


def create_run_folder(path: Path) -> RunFolder:
    """Make a run folder, one launcher alone; raises OutputError when a run, or anything else, stands there.

    The beginning of a run whose launcher was killed is taken away first.
    """
    run = RunFolder(path)
    with explain_os_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_taken_run(path)
        _remove_beginning(path)
        # It appears with its owner's name in it: one that is killed here leaves nothing that stands in the way.
        made = RunFolder(path.with_name(f".{path.name}.{token_hex(4)}.new"))
        made.path.mkdir()
        write_json(made.preparing, describe_process(os.getpid()))
        try:
            # Of several launchers one makes it.
            made.path.rename(path)
        except OSError:
            made.preparing.unlink()
            made.path.rmdir()
            if os.path.lexists(path):
                raise OutputError(f"run folder {path} exists already", hint="--name ANOTHER_NAME") from None
            raise
    return run


def refuse_taken_run(path: Path) -> None:
    """Raise OutputError when anything but the beginning of a run that nobody goes on with stands in a folder."""
    with explain_os_error(path):
        if os.path.lexists(path) and not _is_abandoned(RunFolder(path)):
            raise OutputError(f"run folder {path} exists already", hint="--name ANOTHER_NAME")


def _is_abandoned(run: RunFolder) -> bool:
    """Tell whether a folder is the beginning of a run, and who began it has ended."""
    if not run.path.is_dir() or run.path.is_symlink() or not set(run.path.iterdir()) <= _list_beginnings(run):
        return False
    try:
        content = json.loads(read_bounded(run.preparing))
    except FileNotFoundError:
        # An empty folder is nobody's; anything else was just begun, or left, by an older version.
        return not any(run.path.iterdir()) or time.time() - run.path.stat().st_mtime > _JUST_MADE_S
    except (OSError, ValueError, RecursionError):
        return False
    return not is_same_process(content)


def _list_beginnings(run: RunFolder) -> set[Path]:
    written = (run.config, run.command, run.environment, run.plan, run.preparing)
    # What a launcher killed in the middle of writing one of them leaves.
    partial = (path for file in written for path in run.path.glob(f".{file.name}.*.partial"))
    return {*(file for file in written if file != run.plan), *partial}


def _remove_beginning(path: Path) -> None:
    if not os.path.lexists(path):
        return
    # Renamed first: of several launchers one takes it away.
    aside = path.rename(path.with_name(f".{path.name}.{os.getpid()}.abandoned"))
    for file in _list_beginnings(RunFolder(aside)):
        file.unlink(missing_ok=True)
    aside.rmdir()


def next_attempt_folder(folder: Path) -> Path:
    """Return the folder of a run's next attempt: `runs/a`, `runs/a.2`, `runs/a.3`, the first that is free."""
    return find_free_path(folder, ".")


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
    raise_failure(ended)
    return ended.seconds or 0.0


def raise_failure(ended: Run) -> None:
    """Raise ChildFailedError with the child's own exit code when a run did not end well, and say why."""
    cause = find_cause(ended)
    if ended.state is RunState.LOST:
        what = "the disk is full" if cause is Cause.DISK_FULL else "its processes were killed"
        raise ChildFailedError(f"{ended.path}: {what}; see {ended.folder.log}", exit_code=137)
    if ended.exit_code:
        message = describe_failure(str(ended.plan["argv"][0]), ended.exit_code, ended.folder.log)
        message = mask_text(message, read_known_secrets(ended.folder.config))
        hint = HINTS.get(cause) if cause else None
        raise ChildFailedError(f"{message}\n  cause: {cause}", exit_code=ended.exit_code, hint=hint)


def watch_run(run: RunFolder, on_poll: Poll = lambda: None) -> None:
    """Call `on_poll` about four times a second for as long as a run lives, or a cluster is to begin it."""
    while not run.result.exists() and (
        is_alive(run) or find_job_state(run) in (JobState.WAITING, JobState.RUNNING)
    ):
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
        if not is_alive(run):
            return
        time.sleep(POLL_S)
    if not follow:
        yield from iter_blocks(run.log) if lines is None else [read_last_lines(run.log, lines)]
        return
    with run.log.open(encoding="utf-8", errors="replace") as stream:
        if lines is not None:
            yield read_last_lines(run.log, lines)
            stream.seek(0, os.SEEK_END)
        while not run.result.exists() and is_alive(run):
            yield from iter(lambda: stream.read(_BLOCK_CHARACTERS), "")
            time.sleep(POLL_S)
        yield from iter(lambda: stream.read(_BLOCK_CHARACTERS), "")


def stop_run(run: RunFolder) -> None:
    """Ask a run to stop as Ctrl-C would, and wait until none of its processes is left.

    Raises: ChildFailedError when it does not stop, or what is left of it cannot be proved to be its own.
    """
    find_backend(run).stop(run)
