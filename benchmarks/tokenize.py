"""Time `lfc prep tokenize` against LLaMA-Factory's own preprocessing of the same config; print Markdown.

    python -m benchmarks.tokenize --rows 20000 --runs 3 --json benchmarks/results/tokenize.json

Both are whole processes, imports included, with two workers each, and end with the tokens in a folder that
LLaMA-Factory trains on. They run in pairs, each pair in an order of its own; every row of both folders is compared.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, run_timed
from benchmarks.token_stats import write_rows

WORKERS = 2
LLAMAFACTORY_ROUTE = """
import sys, yaml
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

values = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
model_args, data_args, training_args, _, _ = get_train_args({**values, "tokenized_path": sys.argv[2]})
module = load_tokenizer(model_args)
template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
get_dataset(template, model_args, data_args, training_args, "sft", **module)
"""
COMPARE = """
import sys
from datasets import load_from_disk

ours, theirs = map(load_from_disk, sys.argv[1:])
for split, rows in theirs.items():
    assert ours[split].features == rows.features and len(ours[split]) == len(rows)
    for start in range(0, len(rows), 1000):
        assert ours[split][start : start + 1000] == rows[start : start + 1000], (split, start)
print(sum(map(len, theirs["train"].with_format("arrow")["input_ids"].to_pylist())))
"""
VARIANTS: dict[str, dict[str, Any]] = {"each row by itself": {}, "packed": {"packing": True}}


def write_config(folder: Path, variant: dict[str, Any]) -> Path:
    """Write a training config of the rows in a folder."""
    values = {
        **{"stage": "sft", "do_train": True, "model_name_or_path": str(folder), "template": "qwen3"},
        **{"dataset": "bench", "dataset_dir": str(folder), "cutoff_len": 2048, "output_dir": str(folder / "out")},
        **{"preprocessing_num_workers": WORKERS, "overwrite_cache": True, "report_to": "none"},
        **{"cache_dir": str(folder / "cache"), **variant},
    }
    path = folder / "train.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def time_pair(folder: Path, config: Path, order: random.Random) -> dict[str, tuple[float, float]]:
    """Return wall and CPU seconds of both, each from nothing."""
    ours, theirs = folder / "ours", folder / "theirs"
    commands = {
        "lfc prep tokenize": ["-m", "launch", "prep", "tokenize", "--config", str(config), "-o", str(ours)],
        "LLaMA-Factory": ["-c", LLAMAFACTORY_ROUTE, str(config), str(theirs)],
    }
    for made in (ours, theirs, folder / "cache"):
        shutil.rmtree(made, ignore_errors=True)
    return {name: run_timed([sys.executable, *commands[name]]) for name in order.sample(list(commands), 2)}


def compare(rows: int, runs: int) -> dict[str, Any]:
    """Run all pairs and return the figures."""
    from prep.registry.dataset_info import register_dataset
    from tests.support.qwen3 import build_tokenizer_folder

    result: dict[str, Any] = {"machine": describe_machine(), "rows": rows, "runs": runs, "workers": WORKERS}
    with tempfile.TemporaryDirectory() as name:
        folder = build_tokenizer_folder(Path(name))
        (folder / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
        write_rows(folder / "bench.jsonl", rows)
        register_dataset(folder / "bench.jsonl", "bench", folder)
        result["bytes"] = (folder / "bench.jsonl").stat().st_size
        result["figures"] = {}
        for variant, changes in VARIANTS.items():
            config = write_config(folder, changes)
            pairs = [time_pair(folder, config, random.Random(number)) for number in range(runs)]
            # An assertion there ends this one too.
            folders = (str(folder / "ours"), str(folder / "theirs"))
            run_timed([sys.executable, "-c", COMPARE, *folders])
            result["figures"][variant] = summarise(pairs)
    return result


def summarise(pairs: Sequence[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    """Return the medians of each, and of the ratio within a pair."""
    figures: dict[str, Any] = {}
    for place, unit in enumerate(("wall_s", "cpu_s")):
        for name in pairs[0]:
            figures.setdefault(name, {})[unit] = round(statistics.median(pair[name][place] for pair in pairs), 2)
        ratios = [pair["LLaMA-Factory"][place] / pair["lfc prep tokenize"][place] for pair in pairs]
        figures[f"times_faster_{unit}"] = round(statistics.median(ratios), 1)
    return {**figures, "identical": True}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, dest="target", help="write the figures here, too")
    given = parser.parse_args(arguments)
    result = compare(given.rows, given.runs)
    print(
        "| rows | LLaMA-Factory, CPU s | lfc, CPU s | times faster, CPU | wall |\n| --- | --- | --- | --- | --- |"
    )
    for name, own in result["figures"].items():
        seconds = [own[way]["cpu_s"] for way in ("LLaMA-Factory", "lfc prep tokenize")]
        print(
            f"| {name} | {seconds[0]} | {seconds[1]} | {own['times_faster_cpu_s']} | {own['times_faster_wall_s']} |"
        )
    if given.target:
        given.target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
