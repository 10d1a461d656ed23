"""What a batch is to do, as its folder keeps it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launch.configs.private import read_secrets, restore_secrets, split_secrets, write_secrets
from launch.runs.backends.job import LOCAL, Placement, check_placement
from launch.runs.folder import RUNS
from launch.runs.identity import describe_process, is_another_process
from prep.errors import InputError, OutputError, UserError
from prep.names import find_name_fault
from prep.secrets import mask_values
from prep.storage.atomic import write_json
from prep.storage.locks import is_locked
from prep.storage.os_errors import explain_os_error
from prep.storage.paths import require_writable

PLAN_FILE = "batch.json"
_MAX_BYTES = 32 << 20


@dataclass(frozen=True)
class PlannedRun:
    """One run of a batch: its name, its config, and its share of the work (larger ones start first)."""

    name: str
    values: dict[str, Any]
    cost: float


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is to do; `slots` are GPU numbers, or "cpu" for a share of the CPU.

    Runs that were stopped before `taken_up_at`, in seconds of the epoch, are taken up again. With `boost` each
    run is boosted, with `tokenize` they share tokens that are made once. `launcher` is the process that wrote the
    plan. On a cluster the slots are the backend's name.
    """

    folder: Path
    runs: tuple[PlannedRun, ...]
    slots: tuple[str, ...]
    max_attempts: int
    taken_up_at: float = 0.0
    boost: bool = False
    tokenize: bool = True
    launcher: object = None
    placement: Placement = field(default_factory=Placement)

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs of this machine that it was given."""
        return () if self.placement.is_cluster else tuple(slot for slot in self.slots if slot != "cpu")

    @property
    def stop_request(self) -> Path:
        """Stands there when somebody asked the whole batch to stop."""
        return self.folder / "stop"

    @property
    def lock(self) -> Path:
        """Locked by the launcher that works on the batch."""
        return self.folder / ".lfc" / f"{PLAN_FILE}.lock"


def write_plan(plan: BatchPlan) -> BatchPlan:
    """Write a drafted batch's folder and plan; raises OutputError when something of that name stands there."""
    refuse_taken_name(plan.folder)
    with explain_os_error(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
    path = plan.folder / PLAN_FILE
    # The secrets first: a plan without them could not go on.
    write_secrets(plan.folder, {run.name: split_secrets(run.values)[1] for run in plan.runs})
    content = {
        "runs": [{**run.__dict__, "values": mask_values(run.values)} for run in plan.runs],
        "slots": plan.slots,
        "max_attempts": plan.max_attempts,
        "boost": plan.boost,
        "tokenize": plan.tokenize,
        "launcher": describe_process(os.getpid()),
        "backend": plan.placement.backend,
        "backend_options": dict(plan.placement.options),
    }
    write_json(path, content)
    return plan


def draft_batch(
    name: str,
    configs: Mapping[str, dict[str, Any]],
    slots: Sequence[str],
    max_attempts: int,
    *,
    boost: bool = False,
    placement: Placement | None = None,
) -> BatchPlan:
    """Return a new batch's plan, the largest run first, and write nothing."""
    runs = [PlannedRun(run, values, estimate_cost(values)) for run, values in configs.items()]
    runs.sort(key=lambda run: -run.cost)
    plan = BatchPlan(RUNS / name, tuple(runs), tuple(slots), max_attempts, boost=boost)
    return replace(plan, placement=placement) if placement else plan


def refuse_taken_name(folder: Path) -> None:
    """Raise OutputError when a batch, or anything else but an empty folder, stands where a batch is to stand."""
    require_writable(folder)
    with explain_os_error(folder):
        if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists already", hint="--continue to go on with it, or another --name")


def is_batch(name: str, root: Path = RUNS) -> bool:
    """Tell whether a batch of that name was begun, whatever the name is."""
    return os.path.isfile(root / name / PLAN_FILE)  # noqa: PTH113 - pathlib may raise


def write_placement(plan: BatchPlan, placement: Placement) -> BatchPlan:
    """Write down where the runs of a batch go from now on, and return its plan."""
    path = plan.folder / PLAN_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**content, "backend": placement.backend, "backend_options": dict(placement.options)})
    return replace(plan, placement=placement)


