"""Files of somebody else that are, or become, endless: every command that reads them ends, soon, below 400 MiB."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.forked_lfc import Call, fork_lfc
from tests.support.run_folders import write_dataset, write_evaluation, write_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
MOST_MIB = 400
GIB = 1 << 30
ROW = '{"instruction": "q", "input": "", "output": "a", "system": "", "history": [], "origin": "s/f:1"}\n'


def sparse(head: bytes, size: int = 4 * GIB) -> Callable[[Path], None]:
    """Write a file of many bytes that takes none on the disk: zeros after its head."""

    def write(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return write


def repeated(text: bytes, times: int, head: bytes = b"") -> Callable[[Path], None]:
    """Write a file of one text many times over."""

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            stream.write(head)
            for _ in range(64):
                stream.write(text * (times // 64))

    return write


def laugh(path: Path) -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 60))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


LOSS = b'{"current_steps": 1, "total_steps": 9, "loss": 1.5, "epoch": 0.1, "percentage": 10.0}\n'
# The place of a bomb, what makes it, and the commands that read that place.
BOMBS: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    "a log of zeros": ("runs/a/log.txt", sparse(b"start\n", 800 << 20), ("launch report a", "launch runs")),
    "a log of long lines": ("runs/a/log.txt", repeated(b"x" * (1 << 20) + b"\n", 64), ("launch logs a -n 5",)),
    "a log of one bar": ("runs/a/log.txt", repeated(b"\r 3/100 [00:01<00:02]", 1 << 20), ("launch logs a", "launch report a", "launch attach a")),
    "a log of a failed run": ("runs/failed/log.txt", repeated(b"Traceback (most recent call last):\n", 2 << 20), ("launch runs", "launch report failed")),
    "losses without end": ("saves/a/trainer_log.jsonl", repeated(LOSS, 1 << 20), ("launch report a",)),
    "losses of zeros": ("saves/a/trainer_log.jsonl", sparse(LOSS), ("launch runs", "launch report a")),
    "losses in one line": ("saves/a/trainer_log.jsonl", repeated(b"[", 64 << 20), ("launch runs", "launch report a")),
    **{
        f"{name} of zeros": (f"runs/a/{name}", sparse(b"{"), ("launch runs", "launch report a"))
        for name in ("run.json", "result.json", "process.json", "config.yaml", "command.txt", "environment.json", "losses.jsonl", "boost.json", "moved.json")
    },
    "deep run.json": ("runs/a/run.json", repeated(b"[", 16 << 20), ("launch runs", "launch report a")),
    "a batch's plan": ("runs/b/batch.json", sparse(b"{"), ("launch runs", "launch batch --continue b", "launch report b")),
    "a batch's secrets": ("runs/whole/secrets.json", sparse(b"{"), ("launch batch --continue whole --dry-run",)),
    "a comparison": ("runs/e/comparison.json", sparse(b"{"), ("launch runs", "launch report a")),
    "rows that changed": ("runs/e/changed_rows.json", sparse(b"{"), ("launch report a",)),
    "aliases": ("c.yaml", laugh, ("launch config check c.yaml", "launch train c.yaml --dry-run", "launch webui c.yaml --dry-run", "launch config diff c.yaml c.yaml")),
    "a YAML of zeros": ("c.yaml", sparse(b"a: 1\n"), ("launch config check c.yaml", "launch batch c.yaml --dry-run", "run c.yaml --dry-run", "launch eval c.yaml --eval-dataset d", "launch config import c.yaml -o d.yaml")),
    "aliases in a recipe": ("c.yaml", laugh, ("run c.yaml --dry-run", "launch batch c.yaml --dry-run")),
    "a registry": ("data/dataset_info.json", sparse(b"{"), ("prep ls --dataset-dir data", "prep register data/d.jsonl --name x --dataset-dir data", "prep lint d --dataset-dir data", "launch config check good.yaml")),
    "a deep registry": ("data/dataset_info.json", repeated(b"[", 16 << 20, b'{"a": '), ("prep ls --dataset-dir data",)),
    "a manifest": ("data/d.manifest.json", sparse(b"{"), ("prep mix x=data/d.jsonl -o m.jsonl", "prep stats data/d.jsonl", "prep split data/d.jsonl --test 1 -o s", "launch report a")),
    "an index": ("data/d.index", sparse(b"x"), ("prep stats data/d.jsonl", "prep mix x=data/d.jsonl -o m.jsonl")),
    **{
        f"rows of zeros, {words[0]}": ("data/z.jsonl", sparse(ROW.encode(), 256 << 20), (" ".join(("prep", *words)),))
        for words in (
            ("lint", "data/z.jsonl"), ("stats", "data/z.jsonl"), ("explain", "data/z.jsonl:2"), ("repair", "data/z.jsonl", "-o", "r.jsonl"),
            ("mix", "x=data/z.jsonl", "-o", "m.jsonl"), ("split", "data/z.jsonl", "--test", "1", "-o", "s"),
        )
    },
    "one row of everything": ("data/z.jsonl", repeated(b"[", 16 << 20, b'{"instruction": '), ("prep lint data/z.jsonl", "prep stats data/z.jsonl", "prep repair data/z.jsonl -o r.jsonl")),
    "a tokenizer": ("models/m/tokenizer.json", sparse(b"{"), ("prep stats data/d.jsonl --model models/m", "launch config check good.yaml")),
    "a model's config": ("models/m/config.json", sparse(b"{"), ("launch config check good.yaml",)),
    "weights that lie": ("models/m/model.safetensors", sparse((1 << 40).to_bytes(8, "little") + b"{"), ("launch config check good.yaml",)),
    "a record of steps": ("made/steps.json", sparse(b"{"), ("run recipe.yaml --to made --dry-run",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    with fork_lfc(tmp_path_factory.mktemp("lfc")) as lfc:
        yield lfc


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Two runs, an evaluation, two batches, a dataset, a model's folder and a recipe, all of which are sound."""
    values = {"model_name_or_path": "models/m", "stage": "sft", "output_dir": (tmp_path / "saves/a").as_posix()}
    write_run(tmp_path / "runs/a", values, [2.0, 1.0])
    write_run(tmp_path / "runs/failed", {**values, "output_dir": "saves/f"}, exit_code=1)
    write_evaluation(tmp_path / "runs/e", str(values["output_dir"]), {"base": ["x"], "adapter": ["y"]}, "y")
    plan = {"runs": [{"name": "one", "values": values, "cost": 1}], "slots": ["cpu"], "max_attempts": 1}
    for name in ("b", "whole"):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "batch.json").write_text(json.dumps(plan), encoding="utf-8")
    write_dataset(tmp_path / "data", "d", {"path": "raw/x.jsonl", "bytes": 3, "sha256": "0" * 64})
    (tmp_path / "data/d.jsonl").write_text(ROW, encoding="utf-8")
    training: Mapping[str, object] = {
        **values, "dataset": "d", "dataset_dir": "data", "template": "qwen3", "finetuning_type": "lora", "do_train": True,
    }  # fmt: skip
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(dict(training)), encoding="utf-8")
    recipe = {
        "name": "r",
        "sources": {"a": {"path": "data/d.jsonl"}},
        "split": {"test": 1},
        "model": "tiny",
        "config": {"preset": "cpu-smoke"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (tmp_path / "models/m").mkdir(parents=True)
    (tmp_path / "models/m/config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    (tmp_path / "made").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", BOMBS)
def test_whatever_stands_there_a_command_ends_within_bounds(name: str, call: Call, workplace: Path) -> None:
    place, write, commands = BOMBS[name]
    write(workplace / place)
    for words in commands:
        result = call(words.split(), folder=workplace)
        assert result.code in (0, 1), (words, result)
        assert "Traceback" not in result.said or name.startswith("a log"), (words, result.said[-2_000:])
        assert 0 < result.peak_mib < MOST_MIB, (words, result.peak_mib)
