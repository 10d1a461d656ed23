"""Which folders and GPUs live runs and batches have taken, so that no two work on one."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launch.machine.command import Command
from launch.machine.gpu_use import VARIABLE, find_gpus, number_visible
from launch.machine.gpus import Gpu, read_gpus
from launch.machine.variables import is_enabled
from launch.runs.backends.job import JobState
from launch.runs.batch_plan import list_live_batches
from launch.runs.figures import is_inside, normalise
from launch.runs.folder import RUNS, Run, RunState, find_job_state, list_runs
from launch.runs.identity import is_another_process
from prep.errors import ConfigError, OutputError
from prep.storage.locks import is_locked, lock_file, try_lock, working_folder
from prep.wording import in_shell

# Set to 1, runs may work on a GPU that another one has, as --no-check lets them.
SHARE_VARIABLE = "LFC_SHARE_GPUS"
_START_S = 60.0
_WRITTEN_KEYS = ("output_dir", "export_dir")


@dataclass(frozen=True)
class Claim:
    """What one live run or batch has taken."""

    owner: str
    folders: tuple[Path, ...]
    gpus: tuple[str, ...]


@contextmanager
def starting(root: Path = RUNS) -> Iterator[None]:
    """Let one launcher at a time look at what is taken and write down its own run.

    Raises: OutputError when another one is at it for a minute, or `root` cannot be written.
    """
    with lock_file(root / "starting", timeout_s=_START_S):
        yield


def list_claims(root: Path = RUNS, *, ignored: Path | None = None) -> list[Claim]:
    """Return what live runs and batches under a folder have taken, but those in the folder `ignored`."""
    runs = [run for run in list_runs(root) if ignored is None or not run.path.is_relative_to(ignored)]
    claims = [Claim(run.name, _list_folders(run.values), read_gpus_of(run.plan)) for run in runs if _is_live(run)]
    for plan in list_live_batches(root):
        if plan.folder != ignored:
            folders = tuple(folder for run in plan.runs for folder in _list_folders(run.values))
            claims.append(Claim(plan.folder.name, folders, plan.gpus))
    return claims


def refuse_taken_folders(values: Mapping[str, Any], claims: Sequence[Claim]) -> None:
    """Raise OutputError when a live run or batch writes into a folder of a config, inside it or around it."""
    for folder in _list_folders(values):
        for claim in claims:
            if any(is_inside(folder, taken) or is_inside(taken, folder) for taken in claim.folders):
                raise OutputError(
                    f"{folder} is in use: '{claim.owner}' writes there and has not ended",
                    hint=f"another output_dir=FOLDER, or lfc launch stop {in_shell(claim.owner)}",
                )
        for place in (folder, *folder.parents):
            if _is_output_locked(place):
                raise OutputError(
                    f"{folder} is in use: a live run of another working folder writes into {place}",
                    hint="another output_dir=FOLDER, or stop that run where it was started",
                )


def refuse_taken_gpus(gpus: Sequence[str], claims: Sequence[Claim], how: str = "--gpus ") -> None:
    """Raise OutputError when a live run or batch has one of some GPUs; `how` is what names others."""
    for claim in claims:
        taken = sorted(set(gpus) & set(claim.gpus))
        if taken:
            free = ",".join(list_free_gpus(claims))
            raise OutputError(
                f"GPU {', '.join(taken)} is in use by '{claim.owner}', which has not ended",
                hint=f"{how}{free or 'OTHERS'}, lfc launch stop {in_shell(claim.owner)}, or --no-check to share it",
            )


def list_free_gpus(claims: Sequence[Claim]) -> list[str]:
    """Return the GPUs of this machine that no live run or batch has."""
    taken = {gpu for claim in claims for gpu in claim.gpus}
    return [number for number in map(str, range(len(read_gpus(env={}).gpus or ()))) if number not in taken]


def rank_gpus(claims: Sequence[Claim]) -> tuple[Gpu, ...]:
    """Return the GPUs that this process sees; one that a live run or batch has is said to have no free memory."""
    gpus = read_gpus().gpus or ()
    free = list_free_gpus(claims)
    return tuple(gpu if str(number) in free else replace(gpu, free_bytes=0) for number, gpu in enumerate(gpus))


def find_command_gpus(action: str, values: Mapping[str, Any], command: Command) -> tuple[str, ...]:
    """Return the GPUs of this machine that a command works on, named or not."""
    return find_gpus(action, values, {**os.environ, **command.env}, read_gpus(env={}).gpus or ())


def list_slot_gpus(slot: str) -> tuple[str, ...]:
    """Return the GPU of this machine that is a batch's slot, none for a share of the CPU, or on a cluster."""
    return (slot,) if slot.isdecimal() else ()


