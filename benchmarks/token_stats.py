"""Token statistics: `lfc prep stats` against LLaMA-Factory's own route, whole processes, the same rows.

LLaMA-Factory's route is what its scripts/stat_utils/length_cdf.py does: load and tokenize the whole data set
with `get_dataset` in 16 processes, then read `input_ids` back and take each length. Run it by hand:

    python -m benchmarks.token_stats --rows 20000 --runs 3 --json benchmarks/results/token_stats.json
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, run_timed

CHINESE = (
    *(
        "甲胎蛋白",
        "升高",
        "提示",
        "患者",
        "需要",
        "进一步",
        "检查",
        "首先考虑",
        "肝功能",
        "其次",
        "结合影像学",
        "症状",
    ),
    *(
        "建议",
        "随访",
        "三个月",
        "是否",
        "存在",
        "基础疾病",
        "如果",
        "那么",
        "诊断",
        "治疗方案",
        "的",
        "了",
        "可能",
        "以及",
    ),
)
SYLLABLES = (
    "re",
    "con",
    "ti",
    "ing",
    "pa",
    "the",
    "ment",
    "so",
    "al",
    "in",
    "er",
    "ta",
    "ly",
    "ne",
    "di",
    "ous",
    "ca",
)
LLAMAFACTORY_ROUTE = """
import json, sys
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

folder, target = sys.argv[1:]
model_args, data_args, training_args, _, _ = get_train_args(
    dict(stage="sft", model_name_or_path=folder, dataset="bench", dataset_dir=folder, template="qwen3",
         cutoff_len=1_000_000, preprocessing_num_workers=16, output_dir=folder + "/dummy", overwrite_cache=True,
         do_train=True, report_to="none")
)
module = load_tokenizer(model_args)
template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
rows = get_dataset(template, model_args, data_args, training_args, "sft", **module)["train_dataset"]
lengths = [len(ids) for ids in rows["input_ids"]]
json.dump(lengths, open(target, "w", encoding="utf-8"))
"""


def make_words(rng: random.Random) -> tuple[list[str], list[float]]:
    """Return 20,000 words and their weights: as in natural text, the n-th word comes 1/n as often as the first."""
    words = {"".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(60_000)}
    chosen = sorted(words)[:20_000]
    rng.shuffle(chosen)
    return chosen, [1 / rank for rank in range(1, len(chosen) + 1)]


def write_rows(path: Path, rows: int) -> None:
    """Write seeded reasoning and chat rows of about 200 to 1,500 tokens, a quarter of them Chinese."""
    rng = random.Random(42)
    words, weights = make_words(rng)

    def write_text(low: int, high: int, is_chinese: bool) -> str:
        if is_chinese:
            return "".join(
                "".join(rng.choices(CHINESE, k=rng.randint(1, 4))) + rng.choice("，，，。；\n")
                for _ in range(rng.randint(low, high) // 6 + 1)
            ).strip()
        picked = rng.choices(words, weights, k=rng.randint(low, high))
        return "".join(word + rng.choice((" ", " ", " ", " ", " ", ", ", ". ", "\n")) for word in picked).strip()

    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            is_chinese = number % 4 == 1
            thought = write_text(50, 500, is_chinese) if number % 4 else ""
            row = {
                "instruction": f"{number}: {write_text(5, 60, is_chinese)}",
                "input": "",
                "output": f"<think>\n{thought}\n</think>\n\n{write_text(50, 400, is_chinese)}",
                "system": "",
                "history": [],
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_our_lengths(folder: Path, rows: Path) -> list[int]:
    from prep.registry.dataset import align_row, find_dataset, read_dataset_rows
    from prep.tokens.encoder import RowEncoder

    dataset = find_dataset(str(rows), folder)
    conversations = (align_row(row, dataset) for _, _, row in read_dataset_rows(dataset))
    measured = RowEncoder(folder).measure_rows(conversations)
    return [sum(turn.source + turn.target for turn in turns) for turns in measured]


def compare(rows: int, runs: int) -> dict[str, Any]:
    """Time both routes in turn, each from nothing, and compare every row's length."""
    from prep.registry.dataset_info import register_dataset
    from tests.support.qwen3 import build_tokenizer_folder

    result: dict[str, Any] = {"machine": describe_machine(), "rows": rows, "runs": runs}
    times: dict[str, list[tuple[float, float]]] = {"lfc prep stats": [], "LLaMA-Factory": []}
    with tempfile.TemporaryDirectory() as name:
        folder = build_tokenizer_folder(Path(name))
        (folder / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
        path = folder / "bench.jsonl"
        write_rows(path, rows)
        register_dataset(path, "bench", folder)
        stats = ["-m", "launch", "prep", "stats", str(path), "--model", str(folder), "--json"]
        route = ["-c", LLAMAFACTORY_ROUTE, str(folder), str(folder / "lengths.json")]
        for _ in range(runs):
            times["lfc prep stats"].append(run_timed([sys.executable, *stats]))
            times["LLaMA-Factory"].append(run_timed([sys.executable, *route]))
        lengths = json.loads((folder / "lengths.json").read_text(encoding="utf-8"))
        result |= {"bytes": path.stat().st_size, "tokens": sum(lengths)}
        result["identical"] = lengths == read_our_lengths(folder, path)
    figures: dict[str, Any] = {}
    for place, unit in enumerate(("wall_s", "cpu_s")):
        medians = {name: statistics.median(run[place] for run in own) for name, own in times.items()}
        for name, median in medians.items():
            figures.setdefault(name, {})[unit] = round(median, 2)
        figures[f"times_faster_{unit}"] = round(medians["LLaMA-Factory"] / medians["lfc prep stats"], 1)
    return {**result, "figures": figures}


def main() -> None:
    """Parse the command line, compare, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, dest="target", help="write the figures here, too")
    options = parser.parse_args()
    result = compare(options.rows, options.runs)
    print(f"{result['rows']:,} rows, {result['tokens']:,} tokens, {result['bytes'] / 1e6:.0f} MB")
    print(f"lengths identical: {result['identical']}")
    for name, own in result["figures"].items():
        print(f"{name:24} {own}")
    if options.target:
        options.target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
