"""Rules of the datasets that a config names: they are there, of the stage, and of rows as their entry says."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.configs.rules.base import Setting, any_rule, train_rule
from launch.configs.rules.data.files import DATASET_KEYS, FILE_TYPES, NamedDataset, list_named, read_first_rows
from launch.configs.rules.data.rows import is_file_dataset, read_entry, reads_datasets
from prep.errors import UserError
from prep.quality.findings import Finding, Severity, at_key
from prep.registry.dataset import DEFAULT_COLUMNS, FORMATTINGS, Dataset, align_row
from prep.registry.dataset import read_entry as read_dataset
from prep.registry.dataset_info import find_dataset_file
from prep.rows.kinds import MEDIA, Kind
from prep.storage.changed_inputs import find_changed_inputs
from prep.storage.os_errors import describe_os_error
from prep.wording import in_shell

# What a dataset holds, by its entry in dataset_info.json, and the stages that take it.
_HOLDS = {
    "rows": "plain answers",
    "pairs": "preferred and rejected answers (ranking)",
    "labels": "labelled answers (kto_tag)",
    "texts": "texts without answers",
}
_STAGES = {"rows": "sft", "pairs": "dpo", "labels": "kto", "texts": "pt"}
_TAKES = {
    "dpo": ("pairs",),
    "rm": ("pairs",),
    "kto": ("labels",),
    "pt": ("texts", "rows", "labels"),
    "ppo": ("rows", "labels", "texts"),
    "sft": ("rows",),
}
# What the converter of each formatting looks up in every row; openai's takes a row without a system prompt.
_READS = {
    "alpaca": ("history", "prompt", "query", "system"),
    "sharegpt": ("messages", "system"),
    "openai": ("messages",),
}
_REGISTER = "lfc prep register FILE --name NAME --replace writes the whole entry"
# datasets reads JSON in blocks of this size, and a column that any row of the first has is there for all.
_BLOCK_BYTES = 10 << 20


@any_rule
def datasets_are_readable(setting: Setting) -> Iterator[Finding]:
    """Run: `Undefined dataset … in dataset_info.json`, `File … not found`, minutes after launch."""
    for key in DATASET_KEYS:
        for name in setting.names(key):
            try:
                if is_file_dataset(name, setting.dataset_dir):
                    path = find_dataset_file(name, setting.dataset_dir)
                    with path.open("rb") as stream:
                        stream.read(1)
            except UserError as error:
                yield at_key(key, str(error), error.hint or "lfc prep register FILE --name NAME --dataset-dir DIR")
            except OSError as error:
                reason = describe_os_error(error)
                yield at_key(key, f"'{name}' cannot be read: {reason}", "give yourself the right to read it")


@train_rule
def datasets_are_of_their_inputs(setting: Setting) -> Iterator[Finding]:
    """Source: the manifests: a file that was made before its input changed trains what nobody has any more."""
    for key in DATASET_KEYS:
        for name in setting.names(key):
            try:
                if not is_file_dataset(name, setting.dataset_dir):
                    continue
                changed = list(find_changed_inputs(find_dataset_file(name, setting.dataset_dir)))
            except UserError:
                continue
            for one in changed:
                message = f"'{name}' comes from {one.path}, which has changed since {one.made} was made from it"
                yield at_key(key, message, one.command, severity=Severity.WARNING)


@train_rule
def datasets_are_of_the_stage(setting: Setting) -> Iterator[Finding]:
    """Source: data/loader.py: `The dataset is not applicable in the current training stage`.

    Run: stage kto drops all rows without a kto_tag, and sft all with one, or without an answer: `Cannot find valid
    samples`. Stage pt takes the first message of a row alone.
    """
    stage = setting["stage"]
    if not reads_datasets(setting):
        return
    for key in DATASET_KEYS:
        for name in setting.names(key):
            entry = read_entry(name, setting.dataset_dir)
            if not entry:
                continue
            holds, wanted = _find_content(entry), _TAKES.get(stage, ("rows",))
            if key == "eval_dataset" and setting["predict_with_generate"]:
                # Of these rows only the prompts are needed.
                wanted = ("rows", "labels", "texts")
            if holds not in wanted:
                yield at_key(
                    key,
                    f"'{name}' holds {_HOLDS[holds]}, and stage {stage} needs {_HOLDS[wanted[0]]}",
                    f"stage: {_STAGES[holds]}, or a dataset with {_HOLDS[wanted[0]]}",
                )
            elif stage == "pt" and holds != "texts":
                message = f"'{name}' holds {_HOLDS[holds]}, of which stage pt trains the questions alone"
                yield at_key(key, message, "stage: sft, or a dataset of texts", severity=Severity.WARNING)


@train_rule
def entries_can_be_loaded(setting: Setting) -> Iterator[Finding]:
    """Source: data/parser.py, converter.py, and loader.py: `Allowed file types`, `File types should be …`."""
    for named in list_named(setting):
        formatting = named.entry.get("formatting", "alpaca")
        if formatting not in FORMATTINGS:
            message = f"'{named.name}' has formatting {formatting!r}; known are {', '.join(FORMATTINGS)}"
            yield at_key(named.key, message, _REGISTER)
        if not named.files:
            if not named.entry.get("file_name"):
                yield at_key(named.key, f"the entry of '{named.name}' names no file and no hub", _REGISTER)
            elif (setting.dataset_dir / str(named.entry["file_name"])).is_dir():
                yield at_key(named.key, f"the folder of '{named.name}' is empty", "put its data files there")
            continue
        types = {FILE_TYPES.get(path.suffix.lstrip(".")) for path in named.files}
        if None in types:
            odd = next(path for path in named.files if path.suffix.lstrip(".") not in FILE_TYPES)
            message = f"{odd.name} of '{named.name}' is none of {', '.join(sorted(FILE_TYPES))}"
            yield at_key(
                named.key,
                message,
                f"lfc prep convert {in_shell(odd)} -o {in_shell(odd.with_suffix('.jsonl').name)}",
            )
        elif len(types) > 1:
            yield at_key(
                named.key, f"the files of '{named.name}' are of several types", "one type of file in a folder"
            )


@train_rule
def rows_have_what_their_entry_says(setting: Setting) -> Iterator[Finding]:
    """Run: `KeyError: 'question'` in data/converter.py, `An error occurred while generating the dataset`.

    Run: rows whose answer is no text are dropped, until `Cannot find valid samples`.
    """
    for named in list_named(setting):
        entry = named.entry
        if not named.files or entry.get("formatting", "alpaca") not in FORMATTINGS:
            continue
        try:
            rows = read_first_rows(named.files[0])
        except (UserError, ValueError, csv.Error) as error:
            yield at_key(named.key, f"'{named.name}' cannot be read: {error}", "lfc prep lint FILE tells all")
            continue
        if rows is None:
            continue
        if not rows:
            yield at_key(named.key, f"'{named.name}' has no rows", "a dataset with rows")
            continue
        absent = [name for name in _list_columns(entry) if not _is_there(name, rows, named.files[0])]
        if absent:
            seen = ", ".join(map(str, rows[0]))
            what = f"reads column '{absent[0]}', which its rows have not: they have {seen}"
            yield at_key(named.key, f"'{named.name}' {what}", _REGISTER)
        elif _needs_answers(named, setting) and (reason := _explain_unusable(named, setting.dataset_dir, rows)):
            message = f"of '{named.name}' no row can be trained: {reason}"
            yield at_key(named.key, message, "lfc prep lint FILE tells all")


def _needs_answers(named: NamedDataset, setting: Setting) -> bool:
    if named.key == "eval_dataset" and setting["predict_with_generate"]:
        return False
    return setting["stage"] not in ("pt", "ppo")


def _find_content(entry: dict[str, Any]) -> str:
    """Return what a dataset's rows are, as its entry says: a key of `_HOLDS`."""
    columns = entry.get("columns")
    if entry.get("ranking"):
        return "pairs"
    if not isinstance(columns, dict):
        return "rows"
    if columns.get("kto_tag"):
        return "labels"
    answers = columns.get("response") or columns.get("messages")
    return "texts" if entry.get("formatting", "alpaca") == "alpaca" and not answers else "rows"


