"""Measure how fast one GPU answers held-out rows: LLaMA-Factory's prediction as our recipes set it, and by row.

Needs: one NVIDIA GPU with bf16, and the training stack (setup.sh unpacks a packed one). Models have Qwen3's shapes
and random weights, so that answers end at max_new_tokens. Results are written after each run.

Run:   python benchmarks/gpu/predict_speed.py --to /tmp/speed --results $OUT/predict.json --shape 0.6b
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from train_speed import ROOT, describe_machine, make_model, write_data

BEFORE_BATCH = 16


def main() -> None:
    """Make data and a model, answer the rows both ways, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="a folder for models, data and runs")
    parser.add_argument("--results", type=Path, required=True, help="the JSON file with the figures")
    parser.add_argument("--shape", default="0.6b")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--only", default="by-row,plain,again")
    given = parser.parse_args()
    folder = given.to.resolve()
    write_data(folder)
    write_held_out(folder, given.rows)
    make_model(folder, given.shape)
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "shape": given.shape,
        "rows": given.rows,
        "runs": {},
    }
    for name in given.only.split(","):
        results["runs"][name] = answer(folder, given.shape, name, given.tokens)
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(results['runs'][name])}", flush=True)


def write_held_out(folder: Path, count: int) -> None:
    """Register the first rows of the training set under another name, with short answers to compare with."""
    data = folder / "data"
    lines = (data / "speed.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    rows = [{**row, "output": row["output"][:200]} for row in map(json.loads, lines)]
    (data / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    info = json.loads((data / "dataset_info.json").read_text(encoding="utf-8"))
    info["held_out"] = {**info["speed"], "file_name": "held_out.jsonl"}
    (data / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def answer(folder: Path, shape: str, name: str, tokens: int) -> dict[str, Any]:
    """Answer the rows once; `again` finds all answers kept and asks none."""
    run = folder / "runs" / f"{shape}-predict-{name}"
    run.mkdir(parents=True, exist_ok=True)
    is_gpu = shape != "tiny"
    settings = {
        "model_name_or_path": str(folder / shape), "stage": "sft", "finetuning_type": "lora", "template": "qwen3",
        "do_predict": True, "predict_with_generate": True, "eval_dataset": "held_out",
        "dataset_dir": str(folder / "data"), "output_dir": str(run / "out"), "report_to": "none", "bf16": is_gpu,
        "use_cpu": not is_gpu, "max_new_tokens": tokens, "per_device_eval_batch_size": BEFORE_BATCH,
        "do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "enable_thinking": True,
        "cutoff_len": 2048,
    }  # fmt: skip
    config = run / "config.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    kept = folder / "runs" / f"{shape}-answers.jsonl"
    ours = [
        str(ROOT / "launch" / "guest" / "answers.py"),
        "--answers",
        str(kept),
        "--report",
        str(run / "report.json"),
    ]
    argv = [sys.executable, *(["-m", "llamafactory.cli", "train"] if name == "plain" else ours), str(config)]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": "0"}
    started = time.monotonic()
    with (run / "log.txt").open("wb") as log:
        ended = subprocess.run(argv, cwd=run, env=env, stdout=log, stderr=log, check=False)
    result: dict[str, Any] = {"exit_code": ended.returncode, "seconds": round(time.monotonic() - started, 1)}
    if ended.returncode:
        return {**result, "log": (run / "log.txt").read_text(encoding="utf-8", errors="replace")[-3_000:]}
    if (run / "report.json").is_file():
        result |= json.loads((run / "report.json").read_text(encoding="utf-8"))
        result["generation_s"] = result.pop("seconds")
        result["seconds"] = round(time.monotonic() - started, 1)
    else:
        told = json.loads((run / "out" / "predict_results.json").read_text(encoding="utf-8"))
        result["generation_s"] = told["predict_runtime"]
    return result


if __name__ == "__main__":
    main()
