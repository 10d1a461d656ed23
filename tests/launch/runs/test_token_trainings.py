"""A training from tokens made once is the training from the rows; a batch makes its tokens once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.recipes.tiny_model import write_tiny_model
from tests.support.boost_variants import BASE, write_data
from tests.support.token_trainings import VARIANTS
from tests.support.warm_stack import stack_python

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("warm_cli")]

ROOT = Path(__file__).resolve().parents[3]
# Run always; LLaMA-Factory's start takes longer than the two trainings.
QUICK = ("rows",)


def run(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_the_losses_of_every_step_are_the_same(tmp_path: Path, full: bool) -> None:
    names = list(VARIANTS) if full else list(QUICK)
    program = ROOT / "tests" / "support" / "token_trainings.py"
    finished = run(stack_python(), str(program), str(tmp_path), *names, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    for name in names:
        told = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        assert told["rows"] == told["tokens"], name
        assert len(told["rows"]["losses"]) == 3
        assert len(set(told["rows"]["losses"])) == 3
        assert len(told["rows"]["evaluations"]) == (2 if name == "held out" else 0)


def test_a_batch_of_four_runs_makes_its_tokens_once(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("only with --full: four trainings")
    data = tmp_path / "data"
    data.mkdir()
    write_data(data)
    write_tiny_model(data / "rows.jsonl", tmp_path / "qwen3")
    base = {**BASE, "model_name_or_path": "qwen3", "output_dir": "saves/base"}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    sweep = {"config": "base.yaml", "grid": {"learning_rate": [0.05, 0.01], "lora_rank": [2, 4]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    command = (sys.executable, "-m", "launch", "launch", "batch", "sweep.yaml", "--name", "four", "--json")
    finished = run(*command, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    (folder,) = (data / ".lfc" / "tokens").glob("[!.]*")
    assert f"tokens: made once, in data/.lfc/tokens/{folder.name}" in finished.stderr
    configs = [yaml.safe_load(path.read_text("utf-8")) for path in (tmp_path / "runs/four").glob("*/config.yaml")]
    assert [config["tokenized_path"] for config in configs] == [f"data/.lfc/tokens/{folder.name}"] * 4
    logs = [path.read_text(encoding="utf-8") for path in (tmp_path / "runs/four").glob("*/log.txt")]
    assert [log.count("Loaded tokenized dataset from") for log in logs] == [1] * 4
    assert not any("Running tokenizer on dataset" in log for log in logs)
