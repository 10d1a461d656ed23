"""Token statistics: `lfc prep stats` against LLaMA-Factory's own route, whole processes, the same rows.

LLaMA-Factory's route is what its scripts/stat_utils/length_cdf.py does: load and tokenize the whole data set
with `get_dataset` in 16 processes, then read `input_ids` back and take each length. Run it by hand:

    python benchmarks/token_stats.py --rows 20000 --runs 3
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

PHRASES = (
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
        "，",
        "。",
        "其次",
        "结合影像学",
    ),
    *("建议", "随访", "三个月", "是否", "存在", "基础疾病", "如果", "那么", "诊断", "治疗方案", "2.5 mg", "\n\n"),
    *(
        " the",
        " patient",
        " levels",
        " should",
        " therefore",
        " follow-up",
        " because",
        " f(x) = x^2",
        " np.array",
        "\n- ",
    ),
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


def write_rows(path: Path, rows: int) -> None:
    """Write seeded reasoning and chat rows of 300 to 1,500 tokens, half Chinese, half English."""
    rng = random.Random(42)

    def write_text(low: int, high: int) -> str:
        return "".join(rng.choices(PHRASES, k=rng.randint(low, high))).strip() or "x"

    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            thought = write_text(50, 500) if number % 4 else ""
            row = {
                "instruction": f"{number}: {write_text(5, 60)}",
                "input": "",
                "output": f"<think>\n{thought}\n</think>\n\n{write_text(50, 200)}",
                "system": "",
                "history": [],
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def time_command(command: list[str]) -> float:
    """Return a whole process's wall time in seconds; its failure is ours."""
    started = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr[-3000:])
    return time.perf_counter() - started


def read_our_lengths(folder: Path, rows: Path) -> list[int]:
    from prep.dataset import align_row, find_dataset, read_dataset_rows
    from prep.tokens import RowEncoder

    dataset = find_dataset(str(rows), folder)
    conversations = (align_row(row, dataset) for _, _, row in read_dataset_rows(dataset))
    measured = RowEncoder(folder).measure_rows(conversations)
    return [sum(turn.source + turn.target for turn in turns) for turns in measured]


def main() -> None:
    from prep.registry import register_dataset
    from tests.qwen3 import build_tokenizer_folder

    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = build_tokenizer_folder(Path(name))
        (folder / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
        rows = folder / "bench.jsonl"
        write_rows(rows, options.rows)
        register_dataset(rows, "bench", folder)
        ours, theirs = [], []
        for _ in range(options.runs):
            stats = ["-m", "launch", "prep", "stats", str(rows), "--model", str(folder), "--json"]
            ours.append(time_command([sys.executable, *stats]))
            route = ["-c", LLAMAFACTORY_ROUTE, str(folder), str(folder / "lengths.json")]
            theirs.append(time_command([sys.executable, *route]))
        lengths = json.loads((folder / "lengths.json").read_text(encoding="utf-8"))
        print(f"{options.rows:,} rows, {sum(lengths):,} tokens, {rows.stat().st_size / 1e6:.0f} MB")
        print(f"lengths identical: {lengths == read_our_lengths(folder, rows)}")
        print(f"lfc prep stats        {statistics.median(ours):7.2f} s  {[round(run, 2) for run in ours]}")
        print(f"LLaMA-Factory's route {statistics.median(theirs):7.2f} s  {[round(run, 2) for run in theirs]}")
        print(f"ratio                 {statistics.median(theirs) / statistics.median(ours):7.1f}")


if __name__ == "__main__":
    main()