def _list_columns(entry: dict[str, Any]) -> list[str]:
    """Return the columns of the file that LLaMA-Factory's converter looks up in each row."""
    columns = entry.get("columns", DEFAULT_COLUMNS)
    if not isinstance(columns, dict):
        return []
    formatting = entry.get("formatting", "alpaca")
    wanted = [*_READS[formatting], "tools", "kto_tag", *MEDIA]
    if entry.get("ranking"):
        wanted += ["chosen", "rejected"]
    elif formatting == "alpaca":
        wanted += ["response"]
    named = [columns.get(name) for name in wanted]
    return [str(name) for name in named if name]


def _is_there(column: str, rows: list[dict[str, Any]], file: Path) -> bool:
    if any(column in row for row in rows):
        return True
    if FILE_TYPES[file.suffix.lstrip(".")] != "json":
        return False
    with file.open("rb") as stream:
        return f'"{column}"'.encode() in stream.read(_BLOCK_BYTES)


def _explain_unusable(named: NamedDataset, dataset_dir: Path, rows: list[dict[str, Any]]) -> str:
    """Say why none of the first rows would be trained, "" when one would be or it is not known."""
    try:
        dataset = read_dataset(named.name, named.entry, dataset_dir)
    except UserError:
        return ""
    if dataset.kind is Kind.TEXT or dataset.formatting == "openai":
        return ""
    reasons = [_find_reason(row, dataset) for row in rows]
    return reasons[0] if all(reasons) else ""


def _find_reason(row: dict[str, Any], dataset: Dataset) -> str:
    try:
        align_row(row, dataset)
    except UserError as error:
        return str(error)
    return ""
