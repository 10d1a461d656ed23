"""A dry run in a folder that nobody can write fails as the real run would, and what only reads works there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.lfc_process import ROOT, write_recorder
from tests.support.run_folders import write_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a folder is mounted read-only as Linux mounts it")
MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
# Root may write everywhere but on what is mounted read-only: in a name space of its own, which ends with the command.
UNSHARE = ("unshare", "-m") if hasattr(os, "geteuid") and os.geteuid() == 0 else ("unshare", "-rm")
WRITES = (
    "train c.yaml --dry-run --no-check", "train c.yaml --no-check", "batch sweep.yaml --dry-run --no-check",
    "predict predict.yaml --dry-run --no-check", "export export.yaml --dry-run --no-check",
    "@run recipe.yaml --to made --dry-run", "@prep convert rows.jsonl -o out.jsonl", "report old",
)  # fmt: skip
READS = ("runs", "logs old", "compare old old", "@prep stats good.jsonl", "@prep ls --dataset-dir data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    folder = tmp_path_factory.mktemp("work")
    training = {
        "model_name_or_path": "m",
        "stage": "sft",
        "do_train": True,
        "dataset": "d",
        "output_dir": "saves/a",
    }
    configs = {
        "c": training,
        "sweep": {"config": "c.yaml", "grid": {"seed": [1, 2]}},
        "predict": {"model_name_or_path": "m", "do_predict": True, "eval_dataset": "d", "output_dir": "saves/p"},
        "export": {"model_name_or_path": "m", "template": "qwen3", "export_dir": "models/new"},
        "recipe": {"name": "r", "sources": {"a": {"path": "rows.jsonl"}}, "split": {"test": 1}, "model": "tiny", "config": {"preset": "cpu-smoke"}},
    }  # fmt: skip
    for name, values in configs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    rows = "".join(f'{{"question": "q{number}", "answer": "a"}}\n' for number in range(9))
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    good = '{"instruction": "q", "input": "", "output": "a", "system": "", "history": [], "origin": "s/f:1"}\n'
    (folder / "good.jsonl").write_text(good, encoding="utf-8")
    (folder / "data").mkdir()
    (folder / "data/dataset_info.json").write_text("{}\n", encoding="utf-8")
    write_run(folder / "runs/old", training)
    (folder / "runs/old/log.txt").write_text("said\n", encoding="utf-8")
    write_recorder(folder)
    if call(folder, "runs").returncode != 0:
        pytest.skip("this system lets nobody mount")
    return folder


def call(folder: Path, words: str) -> "subprocess.CompletedProcess[str]":
    argv = words[1:].split() if words.startswith("@") else ["launch", *words.split()]
    command = [*UNSHARE, "sh", "-c", MOUNT, str(folder), sys.executable, "-P", "-m", "launch", *argv]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LFC_LLAMAFACTORY_CLI": str(folder / "bin/llamafactory-cli")}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("words", WRITES)
def test_what_would_write_says_that_it_cannot(words: str, folder: Path) -> None:
    result = call(folder, words)
    assert result.returncode == 1, result.stderr
    assert "cannot be written: read-only file system" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", READS)
def test_what_reads_works(words: str, folder: Path) -> None:
    result = call(folder, words)
    assert result.returncode == 0, result.stderr
