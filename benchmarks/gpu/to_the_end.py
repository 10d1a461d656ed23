"""See whole commands to their end on GPUs: two cards (DDP, FSDP, a batch), an OOM retry, evaluation, api, 4 bits.

Needs: one NVIDIA GPU with bf16, two for `ddp`, `fsdp` and `batch`; the training stack (setup.sh unpacks a packed
one), and lfc's own requirements. What each step ended with, and what it left, is written after each.

Run:   python benchmarks/gpu/to_the_end.py --to /tmp/speed --results $OUT/end.json --only ddp,fsdp,oom,eval,api
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from predict_speed import write_held_out
from train_speed import ROOT, describe_machine, make_model, write_data

STEPS = 6


def main() -> None:
    """Do the chosen steps, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="a folder for models, data and runs")
    parser.add_argument("--results", type=Path, required=True, help="the JSON file with what was seen")
    parser.add_argument("--only", default=",".join(ACTIONS))
    parser.add_argument("--shape", default="0.6b")
    given = parser.parse_args()
    folder = given.to.resolve()
    write_data(folder)
    write_held_out(folder, 32)
    make_model(folder, given.shape)
    work = folder / f"end-{given.shape}"
    work.mkdir(exist_ok=True)
    write_config(work, folder, given.shape, "a")
    results: dict[str, Any] = {"machine": describe_machine(), "shape": given.shape, "steps": {}}
    for name in given.only.split(","):
        started = time.monotonic()
        try:
            seen = ACTIONS[name](work, folder, given.shape)
        except Exception as error:  # noqa: BLE001 - the other steps are to be seen too
            seen = {"error": repr(error)[-1_500:]}
        results["steps"][name] = {"seconds": round(time.monotonic() - started, 1), **seen}
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(results['steps'][name])[:1500]}", flush=True)


def write_config(work: Path, folder: Path, shape: str, name: str, **changes: Any) -> Path:
    """Write a training config of a few steps."""
    values = {
        "model_name_or_path": str(folder / shape), "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "lora_rank": 16, "lora_target": "all", "dataset": "speed", "dataset_dir": str(folder / "data"),
        "template": "qwen3", "enable_thinking": True, "cutoff_len": 2048, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "learning_rate": 1.0e-4, "max_steps": STEPS, "bf16": True, "seed": 42,
        "output_dir": f"saves/{name}", "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "preprocessing_num_workers": 4, **changes,
    }  # fmt: skip
    if shape == "tiny":
        values |= {"use_cpu": True, "bf16": False}
    path = work / f"{name}.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()), encoding="utf-8")
    return path