def refuse_shared_gpus(gpus: Sequence[str], claims: Sequence[Claim], env: Mapping[str, str]) -> None:
    """Raise OutputError when a live run or batch has one of a run's GPUs, unless its variables let it share them.

    `env` is what the run was given beside this process's variables.
    """
    if not is_enabled(SHARE_VARIABLE, {**os.environ, **env}):
        refuse_taken_gpus(gpus, claims, "--gpus " if VARIABLE in env else f"before the command {VARIABLE}=")


def share_gpus(shared: bool) -> dict[str, str]:
    """Return the variables that let a run work on a GPU that another one has, none when it must not."""
    return {SHARE_VARIABLE: "1"} if shared else {}


def parse_gpus(text: str, count: int | None) -> tuple[str, ...]:
    """Return the GPU numbers of `0,1`; `count` is how many the machine has, None when that is unknown.

    Raises: ConfigError for anything that is no list of different numbers of this machine's GPUs.
    """
    numbers = text.split(",")
    for number in numbers:
        if not number.isascii() or not number.isdecimal() or str(int(number[:9])) != number:
            raise ConfigError(f"--gpus {text!r:.60}: {number!r:.20} is no GPU number", hint="--gpus 0,1")
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice:
        raise ConfigError(f"--gpus {text:.60}: GPU {twice} stands there twice", hint="--gpus 0,1")
    missing = [number for number in numbers if count is not None and int(number) >= count]
    if missing:
        have = f"has GPUs 0 to {count - 1}" if count else "has no GPU"
        message = f"--gpus {text:.60}: there is no GPU {missing[0]:.20}; this machine {have}"
        raise ConfigError(message, hint="nvidia-smi lists them")
    return tuple(numbers)


def read_gpus_of(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the GPUs that a run works on, as it was written down; of an older run those that it was given."""
    if isinstance(gpus := plan.get("gpus"), list):
        return tuple(map(str, gpus))
    env = plan.get("env")
    text = env.get(VARIABLE) if isinstance(env, Mapping) else None
    return number_visible(text, ()) if isinstance(text, str) else ()


@contextmanager
def lock_output(values: Mapping[str, Any]) -> Iterator[tuple[int, ...] | None]:
    """Hold the output folder of a config against runs of every working folder of this machine.

    Yields: the handles, which a child may inherit to hold it as well; None when another run holds it.
    """
    folder = next(iter(_list_folders(values)), None)
    lock = None
    if folder is not None:
        # Where it cannot be locked, LLaMA-Factory cannot write either, and says so.
        with suppress(OutputError):
            lock = _output_lock(folder, working_folder(folder))
    if lock is None:
        yield ()
        return
    with try_lock(lock, patience_s=0.5) as handle:
        yield None if handle is None else (handle,)


def _output_lock(folder: Path, room: Path) -> Path:
    return room / f"{folder.name}.run.lock"


def _is_output_locked(folder: Path) -> bool:
    lock = _output_lock(folder, folder.parent / ".lfc")
    return os.path.isfile(lock) and is_locked(lock)  # noqa: PTH113 - pathlib may raise


def _list_folders(values: Mapping[str, Any]) -> tuple[Path, ...]:
    named = [values.get(key) for key in _WRITTEN_KEYS]
    return tuple(normalise(Path(name)) for name in named if isinstance(name, str) and name and "\0" not in name)


def _is_live(run: Run) -> bool:
    if run.state is RunState.QUEUED:
        # A cluster may begin a run whose launcher has ended long ago.
        is_handed_on = find_job_state(run.folder) is not JobState.GONE
        return is_handed_on or is_another_process(run.plan.get("launcher"))
    return run.state is RunState.RUNNING