def read_batch(name: str, root: Path = RUNS) -> BatchPlan:
    """Return the plan of a batch that was begun; raises InputError when there is none, or it is broken."""
    path = root / name / PLAN_FILE
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no batch is called '{name}' in {root}", hint="lfc launch runs") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    fault = _find_fault(content)
    if fault:
        raise InputError(f"{path} cannot be used: {fault}")
    secrets = read_secrets(root / name)
    runs = tuple(
        PlannedRun(run["name"], restore_secrets(run["values"], secrets.get(run["name"], {})), float(run["cost"]))
        for run in content["runs"]
    )
    return BatchPlan(
        root / name,
        runs,
        tuple(content["slots"]),
        content["max_attempts"],
        boost=content.get("boost", False),
        tokenize=content.get("tokenize", True),
        launcher=content.get("launcher"),
        placement=_read_placement(content),
    )


def _read_placement(content: Mapping[str, Any]) -> Placement:
    return Placement(content.get("backend", LOCAL), content.get("backend_options") or {})


def list_live_batches(root: Path = RUNS) -> list[BatchPlan]:
    """Return the batches on which a launcher is at work now."""
    if not root.is_dir():
        return []
    names = sorted(path.parent.name for path in root.glob(f"*/{PLAN_FILE}"))
    plans = []
    for name in names:
        try:
            plan = read_batch(name, root)
            if is_locked(plan.lock) or is_another_process(plan.launcher):
                plans.append(plan)
        except UserError:
            # A plan that was broken under its launcher: its runs still tell what they have taken.
            continue
    return plans


def estimate_cost(values: Mapping[str, Any]) -> float:
    """Return a figure that grows with a run's time: rows trained on times the weights they pass through.

    Values that are no numbers, which the check or LLaMA-Factory will refuse, count as the defaults.
    """
    from launch.configs.rules import count_rows
    from launch.configs.rules import split_names as split

    def number(key: str, default: float) -> float:
        value = values.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default

    rows_a_step = number("per_device_train_batch_size", 8) * number("gradient_accumulation_steps", 1)
    steps = number("max_steps", -1)
    if steps > 0:
        rows = steps * rows_a_step
    else:
        folder = Path(str(values.get("dataset_dir") or "data"))
        rows = sum(count_rows(name, folder) or 0 for name in split(values.get("dataset")))
        rows *= number("num_train_epochs", 3.0)
    return rows * max(_measure_model(str(values.get("model_name_or_path", ""))), 1)


def _measure_model(name: str) -> int:
    try:
        return sum(file.stat().st_size for file in Path(name).glob("*.safetensors")) if name else 0
    except (OSError, ValueError):
        return 0


def _find_fault(content: object) -> str | None:
    """Return what is wrong with a plan's content, None when it can be used."""
    if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
        return "it holds no list `runs`"
    for run in content["runs"]:
        if not isinstance(run, dict) or not isinstance(run.get("values"), dict):
            return "one of its runs has no `values`"
        if fault := find_name_fault(run.get("name")):
            return f"the run name {str(run.get('name'))[:60]!r} {fault}"
        if isinstance(run.get("cost"), bool) or not isinstance(run.get("cost"), int | float):
            return f"the `cost` of '{run['name']}' is no number"
    slots, attempts = content.get("slots"), content.get("max_attempts")
    if not isinstance(slots, list) or not slots or not all(isinstance(slot, str) for slot in slots):
        return "`slots` is no list of texts"
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        return "`max_attempts` is no whole number from 1 on"
    if not isinstance(content.get("boost", False), bool):
        return "`boost` is neither true nor false"
    if not isinstance(content.get("tokenize", True), bool):
        return "`tokenize` is neither true nor false"
    return _find_placement_fault(content)


def _find_placement_fault(content: Mapping[str, Any]) -> str | None:
    options = content.get("backend_options") or {}
    if not isinstance(content.get("backend", LOCAL), str) or not isinstance(options, dict):
        return "`backend` is no text, or `backend_options` no mapping"
    if not all(isinstance(value, str) for value in options.values()):
        return "one of its `backend_options` is no text"
    try:
        check_placement(_read_placement(content))
    except UserError as error:
        return str(error)
    return None
