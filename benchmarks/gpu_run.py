"""See the medical recipe and a batch of two adapters run with Unsloth on one GPU, without a hub.

Needs: one NVIDIA GPU, the [train] extra. The model has Qwen3-0.6B's shape and random weights, the data is the
bundled sample: what is shown is that the way works and how fast it is, not what a model learns.
Run:   python -m benchmarks.gpu_run --to /tmp/gpu-run
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = "models/Qwen3-0.6B"
MAKE_MODEL = """
import sys
from pathlib import Path
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from launch.recipes.tiny_model import write_tiny_model

data, folder = map(Path, sys.argv[1:])
write_tiny_model(data, folder)
tiny = Qwen3Config.from_pretrained(folder)
config = Qwen3Config(
    hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
    head_dim=128, vocab_size=151936, tie_word_embeddings=True, bos_token_id=None, eos_token_id=tiny.eos_token_id,
    pad_token_id=tiny.pad_token_id,
)
torch.manual_seed(42)
Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
"""
SWEEP = """
config: configs/medical-hybrid.yaml
set: {max_steps: 60, save_steps: 30}
grid: {learning_rate: [1.0e-4, 5.0e-4]}
"""


def run(folder: Path, *argv: str) -> None:
    """Run one command in the folder, shown as it would be typed; stops the script when it fails."""
    print("\n$", *argv, flush=True)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    shown = [sys.executable, "-m", "launch", *argv[1:]] if argv[0] == "lfc" else list(argv)
    subprocess.run(shown, cwd=folder, env=env, check=True)


def main() -> None:
    """Make the model, run recipe and batch, and say what the logs show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True)
    folder = parser.parse_args().to.resolve()
    folder.mkdir(parents=True)
    run(folder, "lfc", "prep", "sample", "--to", "raw")
    run(folder, "lfc", "prep", "convert", "raw/r1_data_example.jsonl", "-o", "data/words.jsonl")
    run(folder, sys.executable, "-c", MAKE_MODEL, "data/words.jsonl", MODEL)
    recipe = folder / "recipe"
    run(
        folder, "lfc", "run", "medical-hybrid", "--to", str(recipe), f"model={folder / MODEL}", "split.test=24",
        "sources.medical.sample=r1_data_example.jsonl", "sources.chat.sample=finetome_example.parquet",
        "config.set.save_steps=1000", "config.set.logging_steps=1", "eval.set.max_new_tokens=128",
        "eval.set.do_sample=false", "eval.set.per_device_eval_batch_size=24",
    )  # fmt: skip
    (recipe / "two.yaml").write_text(SWEEP, encoding="utf-8")
    run(recipe, "lfc", "launch", "batch", "two.yaml", "--gpus", "0")
    run(recipe, "lfc", "launch", "runs")
    run(recipe, "lfc", "launch", "report", "two", "-o", "two.html")
    for log in sorted(recipe.glob("runs/**/log.txt")):
        text = log.read_text(encoding="utf-8", errors="replace")
        banner = next(
            (line.strip() for line in text.splitlines() if "Unsloth" in line and "patched" in line), "no Unsloth"
        )
        result = json.loads((log.parent / "result.json").read_text(encoding="utf-8"))
        print(f"{log.parent.relative_to(recipe)}: exit code {result['exit_code']}, {result['seconds']} s; {banner}")


if __name__ == "__main__":
    main()
