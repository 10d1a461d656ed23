"""Train a tiny model plain and boosted, in one process for many variants: a program, for the test beside it.

`boost_variants.py FOLDER NAME…` makes model and data in FOLDER and writes FOLDER/NAME.json for each variant: the largest
differences of losses, gradients and trained weights, and what boost.json says. One start of LLaMA-Factory costs as much
as thirty of these trainings.
"""

import json
import os
import random
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from launch.guest import boost
from launch.recipes.tiny_model import write_tiny_model

WORDS = (
    *("fever", "pulse", "dose", "the", "patient", "has", "no", "pain", "and", "sleeps", "well", "after"),
    *("two", "tablets", "a", "day", "while", "liver", "stays", "sound"),
)
BASE: dict[str, Any] = {
    "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_rank": 4, "lora_target": "all",
    "template": "qwen3", "dataset": "rows", "cutoff_len": 512, "per_device_train_batch_size": 8, "max_steps": 3,
    "gradient_accumulation_steps": 1, "learning_rate": 0.05, "lr_scheduler_type": "cosine", "warmup_steps": 1,
    "logging_steps": 1, "save_strategy": "no", "report_to": "none", "overwrite_output_dir": True, "seed": 7,
    "use_cpu": True, "optim": "sgd", "disable_gradient_checkpointing": True,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "batch of one": {"per_device_train_batch_size": 1},
    "accumulation": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 7},
    "mask_history": {"dataset": "turns", "mask_history": True},
    "turns": {"dataset": "turns", "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
    "thinking off": {"enable_thinking": False},
    "thinking null": {"enable_thinking": None, "dataset": "turns"},
    "train_on_prompt": {"train_on_prompt": True, "dataset": "bare", "template": "empty"},
    "rows of one length": {"dataset": "equal"},
    "full": {"finetuning_type": "full", "pure_bf16": False},
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "pt": {"stage": "pt", "packing": False, "dataset": "texts", "template": "default"},
    "checkpointing": {"disable_gradient_checkpointing": False},
    "evaluation": {"val_size": 8, "eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 4},
    "workers": {
        "dataloader_num_workers": 2,
        "optim": "adamw_torch",
        "learning_rate": 1.0e-3,
        "lr_scheduler_type": "linear",
        "max_grad_norm": 0.1,
    },
    "cut rows": {"cutoff_len": 40},
    "qwen2": {"model": "qwen2"},
    "llama": {"model": "llama", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
}
FLAGS = {"checkpointing": ["--checkpointing", "off"]}


def make_text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def write_data(folder: Path) -> None:
    """Write rows of very different lengths, in each layout that a variant trains on, and their registration."""
    chance = random.Random(11)
    lengths = [1, 220, 3, 40, 8, 150, 2, 90]
    rows = []
    for number in range(48):
        answer = make_text(chance, lengths[number % 8])
        thought = f"<think>\n{make_text(chance, 5)}\n</think>\n\n" if number % 2 else ""
        rows.append({"instruction": make_text(chance, 1 + number % 9), "input": "", "output": thought + answer,
                     "system": "", "history": [[make_text(chance, 4), make_text(chance, 6)]] * (number % 3)})  # fmt: skip
    sets: dict[str, list[dict[str, Any]]] = {
        "rows": [{**row, "history": []} for row in rows],
        "turns": rows,
        "bare": [{**row, "instruction": make_text(chance, 1), "history": []} for row in rows],
        "equal": [{**rows[3], "history": []} for _ in range(32)],
        "texts": [{"text": make_text(chance, lengths[number % 8])} for number in range(48)],
    }
    columns = {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    }
    info: dict[str, Any] = {}
    for name, content in sets.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        info[name] = {"file_name": f"{name}.jsonl", "columns": {"prompt": "text"} if name == "texts" else columns}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def write_models(folder: Path, names: set[str]) -> None:
    """Write the tiny Qwen3, and models of the other known types with the same tokenizer."""
    import transformers

    write_tiny_model(folder / "rows.jsonl", folder / "qwen3")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "qwen3")
    for name, kind in {"qwen2": "Qwen2", "llama": "Llama"}.items():
        if name not in names:
            continue
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


class Record:
    """What one training did: each micro-batch's loss, each step's gradients, the weights in the end."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.rates: list[float] = []
        self.eval_losses: list[float] = []

    def listen(self) -> ExitStack:
        """Return a context in which LLaMA-Factory's trainings are recorded here."""
        import transformers
        from llamafactory.train import tuner

        record, step = self, transformers.Trainer.training_step

        class Listener(tuner.LogCallback):  # type: ignore[misc]
            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                named = kwargs["model"].named_parameters()
                record.gradients.append({name: item.grad.clone() for name, item in named if item.grad is not None})

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                named = kwargs["model"].named_parameters()
                record.weights = {name: item.detach().clone() for name, item in named if item.requires_grad}
                record.rates = [entry["learning_rate"] for entry in state.log_history if "learning_rate" in entry]
                record.eval_losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]

        def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
            loss = step(self, *args, **kwargs)
            record.losses.append(float(loss))
            return loss

        stack = ExitStack()
        stack.enter_context(boost.replaced(tuner, "LogCallback", Listener))
        stack.enter_context(boost.replaced(transformers.Trainer, "training_step", training_step))
        return stack


def run_variant(folder: Path, name: str) -> dict[str, Any]:
    """Train one variant plain and boosted, and tell how far the two are apart."""
    from llamafactory.train import tuner

    settings = {**BASE, **VARIANTS[name], "dataset_dir": str(folder), "output_dir": str(folder / "out" / name)}
    settings["model_name_or_path"] = str(folder / settings.pop("model", "qwen3"))
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    plain, boosted = Record(), Record()
    with plain.listen():
        sys.argv = ["llamafactory-cli", str(config)]
        tuner.run_exp()
    report = folder / "boost.json"
    report.unlink(missing_ok=True)
    with boosted.listen():
        code = boost.main([*FLAGS.get(name, []), "--report", str(report), str(config)])
    return {
        "exit code": code,
        "report": json.loads(report.read_text(encoding="utf-8")),
        "steps": len(boosted.gradients),
        "losses": boosted.losses,
        "loss": max(map(measure_numbers, plain.losses, boosted.losses)),
        "eval": max(map(measure_numbers, plain.eval_losses, boosted.eval_losses), default=0.0),
        "evaluations": len(boosted.eval_losses),
        "gradient": max(map(measure_tensors, plain.gradients, boosted.gradients)),
        "weights": measure_tensors(plain.weights, boosted.weights),
        "rates": plain.rates == boosted.rates and len(plain.losses) == len(boosted.losses),
    }


def measure_numbers(first: float, second: float) -> float:
    return abs(first - second) / abs(first)


def measure_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Return the largest difference between two sets of tensors, against the largest number in the set."""
    assert first and first.keys() == second.keys()
    scale = max(float(item.abs().max()) for item in first.values())
    return max(float((first[name] - second[name]).abs().max()) for name in first) / scale


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    write_data(folder)
    write_models(folder, set(names))
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(run_variant(folder, name)), encoding="utf-8")


if __name__ == "__main__":
    main()
