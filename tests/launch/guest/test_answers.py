"""Answers by row are LLaMA-Factory's own answers: the real one, a tiny model, float32 on the CPU."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.guest import answers
from tests.support.boost_variants import write_data, write_models
from tests.support.warm_stack import stack_python

ROOT = Path(__file__).resolve().parents[3]
ROWS = 11


def write_config(folder: Path, name: str, **changes: Any) -> Path:
    settings = {
        "model_name_or_path": str(folder / "qwen3"),
        "stage": "sft",
        "finetuning_type": "lora",
        "do_predict": True,
        "predict_with_generate": True,
        "dataset_dir": str(folder),
        "eval_dataset": "held_out",
        "template": "qwen3",
        "enable_thinking": False,
        "output_dir": str(folder / name),
        "use_cpu": True,
        "infer_dtype": "float32",
        "do_sample": False,
        "max_new_tokens": 12,
        "report_to": "none",
        "cutoff_len": 256,
        "per_device_eval_batch_size": 2,
        **changes,
    }
    config = folder / f"{name}.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    return config


def run(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [stack_python(), *arguments]
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stderr


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_cli: None) -> Path:
    """The same rows predicted by LLaMA-Factory alone, and by row."""
    folder = tmp_path_factory.mktemp("answers")
    write_data(folder)
    write_models(folder, set())
    rows = [
        {"instruction": "what is " + "red and " * number + "blue", "input": "", "output": "it is " + "so " * number}
        for number in (3, 9, 1, 7, 2, 8, 5, 4, 6, 0)
    ]
    rows.append(rows[2])
    (folder / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    registry = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    registry["held_out"] = {"file_name": "held_out.jsonl"}
    (folder / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    run(folder, "-m", "llamafactory.cli", "train", str(write_config(folder, "plain")))
    ask(folder, "by_row")
    return folder


def ask(folder: Path, name: str, kept: str = "kept.jsonl") -> str:
    config = str(write_config(folder, name))
    told = ("--answers", str(folder / kept), "--report", str(folder / f"{name}.json"))
    return run(folder, answers.__file__, *told, config)


@pytest.mark.stack
def test_greedy_answers_are_those_of_llamafactory_alone(folder: Path) -> None:
    plain = read(folder / "plain" / "generated_predictions.jsonl")
    assert len(plain) == ROWS
    assert read(folder / "by_row" / "generated_predictions.jsonl") == plain
    assert (folder / "by_row" / "predict_results.json").is_file()


@pytest.mark.stack
def test_equal_rows_are_asked_once_in_one_batch_that_fits(folder: Path) -> None:
    report = json.loads((folder / "by_row.json").read_text(encoding="utf-8"))
    assert (report["rows"], report["asked"], report["largest_batch"], report["taken"]) == (ROWS, 10, 10, 0)


@pytest.mark.stack
def test_each_rows_loss_is_what_the_model_itself_computes(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    losses = read(folder / "by_row" / "row_losses.jsonl")
    assert [row["row"] for row in losses] == list(range(1, ROWS + 1))
    model = AutoModelForCausalLM.from_pretrained(folder / "qwen3", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "qwen3")
    predictions = read(folder / "by_row" / "generated_predictions.jsonl")
    for row, said in zip(losses, predictions, strict=True):
        prompt = tokenizer(said["prompt"], add_special_tokens=False)["input_ids"]
        label = tokenizer(said["label"].rstrip("\n") + "<|im_end|>\n", add_special_tokens=False)["input_ids"]
        label = label[: row["tokens"]]
        ids = torch.tensor([[*prompt, *label]])
        wanted = torch.tensor([[*[-100] * len(prompt), *label]])
        with torch.no_grad():
            assert float(model(ids, labels=wanted).loss) == pytest.approx(row["loss"], rel=1e-4)


@pytest.mark.stack
def test_what_was_answered_before_a_kill_is_not_asked_again(folder: Path) -> None:
    whole = (folder / "kept.jsonl").read_bytes().splitlines(keepends=True)
    told = [json.loads(line) for line in whole if b'"predict"' in line]
    told[0]["predict"] = "as it was kept"
    lines = [json.dumps(line).encode() + b"\n" for line in told[:4]]
    (folder / "broken.jsonl").write_bytes(b"".join(lines) + whole[5][:20])
    ask(folder, "again", "broken.jsonl")
    report = json.loads((folder / "again.json").read_text(encoding="utf-8"))
    assert (report["taken"] in (4, 5), report["asked"]) == (True, 6)
    texts = [row["predict"] for row in read(folder / "again" / "generated_predictions.jsonl")]
    plain = [row["predict"] for row in read(folder / "plain" / "generated_predictions.jsonl")]
    assert "as it was kept" in texts
    assert [text for text in texts if text != "as it was kept"] == [
        text for text, kept in zip(plain, texts, strict=True) if kept != "as it was kept"
    ]


def test_a_batch_that_does_not_fit_is_halved_and_a_row_alone_is_an_error() -> None:
    trainer = SimpleNamespace(args=SimpleNamespace(seed=1))
    keys = [f"{number:032x}" for number in range(4)]

    def refuse(places: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    assert answers.ask_or_halve(refuse, trainer, keys, [0, 1]) is None
    with pytest.raises(RuntimeError, match="out of memory"):
        answers.ask_or_halve(refuse, trainer, keys, [0])


def test_another_error_is_no_reason_to_ask_again() -> None:
    def break_down(places: Any) -> Any:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="mismatch"):
        answers.ask_or_halve(break_down, SimpleNamespace(args=SimpleNamespace(seed=1)), ["0" * 32] * 2, [0, 1])


@pytest.mark.parametrize(
    ("ids", "left"),
    [([0, 0, 5, 0, 6, 0], [5, 0, 6]), ([0, 0], []), ([], []), ([4], [4])],
)
def test_padding_goes_at_both_sides_and_nowhere_else(ids: list[int], left: list[int]) -> None:
    assert answers.strip_padding(ids, 0) == left


@pytest.mark.parametrize(
    ("free", "rows", "batch"),
    # As many batches of one size, instead of a last one of few rows.
    [(1 << 40, 100, 100), (1 << 40, 600, 300), (0, 9, 1), (24_000, 9, 5), (40_000, 9, 9)],
)
def test_as_many_rows_are_asked_at_once_as_their_memory_allows(free: int, rows: int, batch: int) -> None:
    memory_class: Any = answers.answer_memory.Memory
    cuda = SimpleNamespace(mem_get_info=lambda: (free, 0), memory_reserved=lambda: 0, memory_allocated=lambda: 0)
    memory = memory_class(SimpleNamespace(cuda=cuda), True, 10, 5, 1_000, 100)
    # A row takes 10 * (100 + 100) + 5 * 100 + 1,000 bytes; four fifths of what is free are used.
    assert memory.count_rows([{"input_ids": [0] * 100}] * rows) == batch
