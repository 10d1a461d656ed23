"""A sweep of configs → a queue → one run a slot, until all are done. Its state is the run folders alone.

So a launcher that was killed loses nothing: its runs go on, and the next one reads where the queue stands.
"""

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.config import RunConfig, format_config, read_config
from launch.document import load_document
from launch.private import read_secrets, restore_secrets, split_secrets, write_secrets
from launch.retry import Cause, find_cause, plan_retry
from launch.run import prepare_llamafactory, start_supervisor, stop_run
from launch.runs import RUNS, Run, RunState, read_run
from prep.errors import ConfigError, InputError, OutputError
from prep.files import lock_file, write_json
from prep.secrets import mask_values

PLAN_FILE = "batch.json"
_POLL_S = 0.5
_NETWORK_WAIT_S = 30.0
_SWEEP_KEYS = ("config", "set", "grid", "zip", "runs")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a batch: its name, its config, and its share of the work (larger ones start first)."""

    name: str
    values: dict[str, Any]
    cost: float


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is to do; `slots` are GPU numbers, or "cpu" for a share of the processor."""

    folder: Path
    runs: tuple[PlannedRun, ...]
    slots: tuple[str, ...]
    max_attempts: int


@dataclass(frozen=True)
class QueuedRun:
    """Where one run of a batch stands: every attempt so far, and the config of the next, if there is one."""

    planned: PlannedRun
    attempts: tuple[Run, ...]
    next_values: dict[str, Any] | None
    ready_at: float
    cause: Cause | None = None

    @property
    def last(self) -> Run | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def is_done(self) -> bool:
        """Whether nothing more will happen to it."""
        running = self.last is not None and self.last.state in (RunState.RUNNING, RunState.QUEUED)
        return self.next_values is None and not running


def read_sweep(paths: Sequence[Path], name: str) -> dict[str, dict[str, Any]]:
    """Return {run name: config values} of one sweep file, or of several configs.

    Shape of a sweep: `config` is the YAML that all share; `set` changes it for all; `grid` makes every
    combination of its lists, `zip` pairs its lists by position, `runs` names single ones.
    Each run without an `output_dir` of its own gets one beside the shared one.
    Raises: ConfigError when a key is unknown, lists do not pair, or two runs share a name or an output_dir.
    """
    first = load_document(paths[0]).values
    if len(paths) == 1 and "config" in first:
        configs = _expand_sweep(paths[0], first, name)
    else:
        configs = {path.stem: read_config(path) for path in paths}
        if len(configs) < len(paths):
            raise ConfigError("two configs have the same file name", hint="rename one: it names its run")
    folders: dict[str, str] = {}
    for run, values in configs.items():
        other = folders.setdefault(str(values.get("output_dir")), run)
        if other != run:
            raise ConfigError(f"runs '{other}' and '{run}' share the output_dir {values.get('output_dir')}")
    return configs


def _expand_sweep(path: Path, sweep: Mapping[str, Any], batch: str) -> dict[str, dict[str, Any]]:
    unknown = set(sweep) - set(_SWEEP_KEYS)
    if unknown:
        raise ConfigError(f"{path}: unknown keys {', '.join(sorted(unknown))}", hint=", ".join(_SWEEP_KEYS))
    config = Path(str(sweep["config"]))
    base = {**read_config(config if config.is_file() else path.parent / config), **(sweep.get("set") or {})}
    changes: dict[str, dict[str, Any]] = {}
    for combination in _combine(path, sweep.get("grid") or {}, sweep.get("zip") or {}):
        changes[_name_run(combination)] = combination
    for name, values in (sweep.get("runs") or {}).items():
        if name in changes:
            raise ConfigError(f"{path}: two runs are called '{name}'")
        changes[str(name)] = dict(values or {})
    if not changes:
        raise ConfigError(f"{path}: grid, zip and runs are all empty")
    shared = Path(str(base.get("output_dir", f"saves/{batch}")))
    return {
        name: {**base, "output_dir": (shared.parent / f"{shared.name}-{name}").as_posix(), **change}
        for name, change in changes.items()
    }


def _combine(path: Path, grid: Mapping[str, Any], pairs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, values in {**grid, **pairs}.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{path}: `{key}` must be a list of values")
    if len({len(values) for values in pairs.values()}) > 1:
        raise ConfigError(f"{path}: the lists under `zip` must be equally long")
    rows = [dict(zip(pairs, row, strict=True)) for row in zip(*pairs.values(), strict=True)] or [{}]
    for row in rows:
        for values in itertools.product(*grid.values()):
            combination = {**dict(zip(grid, values, strict=True)), **row}
            if combination:
                yield combination


def _name_run(values: Mapping[str, Any]) -> str:
    parts = [f"{key}-{Path(str(value)).name}" for key, value in mask_values(values).items()]
    return _UNSAFE.sub("_", "_".join(parts))


def plan_batch(
    name: str, configs: Mapping[str, dict[str, Any]], slots: Sequence[str], max_attempts: int
) -> BatchPlan:
    """Write a new batch's folder and plan; raises OutputError when a batch of that name stands there."""
    runs = [PlannedRun(run, values, estimate_cost(values)) for run, values in configs.items()]
    runs.sort(key=lambda run: -run.cost)
    plan = BatchPlan(RUNS / name, tuple(runs), tuple(slots), max_attempts)
    if plan.folder.exists():
        raise OutputError(f"{plan.folder} exists already", hint="--continue to go on with it, or another --name")
    plan.folder.mkdir(parents=True)
    # The secrets first: a plan without them could not go on.
    write_secrets(plan.folder, {run.name: split_secrets(run.values)[1] for run in runs})
    write_json(
        plan.folder / PLAN_FILE,
        {
            "runs": [{**run.__dict__, "values": mask_values(run.values)} for run in runs],
            "slots": plan.slots,
            "max_attempts": max_attempts,
        },
    )
    return plan


def read_batch(name: str) -> BatchPlan:
    """Return the plan of a batch that was begun; raises InputError when there is none."""
    path = RUNS / name / PLAN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"no batch called '{name}': {path} cannot be read", hint="lfc launch runs") from error
    secrets = read_secrets(RUNS / name)
    runs = tuple(
        PlannedRun(**{**run, "values": restore_secrets(run["values"], secrets.get(run["name"], {}))})
        for run in content["runs"]
    )
    return BatchPlan(RUNS / name, runs, tuple(content["slots"]), content["max_attempts"])


