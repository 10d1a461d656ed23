"""Runs and batches that are begun, as a command begins them before it waits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.configs.config import RunConfig
from launch.runs.backends.job import Placement
from launch.runs.backends.local import start_supervisor
from launch.runs.batch_plan import BatchPlan, draft_batch, write_plan
from launch.runs.claims import starting
from launch.runs.folder import RunFolder
from launch.runs.run import prepare_llamafactory


def plan_batch(
    name: str,
    configs: Mapping[str, dict[str, Any]],
    slots: Sequence[str],
    max_attempts: int,
    *,
    boost: bool = False,
    placement: Placement | None = None,
) -> BatchPlan:
    """Write a new batch's folder and plan; raises OutputError when something of that name stands there."""
    return write_plan(draft_batch(name, configs, slots, max_attempts, boost=boost, placement=placement))


def start_llamafactory(
    cli: Path, action: str, config: RunConfig, folder: Path, env: Mapping[str, str] | None = None
) -> RunFolder:
    """Start one LLaMA-Factory action in a new run folder and return as soon as it runs; `env` adds variables."""
    with starting():
        run = prepare_llamafactory(cli, action, config, folder, env)
    start_supervisor(run)
    return run
