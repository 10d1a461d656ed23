"""Measure how fast one GPU trains: LLaMA-Factory's example, our preset, and the preset boosted; the same training.

Needs: one NVIDIA GPU with bf16, and the training stack (setup.sh unpacks a packed one). Models have Qwen3's shapes
and random weights, made on the GPU; 2,100 rows of about 995 tokens. Real tokens are measured: padding is not
counted. Results are written after each variant, so that a broken call loses one variant at most.

Run:   python benchmarks/gpu/train_speed.py --to /tmp/speed --results $OUT/speed.json --only 0.6b/preset,0.6b/boost
"""

import argparse
import contextlib
import importlib.metadata
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PEAK_FLOPS = 989e12  # H100 SXM and H200, bf16 without sparsity
ROWS, MEAN_TOKENS, SPREAD, CUTOFF = 2_100, 995, 0.45, 4_096
STEADY_FROM = 15
SHAPES: dict[str, dict[str, Any]] = {
    "0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4b": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    # For a look at this script on a CPU.
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "head_dim": 16, "num_key_value_heads": 2, "vocab_size": 8_000},
}  # fmt: skip
# What each variant changes of the preset; boost: boost.py's flags.
ONE_BY_EIGHT = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
VARIANTS: dict[str, dict[str, Any]] = {
    "example": {"use_unsloth": False, **ONE_BY_EIGHT},
    "preset": {},
    "preset-again": {},
    "padded": {"use_unsloth": False},
    "boost": {"boost": []},
    "boost-off": {"boost": ["--checkpointing", "off"]},
    # Too much for the card without checkpointing, on the 4B shape.
    "boost-large": {"boost": [], "per_device_train_batch_size": 24},
    "boost-keep": {"boost": ["--checkpointing", "keep"]},
    "boost-4bit": {"boost": [], "quantization_bit": 4},
    "preset-4bit": {"quantization_bit": 4},
    "boost-plain": {"boost": [], "use_unsloth": False},
    "compile": {"boost": ["--compile", "on"], "use_unsloth": False},
    # Inductor's graphs in C++ instead of Python: fewer microseconds a kernel.
    "compile-cpp": {
        "boost": ["--compile", "on"],
        "use_unsloth": False,
        "env": {"TORCHINDUCTOR_CPP_WRAPPER": "1"},
    },
    "compile-profile": {"boost": ["--compile", "on"], "use_unsloth": False, "profile": True},
    "boost-profile": {"boost": [], "profile": True},
    "compile-keep": {"boost": ["--checkpointing", "keep", "--compile", "on"], "use_unsloth": False},
}
STEPS = {"example": 20}


def main() -> None:
    """Make data and models, run the chosen variants, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="a folder for models, data and runs")
    parser.add_argument("--results", type=Path, required=True, help="the JSON file with the figures")
    parser.add_argument(
        "--only", default="0.6b/preset,0.6b/boost,0.6b/compile", help="shape/variant, comma-separated"
    )
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=560, help="how long all of this may take")
    given = parser.parse_args()
    deadline = time.monotonic() + given.seconds
    folder = given.to.resolve()
    write_data(folder)
    results: dict[str, Any] = {"machine": describe_machine(), "runs": {}}
    for name in given.only.split(","):
        shape, _, variant = name.partition("/")
        make_model(folder, shape)
        left = deadline - time.monotonic()
        if left < 30:
            results["runs"][name] = {"error": "no time was left"}
        else:
            steps = min(given.steps, STEPS.get(variant, given.steps))
            results["runs"][name] = run_variant(folder, shape, variant, steps, left)
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps({**results['runs'][name], 'losses': None, 'log': None})}", flush=True)


def describe_machine() -> dict[str, Any]:
    """Return the card and the versions that the figures hold for."""
    card = "none"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        card = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    names = ("torch", "transformers", "llamafactory", "unsloth", "peft", "accelerate", "bitsandbytes")
    versions: dict[str, str | None] = dict.fromkeys(names)
    for name in names:
        # The first on the path, which is what is imported.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {"card": card, "cores": os.cpu_count(), "versions": versions}


def write_data(folder: Path) -> None:
    """Write rows whose lengths are spread like those of medical reasoning rows, and register them."""
    if (folder / "data" / "dataset_info.json").is_file():
        return
    chance = random.Random(42)
    # Few and short, so that each is one token of the tokenizer that is trained on these rows.
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=4)) for _ in range(400)]
    middle = math.log(MEAN_TOKENS) - SPREAD**2 / 2
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with (folder / "data" / "speed.jsonl").open("w", encoding="utf-8") as stream:
        for _ in range(ROWS):
            length = max(60, round(chance.lognormvariate(middle, SPREAD)) - 30)
            question, answer = chance.choices(words, k=20), chance.choices(words, k=length - 20)
            row = {"instruction": " ".join(question), "input": "", "output": " ".join(answer), "system": ""}
            stream.write(json.dumps(row) + "\n")
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    info = {"speed": {"file_name": "speed.jsonl", "columns": columns}}
    (folder / "data" / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


MAKE_MODEL = """
import json, sys
from pathlib import Path
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from launch.recipes.tiny_model import write_tiny_model

