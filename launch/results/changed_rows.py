"""The rows whose answers changed most from the base's, side by side: JSONL for scripts, Markdown to read."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.results.scores import Prediction, RowScores
from prep.errors import InputError
from prep.storage.atomic import write_text
from prep.terminal import escape_json, neutralise
from prep.wording import count_of

CHANGED_ROWS = "changed_rows.jsonl"
CHANGED_ROWS_TO_READ = "changed_rows.md"
_MOST = 20
_MOST_CHARACTERS = 100_000_000
# What one number of a row's worth is made of; the other figures repeat these or count against them.
_WEIGHED = ("rouge_l", "maths", "think_format")
_LAST_QUESTION = re.compile(r"<\|im_start\|>user\n((?:(?!<\|im_start\|>).)*)<\|im_end\|>", re.DOTALL)


def write_changed_rows(
    folder: Path,
    base: str,
    predictions: Mapping[str, Sequence[Prediction]],
    scores: Mapping[str, Sequence[RowScores]],
) -> None:
    """Write `changed_rows.jsonl` and `changed_rows.md` into an evaluation's folder."""
    changes = rank_changes(base, predictions, scores)
    lines = [escape_json(json.dumps(row, ensure_ascii=False)) + "\n" for row in changes]
    write_text(folder / CHANGED_ROWS, "".join(lines))
    write_text(folder / CHANGED_ROWS_TO_READ, format_changes(changes))


def rank_changes(
    base: str, predictions: Mapping[str, Sequence[Prediction]], scores: Mapping[str, Sequence[RowScores]]
) -> list[dict[str, Any]]:
    """Return the rows that changed most, the greatest change first.

    A row's worth is the mean of its ROUGE-L, its maths and its think format; its change is the greatest step
    from the base's worth, up or down, that any other side made. Rows that no side changed are left out.
    Shape: {row, change, question, wanted, outputs: {side: text}, scores: {side: {figure: number}}}.
    """
    rows: list[dict[str, Any]] = []
    for place, first in enumerate(predictions[base]):
        worth = {name: weigh_row(scores[name][place]) for name in predictions}
        steps = [worth[name] - worth[base] for name in predictions if name != base]
        change = max(steps, key=abs, default=0.0)
        if not change:
            continue
        rows.append(
            {
                "row": place + 1,
                "change": round(change, 2),
                "question": read_question(first.prompt),
                "wanted": first.label.strip(),
                "outputs": {name: answers[place].output for name, answers in predictions.items()},
                "scores": {name: dict(answers[place]) for name, answers in scores.items()},
            }
        )
    rows.sort(key=lambda row: (-abs(row["change"]), row["row"]))
    return rows[:_MOST]


def weigh_row(scores: RowScores) -> float:
    """Return one number, from 0 to 100, for how good a row's answer is."""
    values = [scores[name] for name in _WEIGHED if name in scores]
    return sum(values) / len(values)


def read_question(prompt: str) -> str:
    """Return the last user turn of a prompt in Qwen's template; of another template, the whole prompt."""
    found = _LAST_QUESTION.findall(prompt)
    return str(found[-1] if found else prompt).strip()


def read_changed_rows(folder: Path) -> list[dict[str, Any]]:
    """Return what `write_changed_rows` wrote, none when the folder has none.

    Raises: InputError when the file is too large, or a line of it is no changed row.
    """
    path = folder / CHANGED_ROWS
    hint = f"remove {folder.as_posix()} and evaluate again"
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            text = stream.read(_MOST_CHARACTERS + 1)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=hint) from error
    if len(text) > _MOST_CHARACTERS:
        raise InputError(f"{path} has more than {_MOST_CHARACTERS:,} characters", hint=hint)
    rows = []
    # Not splitlines: an output may hold other line ends than \n.
    for number, line in enumerate(text.split("\n"), 1):
        row = _read_row(line) if line else None
        if line and row is None:
            raise InputError(f"{path} line {number} is no changed row", hint=hint)
        rows += [row] if row else []
    return rows


def _read_row(line: str) -> dict[str, Any] | None:
    """Return a line's changed row, None when it is not of the shape that `rank_changes` gives."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_whole = (
        isinstance(row, dict)
        and isinstance(row.get("row"), int)
        and isinstance(row.get("change"), (int, float))
        and all(isinstance(row.get(key), str) for key in ("question", "wanted"))
        and all(isinstance(row.get(key), dict) for key in ("outputs", "scores"))
        and all(isinstance(text, str) for text in row["outputs"].values())
        and all(
            isinstance(scores, dict) and all(isinstance(value, (int, float)) for value in scores.values())
            for scores in row["scores"].values()
        )
    )
    return row if is_whole else None


def format_changes(changes: Sequence[Mapping[str, Any]]) -> str:
    """Return the changed rows as Markdown: what was asked, what was wanted, what each side wrote.

    Control characters are spelled out, as on a terminal, on which it will be read.
    """
    lines = [f"# The {count_of(len(changes), 'row')} that changed most", ""]
    for row in changes:
        lines += [f"## Row {row['row']}: {row['change']:+.1f}", "", "**Question**", "", *_fence(row["question"])]
        lines += ["**Held-out row**", "", *_fence(row["wanted"])]
        for side, output in row["outputs"].items():
            figures = ", ".join(f"{name} {value:.1f}" for name, value in row["scores"][side].items())
            lines += [f"**{side}** ({figures})", "", *_fence(output)]
    return neutralise("\n".join(lines).rstrip() + "\n")


def _fence(text: str) -> list[str]:
    """Return a text as a code block, fenced by more backticks than stand in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text, fence, ""]