def run_batch(plan: BatchPlan, cli: Path, on_poll: Callable[[list[QueuedRun]], None]) -> list[QueuedRun]:
    """Keep every slot busy until all runs are done; goes on with what stands in the batch's folder.

    Raises: OutputError when another launcher works on this batch.
    """
    with lock_file(plan.folder / PLAN_FILE, timeout_s=0):
        while True:
            queue = read_queue(plan)
            on_poll(queue)
            if all(run.is_done for run in queue):
                return queue
            _fill_slots(plan, queue, cli)
            time.sleep(_POLL_S)


def read_queue(plan: BatchPlan) -> list[QueuedRun]:
    """Return where every run of a batch stands, as its folders tell."""
    return [_read_queued(plan, planned) for planned in plan.runs]


def stop_batch(plan: BatchPlan) -> None:
    """Stop every run of a batch that lives, and wait until none of their processes is left."""
    running = [run.last for run in read_queue(plan) if run.last and run.last.state is RunState.RUNNING]
    for run in running:
        run.folder.stop_request.write_text("", encoding="utf-8")
    for run in running:
        stop_run(run.folder)


def estimate_cost(values: Mapping[str, Any]) -> float:
    """Return a figure that grows with a run's time: rows trained on times the weights they pass through."""
    from launch.rules import count_rows
    from launch.rules import split_names as split

    batch = int(values.get("per_device_train_batch_size", 8)) * int(values.get("gradient_accumulation_steps", 1))
    steps = int(values.get("max_steps", -1) or -1)
    if steps > 0:
        rows = float(steps * batch)
    else:
        folder = Path(str(values.get("dataset_dir") or "data"))
        rows = sum(count_rows(name, folder) or 0 for name in split(values.get("dataset")))
        rows *= float(values.get("num_train_epochs", 3.0))
    model = Path(str(values.get("model_name_or_path", "")))
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors")) if model.is_dir() else 0
    return rows * max(weights, 1)


def _read_queued(plan: BatchPlan, planned: PlannedRun) -> QueuedRun:
    attempts = []
    for number in itertools.count(1):
        folder = _attempt_folder(plan, planned, number)
        if not (folder / "run.json").is_file():
            break
        attempts.append(read_run(folder))
    if not attempts:
        return QueuedRun(planned, (), planned.values, 0.0)
    last = attempts[-1]
    if last.state not in (RunState.FAILED, RunState.LOST):
        return QueuedRun(planned, tuple(attempts), None, 0.0)
    cause = find_cause(last)
    values = restore_secrets(last.values, planned.values)
    again = plan_retry(values, cause) if len(attempts) < plan.max_attempts else None
    wait_s = _NETWORK_WAIT_S * 2 ** (len(attempts) - 1) if cause is Cause.NETWORK else 0.0
    return QueuedRun(planned, tuple(attempts), again, _ended_at(last) + wait_s, cause)


def _fill_slots(plan: BatchPlan, queue: Sequence[QueuedRun], cli: Path) -> None:
    busy = [run.last.plan.get("slot") for run in queue if run.last and run.last.state is RunState.RUNNING]
    free = list(plan.slots)
    for slot in busy:
        if slot in free:
            free.remove(slot)
    for run in queue:
        if not free:
            return
        if run.last and run.last.state is RunState.QUEUED:
            # Written down by a launcher that was killed before it could start it, or just after.
            start_supervisor(run.last.folder)
            free.pop(0)
        elif run.next_values is not None and run.ready_at <= time.time():
            _start(plan, run, free.pop(0), cli)


def _start(plan: BatchPlan, run: QueuedRun, slot: str, cli: Path) -> None:
    values = run.next_values or {}
    number = len(run.attempts) + 1
    header = f"{run.planned.name} of {plan.folder.as_posix()}, attempt {number}"
    config = RunConfig(values, format_config(values, header=header))
    folder = prepare_llamafactory(
        cli,
        "train",
        config,
        _attempt_folder(plan, run.planned, number),
        slot_environment(slot, len(plan.slots)),
        slot,
    )
    start_supervisor(folder)


def slot_environment(slot: str, slots: int) -> dict[str, str]:
    """Return the variables that keep a run on its slot: one GPU, or its share of the processor's cores."""
    if slot == "cpu":
        return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // slots))}
    return {"CUDA_VISIBLE_DEVICES": slot}


def _attempt_folder(plan: BatchPlan, planned: PlannedRun, number: int) -> Path:
    return plan.folder / (planned.name if number == 1 else f"{planned.name}.{number}")


def _ended_at(run: Run) -> float:
    path = run.folder.result if run.folder.result.exists() else run.folder.process
    return path.stat().st_mtime if path.exists() else 0.0