data, folder, shape = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
write_tiny_model(data, folder)
tiny = Qwen3Config.from_pretrained(folder)
shape = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, **shape}
config = Qwen3Config(
    **shape, tie_word_embeddings=True, bos_token_id=None, eos_token_id=tiny.eos_token_id,
    pad_token_id=tiny.pad_token_id, max_position_embeddings=40960, rope_theta=1000000,
)
torch.manual_seed(42)
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
    model = Qwen3ForCausalLM(config)
model.save_pretrained(folder)
"""


def make_model(folder: Path, shape: str) -> None:
    """Make a model of this shape with random weights, once."""
    target = folder / shape
    if target.is_dir():
        return
    partial = folder / f".{shape}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    argv = [sys.executable, "-c", MAKE_MODEL, str(folder / "data" / "speed.jsonl"), str(partial)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*argv, json.dumps(SHAPES[shape])], env=env, check=True, stdout=subprocess.DEVNULL)
    partial.replace(target)


def run_variant(folder: Path, shape: str, variant: str, steps: int, seconds: float) -> dict[str, Any]:
    """Train one variant in its own process, and tell what its log showed."""
    run = folder / "runs" / f"{shape}-{variant}"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    changes = dict(VARIANTS[variant])
    flags, more = changes.pop("boost", None), changes.pop("env", {})
    profile = [str(ROOT / "benchmarks" / "gpu" / "profile_steps.py"), str(run / "profile.json")]
    profile = profile if changes.pop("profile", False) else []
    config = write_config(folder, shape, run, changes, steps)
    boost = [str(ROOT / "launch" / "guest" / "boost.py"), *(flags or []), "--report", str(run / "boost.json")]
    plain = ["-m", "llamafactory.cli", "train"]
    argv = [sys.executable, *profile, *(plain if flags is None else boost), str(config)]
    env = {**os.environ, **more, "RECORD_VRAM": "1", "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": "0"}
    started = time.monotonic()
    with (run / "log.txt").open("wb") as log:
        process = subprocess.Popen(argv, cwd=run, env=env, stdout=log, stderr=log, start_new_session=True)
        seen = watch(process, run / "out" / "trainer_log.jsonl", started, seconds)
    ended = time.monotonic() - started
    result = {"exit_code": process.returncode, "seconds": round(ended, 1), **summarise(seen, shape)}
    result["losses"] = [[entry["current_steps"], entry["loss"]] for _, entry in seen if "loss" in entry]
    if (run / "boost.json").is_file():
        result["boost"] = json.loads((run / "boost.json").read_text(encoding="utf-8"))
    if (run / "profile.json").is_file():
        result["profile"] = json.loads((run / "profile.json").read_text(encoding="utf-8"))
    if process.returncode:
        result["log"] = (run / "log.txt").read_text(encoding="utf-8", errors="replace")[-3_000:]
    return result


def write_config(folder: Path, shape: str, run: Path, changes: dict[str, Any], steps: int) -> Path:
    """Write the preset with a variant's changes; what a user does not see of it serves the measuring."""
    import yaml

    preset = ROOT / "llamafactory_configs" / "presets" / "medical-hybrid.yaml"
    settings = yaml.safe_load(preset.read_text(encoding="utf-8")) | {
        "model_name_or_path": str(folder / shape), "dataset": "speed", "dataset_dir": str(folder / "data"),
        "output_dir": str(run / "out"), "cutoff_len": CUTOFF, "max_steps": steps, "save_strategy": "no",
        "plot_loss": False, "logging_steps": 5, "logging_first_step": True,
        # Real tokens, whatever the batches look like; the rows are tokenised once for all variants.
        "include_num_input_tokens_seen": "non_padding", "overwrite_cache": False, "preprocessing_num_workers": 8,
    } | changes  # fmt: skip
    if shape == "tiny":
        settings |= {"use_cpu": True, "bf16": False}
    config = run / "config.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return config


