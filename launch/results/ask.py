"""The same questions to a base model and to what was trained of it, side by side, without reference answers."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from launch.configs.config import RunConfig, format_config
from launch.results.evaluate import (
    BASE,
    Entrant,
    check_shared_base,
    read_predictions,
    set_mode,
    write_prediction_config,
)
from launch.runs.process import Poll
from launch.runs.run import next_attempt_folder, run_llamafactory
from prep.errors import InputError, OutputError, RecordError
from prep.html import Html, build_page, join, tag
from prep.rows.thinking import split_thought
from prep.storage.atomic import write_json, write_text
from prep.storage.bounded import read_bounded
from prep.storage.os_errors import explain_os_error
from prep.terminal import escape_json

ANSWERS_FILE = "answers.json"
PAGE = "answers.html"
_DATASET = "questions"
_MOST_QUESTIONS = 1_000
_MOST_BYTES = 4 << 20
# LLaMA-Factory leaves out a row without an answer; what stands here is neither asked nor shown.
_NO_ANSWER = "-"


@dataclass(frozen=True)
class Answer:
    """What one side answered to one question: its thought, "" where there is none, and the answer after it."""

    side: str
    thought: str
    text: str


def read_questions(path: Path) -> list[str]:
    """Return the questions of a text file, one a line.

    Raises: InputError when there is none or too many, or the file is not UTF-8; OutputError when it cannot be read.
    """
    with explain_os_error(path), path.open("rb") as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path} is larger than {_MOST_BYTES >> 20} MiB", hint="one question a line")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}", hint=f"iconv -f GB18030 -t UTF-8 {path}") from error
    # Not splitlines: a form feed or U+2028 ends no line of a text file.
    questions = list(filter(None, map(str.strip, re.split(r"\r\n?|\n", text))))
    if not questions:
        raise InputError(f"{path} holds no question", hint="one question a line")
    if len(questions) > _MOST_QUESTIONS:
        raise InputError(
            f"{path} holds {len(questions):,} questions, at most {_MOST_QUESTIONS:,} are allowed",
            hint="lfc launch eval scores many rows",
        )
    return questions


def plan_asking(
    configs: Mapping[str, Mapping[str, Any]],
    trained: Mapping[str, str],
    modes: Sequence[str],
    folder: Path,
    overrides: Mapping[str, Any],
) -> list[Entrant]:
    """Return every side: the base and each trained model, in each mode; "" is the config's own.

    Shape: `configs` are training configs by name; `trained` comes from `list_trained`.
    Raises: ConfigError when they do not share one base, or a template has no modes.
    """
    check_shared_base(configs, overrides)
    entrants = []
    for mode in modes:
        of_mode = set_mode(configs, think=mode == "think") if mode else configs
        first = next(iter(of_mode.values()))
        for name, source in {BASE: "", **trained}.items():
            makers = (config for config in of_mode.values() if source and config.get("output_dir") == source)
            maker = next(makers, first)
            side = f"{name}-{mode}" if mode else name
            config = write_prediction_config(
                {**maker, "dataset_dir": folder.as_posix()},
                trained=source,
                eval_dataset=_DATASET,
                output_dir=(folder / side / "predictions").as_posix(),
                overrides={**overrides, "dataset_dir": folder.as_posix()},
            )
            # Every question is asked, however few rows the training took.
            config.pop("max_samples", None)
            entrants.append(Entrant(side, source, config))
    return entrants


def ask(
    cli: Path,
    entrants: Sequence[Entrant],
    questions: Sequence[str],
    folder: Path,
    on_side: Callable[[str, Path], AbstractContextManager[Poll]],
) -> list[tuple[str, list[Answer]]]:
    """Let each side answer the questions; write answers.json and answers.html, and return (question, answers).

    What a side has answered already, in a folder of the same questions, is not asked again.
    Raises: OutputError when `folder` holds other questions or other sides, ChildFailedError, StackError.
    """
    _write_questions(folder, questions, entrants)
    for entrant in entrants:
        if (Path(entrant.config["output_dir"]) / "predict_results.json").is_file():
            continue
        run = next_attempt_folder(folder / entrant.name)
        text = format_config(entrant.config, header=f"Questions to {entrant.name}")
        with on_side(entrant.name, run / "log.txt") as on_poll:
            run_llamafactory(cli, "train", RunConfig(entrant.config, text), run, on_poll)
    table = list(zip(questions, _read_answers(entrants, len(questions)), strict=True))
    write_text(folder / PAGE, build_answers_page(folder.name, table))
    rows = [
        {"question": question, "answers": [answer.__dict__ for answer in answers]} for question, answers in table
    ]
    write_text(folder / ANSWERS_FILE, escape_json(json.dumps(rows, ensure_ascii=False, indent=2)) + "\n")
    return table


def _write_questions(folder: Path, questions: Sequence[str], entrants: Sequence[Entrant]) -> None:
    """Write the questions as a dataset of their own; raises OutputError when the folder holds others."""
    sides = {entrant.name: {**entrant.config, "output_dir": ""} for entrant in entrants}
    plan = json.loads(json.dumps({"questions": questions, "sides": sides}, default=str))
    noted = folder / "ask.json"
    if noted.exists():
        if _read_noted(noted) != plan:
            raise OutputError(f"{folder} holds other questions or other sides", hint="--name ANOTHER_NAME")
        return
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} exists already", hint="--name ANOTHER_NAME")
    write_dataset(folder, questions)
    write_json(noted, plan)


def _read_noted(path: Path) -> Any:
    """Return what a folder was made for, None where its note is broken: that fits nothing."""
    try:
        return json.loads(read_bounded(path))
    except (OSError, ValueError, RecursionError):
        return None


def write_dataset(folder: Path, questions: Sequence[str]) -> None:
    """Write questions as rows that LLaMA-Factory asks, registered in a folder of their own."""
    rows = [{"instruction": question, "input": "", "output": _NO_ANSWER} for question in questions]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{_DATASET}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_json(folder / "dataset_info.json", {_DATASET: {"file_name": f"{_DATASET}.jsonl"}})


def _read_answers(entrants: Sequence[Entrant], count: int) -> list[list[Answer]]:
    """Return each question's answers, in the order of the sides; raises InputError when a side left some out."""
    columns = []
    for entrant in entrants:
        predictions = read_predictions(Path(entrant.config["output_dir"]))
        if len(predictions) != count:
            raise InputError(
                f"{entrant.name} answered {len(predictions)} of {count} questions",
                hint="a larger cutoff_len=, for the longest of them",
            )
        columns.append([_split_answer(entrant.name, row.output) for row in predictions])
    return [list(row) for row in zip(*columns, strict=True)]


def _split_answer(side: str, output: str) -> Answer:
    try:
        thought, text = split_thought(output)
    except RecordError:
        # Unclosed, as at the limit of new tokens: shown as it is.
        thought, text = "", output
    return Answer(side, thought.strip(), text.strip())


def build_answers_page(title: str, table: Sequence[tuple[str, Sequence[Answer]]]) -> str:
    """Return the page: each question with its answers side by side, thoughts folded."""
    style = (files("launch") / "results" / "report.css").read_text(encoding="utf-8")
    heads = [answer.side for answer in table[0][1]] if table else []
    sections = [
        tag(
            "section",
            tag("h2", question),
            tag(
                "div",
                tag(
                    "table",
                    tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
                    tag("tbody", tag("tr", *(tag("td", _show_answer(answer)) for answer in answers))),
                ),
                class_="scroll",
            ),
        )
        for question, answers in table
    ]
    return build_page(f"{title} · lfc", style, tag("h1", title), *sections)


def _show_answer(answer: Answer) -> Html:
    text = tag("pre", answer.text)
    if not answer.thought:
        return text
    return join([tag("details", tag("summary", "thought"), tag("pre", answer.thought)), text])
