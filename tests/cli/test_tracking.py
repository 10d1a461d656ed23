"""A real training that SwanLab and W&B follow offline, because their variables are set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.test_slurm_training import TRAINING
from tests.cli.test_train_kinds import build_text_folder
from tests.support.lfc_process import ROOT
from tests.support.shapes import write_jsonl

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("warm_cli")]
VARIABLES = {
    "SWANLAB_PROJECT": "medical",
    "SWANLAB_MODE": "offline",
    "WANDB_PROJECT": "medical",
    "WANDB_MODE": "offline",
    "CUDA_VISIBLE_DEVICES": "",
    "DISABLE_VERSION_CHECK": "1",
    "PYTHONPATH": str(ROOT),
}


def run_lfc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch", "launch", *arguments]
    env = {**os.environ, **VARIABLES}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_variables_of_both_are_honoured_shown_and_lead_to_the_run(tmp_path: Path) -> None:
    build_text_folder(tmp_path / "model")
    (tmp_path / "data").mkdir()
    write_jsonl(
        tmp_path / "data" / "rows.jsonl", [{"instruction": f"{n}?", "input": "", "output": "A."} for n in range(8)]
    )
    (tmp_path / "data" / "dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl"}}', encoding="utf-8")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TRAINING, "output_dir": "saves/tiny"}), encoding="utf-8")
    shown = run_lfc(tmp_path, "train", "tiny.yaml", "--dry-run", "--no-check")
    assert shown.returncode == 0, shown.stderr
    for part in ("WANDB_PROJECT=medical", "use_swanlab=true", "swanlab_project=medical", "report_to=wandb"):
        assert part in shown.stdout
    trained = run_lfc(tmp_path, "train", "tiny.yaml", "--no-check")
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "Note: SWANLAB_PROJECT is set: SwanLab tracks this run; SWANLAB_MODE=disabled stops it" in trained.stderr
    result = json.loads((tmp_path / "runs" / "tiny" / "result.json").read_text(encoding="utf-8"))
    found = {entry["tool"]: entry for entry in result["tracking"]}
    assert set(found) == {"swanlab", "wandb"}
    for tool, entry in found.items():
        assert entry["id"], tool
        assert (tmp_path / entry["folder"]).is_dir(), entry
    listed = json.loads(run_lfc(tmp_path, "runs", "--json").stdout)["runs"][0]
    assert [line.partition(" ")[0] for line in listed["tracking"]] == ["swanlab", "wandb"]