def watch(
    process: "subprocess.Popen[bytes]", log: Path, started: float, seconds: float
) -> list[tuple[float, dict[str, Any]]]:
    """Note when each line of the training's own log appears; ends the training that takes too long."""
    seen: list[tuple[float, dict[str, Any]]] = []
    read = 0
    while True:
        running = process.poll() is None
        text = log.read_text(encoding="utf-8") if log.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        now = time.monotonic() - started
        seen += [(now, json.loads(line)) for line in whole[read:].splitlines()]
        read = len(whole)
        if not running:
            return seen
        if now > seconds:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.01)


def summarise(seen: list[tuple[float, dict[str, Any]]], shape: str) -> dict[str, Any]:
    """Return the steady speed in real tokens a second, its share of the card's peak, memory and start."""
    steps = [(at, entry) for at, entry in seen if entry.get("total_tokens")]
    if not steps:
        return {}
    steady = [
        item for item in steps if item[1]["current_steps"] >= min(STEADY_FROM, steps[-1][1]["current_steps"] // 2)
    ]
    tokens = steady[-1][1]["total_tokens"] - steady[0][1]["total_tokens"]
    took = steady[-1][0] - steady[0][0]
    speed = tokens / took if took else 0.0
    rates = [
        (second[1]["total_tokens"] - first[1]["total_tokens"]) / (second[0] - first[0])
        for first, second in itertools.pairwise(steady)
        # LLaMA-Factory writes its log in a thread: two lines may appear at once.
        if second[0] > first[0]
    ]
    return {
        "tokens_per_s": round(speed),
        "slowest_and_fastest_5_steps": [round(min(rates)), round(max(rates))] if rates else [],
        "peak_share": round(speed * count_flops(shape) / PEAK_FLOPS, 4),
        "measured_steps": [steady[0][1]["current_steps"], steady[-1][1]["current_steps"]],
        "real_tokens_per_step": round(steps[-1][1]["total_tokens"] / steps[-1][1]["current_steps"]),
        "first_step_s": round(steps[0][0], 1),
        "peak_gib": steps[-1][1].get("vram_allocated"),
        "peak_reserved_gib": steps[-1][1].get("vram_reserved"),
    }


def count_flops(shape: str) -> float:
    """Return LoRA's operations a token: 4·N + 6·L·H·D·s, N with the head, no weight gradients, the causal half."""
    sizes = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, **SHAPES[shape]}
    hidden, heads, keys, width = (
        sizes[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    )
    attention = hidden * width * (2 * heads + 2 * keys)
    layer = attention + 3 * hidden * sizes["intermediate_size"]
    weights = sizes["num_hidden_layers"] * layer + hidden * sizes["vocab_size"]
    length = MEAN_TOKENS * math.exp(SPREAD**2)  # the mean over tokens, not over rows
    return float(4 * weights + 6 * sizes["num_hidden_layers"] * heads * width * length)


if __name__ == "__main__":
    main()
