"""Let a model answer held-out rows by LLaMA-Factory's own prediction, in batches as large as the memory allows.

This file is a program that the Python with the training stack runs in the place of `llamafactory-cli train CONFIG`
for a config with `do_predict` and `predict_with_generate`:

    answers.py --answers FILE [--batch auto|N] [--report FILE] CONFIG

The longest rows are asked first, so that memory that does not suffice shows at once: the batch is then halved. Each
answer is appended to FILE as soon as it is there, and a row that FILE answers already is not asked again; FILE may
serve several datasets, and belongs to one model and one way of asking it. The loss of each row's wanted answer is
computed too. What LLaMA-Factory writes into output_dir is written there in the rows' own order, with
row_losses.jsonl beside it. It needs the files beside it, answer_memory.py and row_losses.py.

Exit codes: LLaMA-Factory's. An LLaMA-Factory that was never seen so predicts by itself, unchanged.

Source: LLaMA-Factory 0.9.5, train/sft/workflow.py and train/sft/trainer.py. Changed while it runs: predict and
save_predictions of CustomSeq2SeqTrainer.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNOWN_VERSIONS = ("0.9.5", "0.9.6")
_IGNORED = -100


def load_neighbour(name: str) -> Any:
    """Import the module that stands beside this file, however this file was started."""
    spec = importlib.util.spec_from_file_location(f"lfc_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py does not stand beside {__file__}")
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


answer_memory = load_neighbour("answer_memory")
row_losses = load_neighbour("row_losses")


@dataclass(frozen=True)
class Options:
    """What the command line asks for; `batch` 0 is auto."""

    answers: Path
    batch: int
    report: Path | None
    training: tuple[str, ...]


@dataclass
class Figures:
    """What the answering took: the report."""

    rows: int = 0
    taken: int = 0
    asked: int = 0
    seconds: float = 0.0
    new_tokens: int = 0
    largest_batch: int = 0
    halved: int = 0
    peak_bytes: int = 0


def main(argv: Sequence[str]) -> int:
    """Answer the rows; hand over to LLaMA-Factory itself where it was never seen so."""
    options = parse_options(argv)
    reason = find_obstacle(os.environ)
    if reason:
        sys.stderr.write(f"LLaMA-Factory predicts by itself: {reason}\n")
        return start_instead("-m", "llamafactory.cli", "train", *options.training)
    trainer = importlib.import_module("llamafactory.train.sft.trainer").CustomSeq2SeqTrainer
    change_trainer(trainer, options)
    sys.argv = ["llamafactory-cli", *options.training]
    importlib.import_module("llamafactory.train.tuner").run_exp()
    return 0


def parse_options(argv: Sequence[str]) -> Options:
    """Return what the command line asks for; a wrong call ends with 2, as argparse does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--batch", default="auto", type=lambda text: 0 if text == "auto" else int(text))
    parser.add_argument("--report", type=Path)
    parser.add_argument("training", nargs="+", metavar="CONFIG [key=value …]")
    given = parser.parse_args(argv)
    return Options(given.answers, given.batch, given.report, tuple(given.training))


def find_obstacle(environ: "os._Environ[str]") -> str | None:
    """Say why LLaMA-Factory has to predict by itself, None when it has not to."""
    version = importlib.metadata.version("llamafactory")
    if version not in KNOWN_VERSIONS:
        return f"version {version} was never seen answering so, {' and '.join(KNOWN_VERSIONS)} were"
    for name in ("USE_V1", "USE_RAY", "USE_KT", "USE_MCA", "FORCE_TORCHRUN"):
        if environ.get(name, "").lower() in ("true", "y", "1"):
            return f"{name} is set"
    if int(environ.get("WORLD_SIZE", "1") or 1) > 1:
        return "WORLD_SIZE is above 1"
    torch = importlib.import_module("torch")
    if torch.cuda.is_available() and torch.cuda.device_count() > 1:
        return f"{torch.cuda.device_count()} GPUs are visible"
    return None


def start_instead(*words: str) -> int:
    """Start another Python program in the place of this process where the system can do that."""
    command = [sys.executable, "-P", *words]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execv(command[0], command)  # noqa: S606  # does not return; signals go on reaching it
    return subprocess.call(command)


