"""Finished runs and evaluations as their folders hold them, written by hand: no process is started."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.configs.config import format_config
from launch.results.changed_rows import write_changed_rows
from launch.results.comparison import Comparison, Side
from launch.results.scores import Prediction, average_scores, compare_scores
from prep.storage.atomic import write_json
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, write_manifest

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def write_run(path: Path, values: Mapping[str, Any], losses: Sequence[float] = (), **result: Any) -> Path:
    """Write a run's folder and its trainer_log.jsonl; `result` is what result.json says, `header` the YAML's."""
    header = result.pop("header", "A config (preset cpu-smoke)")
    plan = {
        "action": "train",
        "argv": ["llamafactory-cli", "train"],
        "env": {},
        "values": dict(values),
        "slot": None,
    }
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(format_config(values, header=header), encoding="utf-8")
    (path / "command.txt").write_text("llamafactory-cli train config.yaml\n", encoding="utf-8")
    write_json(path / "run.json", plan)
    write_json(path / "process.json", {"pid": 1, "child": 2, "started_at": "2026-11-22T08:00:00+00:00"})
    write_json(path / "result.json", {"exit_code": 0, "stopped": False, "seconds": 125.0, "flags": [], **result})
    if losses:
        output_dir = Path(str(values["output_dir"]))
        output_dir.mkdir(parents=True, exist_ok=True)
        entries = [
            {"current_steps": step * 10, "total_steps": 99, "loss": loss} for step, loss in enumerate(losses, 1)
        ]
        lines = [json.dumps(entry) + "\n" for entry in entries]
        (output_dir / "trainer_log.jsonl").write_text("".join(lines), encoding="utf-8")
    return path


def write_evaluation(folder: Path, source: str, outputs: Mapping[str, Sequence[str]], label: str) -> Comparison:
    """Write an evaluation of the sides `base` and `adapter`, whose ROUGE-L is 80 where the output is the label."""
    folder.mkdir(parents=True)
    predictions = {
        name: [Prediction(PROMPT.format(f"question {row}"), text, label) for row, text in enumerate(texts, 1)]
        for name, texts in outputs.items()
    }
    scores = {
        name: [
            {"rouge_l": 80.0 if row.output == label else 10.0 + place % 3, "cut_off": 0.0, "think_format": 100.0}
            for place, row in enumerate(rows)
        ]
        for name, rows in predictions.items()
    }
    base = Side("base", "", average_scores(scores["base"]), {})
    changes = compare_scores(scores["base"], scores["adapter"])
    adapter = Side("adapter", source, average_scores(scores["adapter"]), changes)
    comparison = Comparison("held_out", len(predictions["base"]), (base, adapter), folder)
    write_changed_rows(folder, "base", predictions, scores)
    write_json(folder / "comparison.json", comparison.as_dict())
    return comparison


def write_dataset(folder: Path, name: str, source: Mapping[str, Any]) -> None:
    """Register a dataset of one row with a manifest that says it was converted from `source`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    converted = {"step": "convert", "inputs": [source], "counts": {}, "options": {}, "output": {}}
    entry = {"path": "data/all.jsonl", "bytes": 3, "sha256": "0" * 64, "manifest": converted}
    counts = {"records": 1200, "reasoning": 700, "chat": 500, "with_system": 0}
    write_manifest(path, Manifest("split", {}, "tagged", [entry], counts, {"bytes": 3, "sha256": hash_file(path)}))
    write_json(folder / "dataset_info.json", {name: {"file_name": path.name}})
