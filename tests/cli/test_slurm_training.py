"""Four trainings by the real llamafactory-cli as jobs of a real Slurm, and the same four on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_train_kinds import build_text_folder
from tests.support.lfc_process import ROOT
from tests.support.shapes import write_jsonl
from tests.support.slurm import Slurm, lacks_slurm, serve_slurm

pytestmark = [
    pytest.mark.stack,
    pytest.mark.usefixtures("warm_cli"),
    pytest.mark.skipif(
        bool(lacks_slurm()) and "CI" not in os.environ, reason=f"Slurm is not installed: {lacks_slurm()}"
    ),
]
WAIT_S = 400.0
TRAINING = {
    "model_name_or_path": "model", "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_rank": 4,
    "dataset": "rows", "dataset_dir": "data", "template": "qwen3", "enable_thinking": False, "cutoff_len": 64,
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "learning_rate": 1.0e-2, "max_steps": 4,
    "logging_steps": 2, "save_steps": 2, "report_to": "none", "overwrite_cache": True,
}  # fmt: skip
# Long enough to be preempted in its middle.
LONG = {"max_steps": 200, "save_steps": 20, "logging_steps": 20, "save_total_limit": 2}
CHANGES: dict[str, dict[str, Any]] = {
    "preempted": LONG,
    "failing": {"dataset": "rows,nothing"},
    "plain": {},
    "other": {"seed": 7},
}


def start(slurm: Slurm, *arguments: str) -> subprocess.Popen[str]:
    env = {**slurm.env(), "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "DISABLE_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "launch", "launch", "batch", *arguments, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def wait_until(is_so: Callable[[], bool], launcher: subprocess.Popen[str], slurm: Slurm) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline, slurm.read_logs()
        time.sleep(0.2)


def describe(batch: str, out: str) -> dict[str, tuple[Any, ...]]:
    """Return each run's state, cause and losses, each step's latest."""
    table = {}
    for run in json.loads(out)["runs"]:
        log = Path("saves", batch, run["run"], "trainer_log.jsonl")
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        entries = [json.loads(line) for line in lines]
        losses = {entry["current_steps"]: entry["loss"] for entry in entries if "loss" in entry}
        table[run["run"]] = (run["state"], run["cause"], losses)
    return table


def test_four_trainings_end_on_slurm_as_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, full: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    build_text_folder(tmp_path / "model")
    write_jsonl(
        tmp_path / "data" / "rows.jsonl",
        [{"instruction": f"Name {n}?", "input": "", "output": f"A {n}."} for n in range(16)],
    )
    (tmp_path / "data" / "dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl"}}', encoding="utf-8")
    for batch in ("slurm", "local"):
        for name, change in CHANGES.items():
            values = {**TRAINING, "output_dir": f"saves/{batch}/{name}", **change}
            (tmp_path / batch).mkdir(exist_ok=True)
            (tmp_path / batch / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    configs = {batch: [f"{batch}/{name}.yaml" for name in CHANGES] for batch in ("slurm", "local")}
    with serve_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        launcher = start(
            slurm, *configs["slurm"], "--name", "slurm", "--backend", "slurm", "--slots", "2", "--no-check"
        )
        held = tmp_path / "saves" / "slurm" / "preempted"
        wait_until((held / "checkpoint-20" / "trainer_state.json").exists, launcher, slurm)
        launcher.kill()
        launcher.communicate()
        subprocess.run(["srun", "-p", "urgent", "-n", "4", "true"], env=slurm.env(), check=True, timeout=WAIT_S)
        again = start(slurm, "--continue", "slurm")
        out, said = again.communicate(timeout=WAIT_S)
        assert again.returncode == 1, said
        on_slurm = describe("slurm", out)
    assert {name: row[:2] for name, row in on_slurm.items()} == {
        "preempted": ("finished", None),
        "failing": ("failed", "config or data"),
        "plain": ("finished", None),
        "other": ("finished", None),
    }
    assert Path("runs/slurm/preempted.2/result.json").is_file()
    attempt = yaml.safe_load(Path("runs/slurm/preempted.2/config.yaml").read_text(encoding="utf-8"))
    assert attempt["resume_from_checkpoint"].startswith("saves/slurm/preempted/checkpoint-")
    if full:
        # Four trainings more: the same losses at the same steps, also of the one that was preempted.
        local = start(slurm, *configs["local"], "--name", "local", "--no-check")
        assert describe("local", local.communicate(timeout=WAIT_S)[0]) == on_slurm
