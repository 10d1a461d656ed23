"""`lfc launch batch` with the real llamafactory-cli: a sweep on two slots, one run that fails and one that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.runs.folder import RunState, list_runs
from launch.runs.progress import read_trainer_log

ROOT = Path(__file__).parents[2]
SWEEP = """
config: configs/base.yaml
set: {max_steps: 40, save_steps: 10, logging_steps: 1}
grid:
  learning_rate: [1.0e-3, 3.0e-3]
  lora_rank: [4, 8]
runs:
  bad: {dataset: broken}
  dies: {max_steps: 60}
"""


def run_lfc(*argv: str) -> None:
    command = [sys.executable, "-m", "launch", *argv]
    result = subprocess.run(command, env=with_root(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def with_root() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def prepare(folder: Path) -> None:
    """Make data, a tiny model, a config, and a registered dataset that LLaMA-Factory cannot read."""
    run_lfc("prep", "sample", "--to", "raw")
    run_lfc("prep", "convert", "raw/r1_data_example.jsonl", "-o", "data/medical.jsonl")
    for name in ("medical", "broken"):
        Path("data/broken.jsonl").write_bytes(Path("data/medical.jsonl").read_bytes())
        run_lfc("prep", "register", f"data/{name}.jsonl", "--name", name, "--dataset-dir", "data")
    Path("data/broken.jsonl").write_text('{"instruction": ["no", "text"]}\n{"instruction": 3}\n', encoding="utf-8")
    run_lfc("launch", "tiny-model", "data/medical.jsonl", "--to", "models/tiny-qwen3")
    pairs = ("model_name_or_path=models/tiny-qwen3", "dataset=medical", "per_device_train_batch_size=4")
    run_lfc("launch", "config", "new", "cpu-smoke", *pairs, "-o", "configs/base.yaml")
    Path("sweep.yaml").write_text(SWEEP, encoding="utf-8")


def kill_when_saved(batch: "subprocess.Popen[str]") -> None:
    """Kill the trainer of the run called `dies` once its first checkpoint is whole."""
    deadline = time.monotonic() + 300
    while not list(Path("saves").rglob("*dies/checkpoint-10/trainer_state.json")):
        assert batch.poll() is None, "the batch ended before the run was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(json.loads(Path("runs/sweep/dies/process.json").read_text(encoding="utf-8"))["child"], signal.SIGKILL)


@pytest.mark.stack
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_sweep_ends_though_one_run_fails_and_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    if not full:
        pytest.skip("trains six runs; --full runs it")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    argv = [sys.executable, "-m", "launch", "launch", "batch", "sweep.yaml", "--slots", "2", "--no-check", "--json"]
    started = time.monotonic()
    batch = subprocess.Popen(argv, env=with_root(), stdout=subprocess.PIPE, text=True)
    kill_when_saved(batch)
    out, _ = batch.communicate(timeout=1_200)
    makespan = time.monotonic() - started
    assert batch.returncode == 1, "one run failed, and that is said"
    states = {run["run"]: (run["state"], run["attempts"]) for run in json.loads(out)["runs"]}
    assert states.pop("bad") == ("failed", 1)
    assert states.pop("dies") == ("finished", 2)
    assert set(states.values()) == {("finished", 1)}
    assert len(states) == 4
    resumed = next(run for run in list_runs() if run.name == "sweep/dies.2")
    assert str(resumed.values["resume_from_checkpoint"]).rsplit("-", 1)[1] in ("10", "20", "30", "40", "50")
    assert [entry["current_steps"] for entry in read_trainer_log(resumed.trainer_log)][-1] == 60
    assert [run.state for run in list_runs()].count(RunState.RUNNING) == 0
    ideal = sum(run.seconds or 0 for run in list_runs()) / 2
    assert makespan <= 1.15 * ideal, (makespan, ideal)
