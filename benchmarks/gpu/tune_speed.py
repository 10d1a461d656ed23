"""Let `lfc launch tune` find the fastest schedule of LLaMA-Factory's example on one GPU, and keep what it tried.

Needs: one NVIDIA GPU with bf16, the training stack (setup.sh unpacks a packed one), and lfc's own requirements.

Run:   python benchmarks/gpu/tune_speed.py --to /tmp/speed --results $OUT/tune.json --shape 0.6b --minutes 8
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from train_speed import CUTOFF, ROOT, describe_machine, make_model, write_data


def main() -> None:
    """Make data and a model, tune, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="a folder for models, data and runs")
    parser.add_argument("--results", type=Path, required=True, help="the JSON file with the figures")
    parser.add_argument("--shape", default="0.6b")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--epochs", type=float, default=6, help="compiled layers are tried where a run is long")
    parser.add_argument("options", nargs="*", help="further options of lfc launch tune, behind --")
    given = parser.parse_args()
    folder = given.to.resolve()
    write_data(folder)
    make_model(folder, given.shape)
    work = folder / f"tune-{given.shape}"
    work.mkdir(exist_ok=True)
    is_gpu = given.shape != "tiny"
    settings = {
        "model_name_or_path": str(folder / given.shape), "stage": "sft", "do_train": True,
        "finetuning_type": "lora", "lora_rank": 16, "lora_alpha": 32, "lora_target": "all", "dataset": "speed",
        "dataset_dir": str(folder / "data"), "template": "qwen3", "enable_thinking": True, "cutoff_len": CUTOFF,
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1.0e-4,
        "lr_scheduler_type": "cosine", "warmup_ratio": 0.1, "num_train_epochs": given.epochs,
        "bf16": is_gpu, "output_dir": "out", "report_to": "none",
    }  # fmt: skip
    settings |= {} if is_gpu else {"use_cpu": True}
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in settings.items()]
    (work / "example.yaml").write_text("".join(lines), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    options = ["--minutes", str(given.minutes), "--force", *given.options]
    started = time.monotonic()
    argv = [sys.executable, "-m", "launch", "launch", "tune", "example.yaml", *options]
    ended = subprocess.run(argv, cwd=work, env=env, check=False)
    found = sorted(work.glob("runs/*/tune.json"), key=lambda path: path.stat().st_mtime)
    results = {
        "machine": describe_machine(),
        "shape": given.shape,
        "options": options,
        "exit_code": ended.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "tune": json.loads(found[-1].read_text(encoding="utf-8")) if found else None,
        "tuned": (work / "example.tuned.yaml").read_text(encoding="utf-8") if not ended.returncode else None,
        "logs": {
            path.parent.name: path.read_text("utf-8", "replace")[-1_500:] for path in work.glob("runs/*/*/log.txt")
        },
    }
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