def change_trainer(trainer: Any, options: Options) -> None:
    """Give LLaMA-Factory's trainer a prediction that is cached by row, for as long as this process lives."""
    predict = trainer.predict
    kept: dict[str, list[dict[str, Any]]] = {}

    def predict_by_row(
        self: Any,
        test_dataset: Any,
        ignore_keys: Any = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> Any:
        if not hasattr(test_dataset, "select"):  # streamed: which rows are long is not known
            return predict(self, test_dataset, ignore_keys, metric_key_prefix, **gen_kwargs)
        ask = make_ask(self, predict, test_dataset, gen_kwargs)
        kept["lines"] = answer_rows(self, test_dataset, ask, gen_kwargs, options)
        output = importlib.import_module("transformers.trainer_utils").PredictionOutput
        return output(predictions=None, label_ids=None, metrics={f"{metric_key_prefix}_rows": len(test_dataset)})

    save = trainer.save_predictions

    def save_by_row(self: Any, dataset: Any, results: Any, skip_special_tokens: bool = True) -> None:
        if "lines" not in kept:
            save(self, dataset, results, skip_special_tokens)
            return
        tokenizer, folder = self.processing_class, Path(self.args.output_dir)
        texts = []
        for row, line in zip(dataset, kept["lines"], strict=True):
            prompt = tokenizer.decode(row["input_ids"], skip_special_tokens=False)
            label = tokenizer.decode(row["labels"], skip_special_tokens=skip_special_tokens)
            texts.append({"prompt": prompt, "predict": line["predict"], "label": label})
        write_lines(folder / "generated_predictions.jsonl", texts)
        losses = [
            {"row": number, "loss": line.get("loss"), "tokens": line.get("loss_tokens")}
            for number, line in enumerate(kept["lines"], 1)
        ]
        write_lines(folder / "row_losses.jsonl", losses)

    trainer.predict, trainer.save_predictions = predict_by_row, save_by_row


def make_ask(trainer: Any, predict: Any, dataset: Any, gen_kwargs: dict[str, Any]) -> "Ask":
    """Return the function that lets the model answer some rows by LLaMA-Factory's own prediction."""
    trainer.compute_metrics = None
    for callback in list(trainer.callback_handler.callbacks):
        # They count the batches of one prediction; here each batch is one.
        if type(callback).__name__ in ("ProgressCallback", "LogCallback", "PrinterCallback"):
            trainer.remove_callback(callback)
    trainer.args.disable_tqdm = True
    tokenizer, skips = trainer.processing_class, skips_special_tokens()
    # Each new length of the cache, which is each step, cuDNN's attention makes a plan of its own for: 50 ms a time.
    importlib.import_module("torch").backends.cuda.enable_cudnn_sdp(False)

    def ask(places: Sequence[int]) -> list[tuple[str, int]]:
        trainer.args.per_device_eval_batch_size = len(places)
        result = predict(trainer, dataset.select(places), None, "predict", **gen_kwargs)
        answers = []
        for ids in result.predictions[: len(places)]:
            row = strip_padding([int(token) for token in ids if token != _IGNORED], tokenizer.pad_token_id)
            text = tokenizer.decode(row, skip_special_tokens=skips)
            answers.append((text, len(row)))
        return answers

    return ask


Ask = Callable[[Sequence[int]], list[tuple[str, int]]]


def strip_padding(ids: list[int], padding: int | None) -> list[int]:
    """Return tokens without the padding on both sides."""
    start, end = 0, len(ids)
    while start < end and ids[start] == padding:
        start += 1
    while end > start and ids[end - 1] == padding:
        end -= 1
    return ids[start:end]


def answer_rows(
    trainer: Any, dataset: Any, ask: Ask, gen_kwargs: dict[str, Any], options: Options
) -> list[dict[str, Any]]:
    """Return {predict, tokens, loss, loss_tokens} of each row, in their order; new ones are added to the file."""
    rows = [dict(row) for row in dataset]
    keys = [make_key(row) for row in rows]
    known = read_answers(options.answers)
    figures = Figures(rows=len(rows), taken=sum(key in known for key in keys))
    started = time.monotonic()
    memory = answer_memory.Memory.of(trainer, gen_kwargs)
    # Of equal rows one is asked.
    waiting = list({keys[place]: place for place in range(len(rows)) if keys[place] not in known}.values())
    # How long an answer gets shows in the row's own answer better than in anything else.
    waiting.sort(key=lambda place: -(len(rows[place]["input_ids"]) + len(rows[place]["labels"])))
    total, done, limit = len(waiting), 0, options.batch or answer_memory.MOST_AT_ONCE
    show_bar(done, total)
    options.answers.parent.mkdir(parents=True, exist_ok=True)
    with options.answers.open("a", encoding="utf-8") as stream:
        end_broken_line(options.answers, stream)
        while waiting:
            size = min(limit, len(waiting), options.batch or memory.count_rows([rows[place] for place in waiting]))
            batch = waiting[:size]
            answers = ask_or_halve(ask, trainer, keys, batch)
            if answers is None:
                limit, figures.halved = size // 2, figures.halved + 1
                sys.stderr.write(
                    f"{size} rows at once do not fit into memory: {limit} are asked at once from now on\n"
                )
                continue
            for place, (text, tokens) in zip(batch, answers, strict=True):
                append(stream, known, keys[place], {"predict": text, "tokens": tokens})
            stream.flush()
            waiting = waiting[size:]
            done += size
            figures.asked, figures.largest_batch = done, max(figures.largest_batch, size)
            figures.new_tokens += sum(tokens for _, tokens in answers)
            show_bar(done, total)
        figures.seconds = round(time.monotonic() - started, 2)

        # What a file of an earlier evaluation lacks is added; the same for rows that stand twice.
        def keep(place: int, loss: float, count: int) -> None:
            append(stream, known, keys[place], {"loss": loss, "loss_tokens": count})

        lacking = {keys[place]: place for place in range(len(rows)) if "loss" not in known[keys[place]]}
        row_losses.add_losses(trainer, rows, list(lacking.values()), keep)
    figures.peak_bytes = memory.read_peak()
    if options.report:
        options.report.write_text(json.dumps(vars(figures)) + "\n", encoding="utf-8")
    return [known[key] for key in keys]


def skips_special_tokens() -> bool:
    """Return what the config says of special tokens in answers; LLaMA-Factory leaves them out by default."""
    parser = importlib.import_module("llamafactory.hparams.parser")
    values = parser.read_args()
    return bool(values.get("skip_special_tokens", True)) if isinstance(values, dict) else True


def make_key(row: dict[str, Any]) -> str:
    """Return what tells a row from others: its prompt, its wanted answer and its pictures, by hash."""
    media = [row.get(name) for name in ("images", "videos", "audios")]
    text = json.dumps([row["input_ids"], row["labels"], media], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_answers(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a file of answers holds, by key; a line that is not whole is left out."""
    known: dict[str, dict[str, Any]] = {}
    if not path.is_file():
        return known
    with path.open("rb") as stream:
        for line in stream:
            try:
                value = json.loads(line)
                key = value.pop("key")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
            if isinstance(key, str) and isinstance(value.get("predict", ""), str):
                known.setdefault(key, {}).update(value)
    return {key: value for key, value in known.items() if "predict" in value}


def end_broken_line(path: Path, stream: Any) -> None:
    """Begin a new line where an earlier process was ended in the middle of one."""
    with path.open("rb") as written:
        written.seek(0, os.SEEK_END)
        if written.tell():
            written.seek(-1, os.SEEK_END)
            if written.read(1) != b"\n":
                stream.write("\n")


def append(stream: Any, known: dict[str, dict[str, Any]], key: str, values: dict[str, Any]) -> None:
    """Note what is known of a row, in the file and in `known`."""
    known.setdefault(key, {}).update(values)
    stream.write(json.dumps({"key": key, **values}, ensure_ascii=False) + "\n")


def ask_or_halve(ask: Ask, trainer: Any, keys: Sequence[str], batch: Sequence[int]) -> list[tuple[str, int]] | None:
    """Return a batch's answers, None when it does not fit into memory and can be halved."""
    torch = importlib.import_module("torch")
    # A row's sampling does not depend on what was answered before it.
    torch.manual_seed(int(keys[batch[0]][:12], 16) ^ int(trainer.args.seed))
    try:
        return ask(batch)
    except (RuntimeError, MemoryError) as error:
        if len(batch) < 2 or not answer_memory.is_out_of_memory(error):
            raise
    # Outside of the handler: the error holds the frames that hold the memory.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def show_bar(done: int, total: int) -> None:
    """Write how many rows are answered, as a progress bar does that the launcher reads."""
    share = 100 if not total else 100 * done // total
    sys.stderr.write(f"{share:3d}%|{'#' * (share // 10):<10}| {done}/{total} [rows answered]\n")
    sys.stderr.flush()


def write_lines(path: Path, values: Sequence[dict[str, Any]]) -> None:
    """Write a file of JSON lines whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