def run_lfc(work: Path, *words: str, seconds: float = 240) -> dict[str, Any]:
    """Run one command of ours, and return how it ended."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    argv = [sys.executable, "-m", "launch", *words]
    ended = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    said = (ended.stdout + ended.stderr)[-700:] if ended.returncode else ended.stdout[-400:]
    return {"command": "lfc " + " ".join(words), "exit_code": ended.returncode, "said": said}


def read_losses(work: Path, name: str) -> list[float]:
    """Return the losses that a training logged."""
    log = work / "saves" / name / "trainer_log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [entry["loss"] for entry in map(json.loads, lines) if entry.get("loss") is not None]


def see_ddp(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """Two cards by torchrun."""
    write_config(work, folder, shape, "ddp")
    seen = run_lfc(work, "launch", "train", "ddp.yaml", "--gpus", "0,1")
    return {**seen, "losses": read_losses(work, "ddp")}


def see_fsdp(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """Two cards that share the weights, as our preset does."""
    layers = {"transformer_layer_cls_to_wrap": "Qwen3DecoderLayer", "use_orig_params": True}
    changes = {"fsdp": "full_shard auto_wrap", "fsdp_config": {**layers, "cpu_ram_efficient_loading": True}}
    write_config(work, folder, shape, "fsdp", **changes)
    seen = run_lfc(work, "launch", "train", "fsdp.yaml", "--gpus", "0,1")
    return {**seen, "losses": read_losses(work, "fsdp")}


def see_batch(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """A queue of three runs on two cards, one of them boosted."""
    for name, rate in (("one", 1e-4), ("two", 5e-5), ("three", 2e-5)):
        write_config(work, folder, shape, name, learning_rate=rate)
    names = ("one", "two", "three")
    seen = run_lfc(
        work, "launch", "batch", *(f"{name}.yaml" for name in names), "--gpus", "0,1", "--boost", "--name", "b"
    )
    boosts = [json.loads(path.read_text("utf-8"))["active"] for path in sorted(work.glob("runs/b/*/boost.json"))]
    return {**seen, "losses": {name: read_losses(work, name)[-1:] for name in names}, "boosted": boosts}


def see_oom(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """A batch that is too large: it is tried again with smaller ones, and with --rehearse it never starts so."""
    changes = {"per_device_train_batch_size": 512, "gradient_accumulation_steps": 1, "max_steps": 1}
    off = {"disable_gradient_checkpointing": True}
    write_config(work, folder, shape, "oom", **changes, **off)
    seen = run_lfc(work, "launch", "batch", "oom.yaml", "--gpus", "0", "--name", "oom", "--max-attempts", "7")
    attempts = sorted(path.parent.name for path in work.glob("runs/oom/*/run.json"))
    return {**seen, "attempts": attempts}


def see_rehearse(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """A rehearsal, and the peak of the training that it began beside what it told."""
    write_config(work, folder, shape, "rehearsed")
    seen = run_lfc(work, "launch", "train", "rehearsed.yaml", "--rehearse", "max_steps=40")
    log = work / "saves" / "rehearsed" / "trainer_log.jsonl"
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.is_file() else []
    peaks = [entry["vram_allocated"] for entry in entries if entry.get("vram_allocated")]
    config = (work / "runs" / "rehearsed" / "config.yaml").read_text("utf-8")
    batch = [line for line in config.splitlines() if line.startswith(("per_device_train", "gradient_acc"))]
    return {**seen, "peak_gib": max(peaks, default=None), "batch": batch}


def see_eval(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """An adapter is trained and compared with its base, in both modes; a second one does not ask the base again."""
    trained = run_lfc(work, "launch", "train", "a.yaml")
    words = ("launch", "eval", "a.yaml", "--eval-dataset", "held_out", "max_new_tokens=48")
    seen = run_lfc(work, *words, "--modes", "think,nothink")
    return {"train": trained["exit_code"], **seen}


def see_api(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """Our api command serves the adapter, and an evaluation asks it beside the base."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    served = {
        "model_name_or_path": str(folder / shape), "adapter_name_or_path": "saves/a", "template": "qwen3",
        "finetuning_type": "lora", "enable_thinking": True,
    }  # fmt: skip
    (work / "api.yaml").write_text(json.dumps(served), encoding="utf-8")
    env |= {"API_PORT": str(port), "API_HOST": "127.0.0.1"}
    argv = [sys.executable, "-m", "launch", "launch", "api", "api.yaml"]
    with (work / "api.log").open("wb") as log:
        server = subprocess.Popen(argv, cwd=work, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/models", server)
        words = ("launch", "eval", "--eval-dataset", "held_out", f"dataset_dir={folder / 'data'}")
        endpoint = f"api=http://127.0.0.1:{port}/v1"
        seen = run_lfc(work, *words, "--endpoint", endpoint, "max_new_tokens=48")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
    return {**seen, "api": (work / "api.log").read_text("utf-8", "replace")[-300:]}


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers."""
    for _ in range(120):
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(1)
        else:
            return
    raise RuntimeError("the server does not answer")


MAKE_4BIT = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
kind = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], quantization_config=kind, device_map={"": 0})
model.save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""


def see_4bit(work: Path, folder: Path, shape: str) -> dict[str, Any]:
    """A model that was quantised before, and one that is quantised while it is loaded; both boosted."""
    quantised = folder / f"{shape}-4bit"
    if not quantised.is_dir():
        subprocess.run([sys.executable, "-c", MAKE_4BIT, str(folder / shape), str(quantised)], check=True)
    write_config(work, folder, shape, "before", model_name_or_path=str(quantised))
    write_config(work, folder, shape, "while", quantization_bit=4, quantization_method="bnb")
    ended = {name: run_lfc(work, "launch", "train", f"{name}.yaml", "--boost") for name in ("before", "while")}
    return {name: {**seen, "losses": read_losses(work, name)} for name, seen in ended.items()}


ACTIONS: dict[str, Callable[[Path, Path, str], dict[str, Any]]] = {
    "ddp": see_ddp,
    "fsdp": see_fsdp,
    "batch": see_batch,
    "oom": see_oom,
    "rehearse": see_rehearse,
    "eval": see_eval,
    "api": see_api,
    "4bit": see_4bit,
}


if __name__ == "__main__":
    main()
