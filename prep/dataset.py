"""What a file or a registered name means to LLaMA-Factory: its files, columns, tags and think policy."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prep.errors import InputError, RegistryError
from prep.files import read_manifest
from prep.registry import FILE_NAME, SHAREGPT_TAGS, guess_formatting, read_registry, unknown_name
from prep.rows import iter_json_rows
from prep.thinking import ThinkPolicy

# LLaMA-Factory's own default, data/parser.py; a `columns` map replaces it as a whole.
DEFAULT_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
# What a file that nobody registered yet is read as: everything that an Alpaca or ShareGPT file can have.
_BARE_COLUMNS = {**DEFAULT_COLUMNS, "system": "system", "history": "history", "tools": "tools"}


class Message:
    """The roles of LLaMA-Factory's aligned messages."""

    USER = "user"
    ASSISTANT = "assistant"
    OBSERVATION = "observation"
    FUNCTION = "function"


@dataclass(frozen=True)
class Dataset:
    """One dataset: `name` is None for a file that was named by its path.

    Shape: `columns` maps LLaMA-Factory's column names to the file's; a column that is not in it is not read.
    """

    paths: tuple[Path, ...]
    name: str | None = None
    formatting: str = "alpaca"
    columns: dict[str, str] = field(default_factory=lambda: dict(_BARE_COLUMNS))
    tags: dict[str, str] = field(default_factory=lambda: dict(SHAREGPT_TAGS))
    policy: ThinkPolicy | None = None


@dataclass(frozen=True)
class Conversation:
    """A row as LLaMA-Factory aligns it: `messages` are (role, content), users and assistants in turn."""

    system: str
    messages: list[tuple[str, str]]
    tools: str = ""


def find_dataset(target: str, dataset_dir: Path) -> Dataset:
    """Return the dataset that a command's argument names: a file, or a name in dataset_info.json.

    Raises: InputError when there is neither; RegistryError when the registry is broken or the file is missing.
    """
    path = Path(target)
    if path.is_file():
        return _describe_bare_file(path)
    is_name = len(path.parts) == 1 and (dataset_dir / FILE_NAME).exists()
    entries = read_registry(dataset_dir) if is_name else {}
    if target in entries:
        return read_entry(target, entries[target], dataset_dir)
    if is_name and not path.suffix:
        raise unknown_name(target, entries, dataset_dir / FILE_NAME)
    raise InputError(
        f"{target} does not exist or is not a file",
        hint="name a file, or a registered dataset with its --dataset-dir",
    )


def read_entry(name: str, entry: dict[str, Any], dataset_dir: Path) -> Dataset:
    """Return the dataset that a registry entry describes; raises RegistryError when its file is missing."""
    paths = list_entry_files(entry, dataset_dir)
    if not paths:
        raise RegistryError(
            f"dataset '{name}': its file {dataset_dir / str(entry.get('file_name'))} does not exist"
        )
    columns, tags = entry.get("columns"), entry.get("tags")
    return Dataset(
        paths=paths,
        name=name,
        formatting=str(entry.get("formatting", "alpaca")),
        columns=dict(columns) if isinstance(columns, dict) else dict(DEFAULT_COLUMNS),
        tags=dict(tags) if isinstance(tags, dict) else dict(SHAREGPT_TAGS),
        policy=_read_policy(paths[0]),
    )


def list_entry_files(entry: dict[str, Any], dataset_dir: Path) -> tuple[Path, ...]:
    """Return the files of a registry entry, sorted; none when they are not on this disk."""
    file_name = entry.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        return ()
    path = dataset_dir / file_name
    if path.is_dir():
        return tuple(sorted(child for child in path.iterdir() if child.is_file()))
    return (path,) if path.is_file() else ()


def read_dataset_rows(dataset: Dataset) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Yield (file, line, row) of every row, in order; in a JSON array the number is the element's.

    Raises: InputError at the first row that is no JSON object, with its file and line.
    """
    for path in dataset.paths:
        for number, row in iter_json_rows(path):
            if not isinstance(row, dict):
                raise InputError(
                    f"{path} line {number}: {_describe_bad_row(row)}", hint=f"lfc prep lint {path} tells all"
                )
            yield path, number, row


def align_row(row: dict[str, Any], dataset: Dataset) -> Conversation:
    """Return a row's messages as LLaMA-Factory's converters align them.

    Raises: InputError with the reason when the row cannot be aligned.
    Source: LLaMA-Factory 0.9.5, data/converter.py.
    """
    return _align_sharegpt(row, dataset) if dataset.formatting == "sharegpt" else _align_alpaca(row, dataset)


def _align_alpaca(row: dict[str, Any], dataset: Dataset) -> Conversation:
    values = {ours: row.get(theirs) for ours, theirs in dataset.columns.items()}
    messages: list[tuple[str, str]] = []
    history = values.get("history")
    try:
        for question, answer in history if isinstance(history, list) else ():
            messages += [(Message.USER, question), (Message.ASSISTANT, answer)]
    except (TypeError, ValueError):
        raise InputError("its history is not a list of [question, answer] pairs") from None
    question = [values[name] for name in ("prompt", "query") if values.get(name)]
    messages.append((Message.USER, "\n".join(question) if all(isinstance(q, str) for q in question) else ""))
    messages.append((Message.ASSISTANT, values.get("response") or ""))
    if not all(isinstance(content, str) for _, content in messages) or not isinstance(values.get("response"), str):
        raise InputError("a column that is read is not a string")
    return Conversation(str(values.get("system") or ""), messages, str(values.get("tools") or ""))


def _align_sharegpt(row: dict[str, Any], dataset: Dataset) -> Conversation:
    tags = dataset.tags
    roles = {
        tags.get("user_tag"): Message.USER,
        tags.get("assistant_tag"): Message.ASSISTANT,
        tags.get("observation_tag"): Message.OBSERVATION,
        tags.get("function_tag"): Message.FUNCTION,
    }
    system = row.get(dataset.columns.get("system", "")) or ""
    turns = row.get(dataset.columns.get("messages", ""))
    try:
        pairs = [(turn[tags["role_tag"]], turn[tags["content_tag"]]) for turn in turns or ()]
        if pairs and pairs[0][0] == tags.get("system_tag"):
            system = pairs.pop(0)[1]
        messages = [(roles[role], content) for role, content in pairs]
    except (KeyError, TypeError):
        raise InputError("its turns do not carry the dataset's tags") from None
    sides = [role in (Message.USER, Message.OBSERVATION) for role, _ in messages]
    if not sides or sides != [True, False] * (len(sides) // 2):
        raise InputError("its turns do not go question, answer, question, answer")
    if not all(isinstance(content, str) for _, content in messages):
        raise InputError("a turn's content is not a string")
    return Conversation(str(system), messages, str(row.get(dataset.columns.get("tools", "")) or ""))


def _describe_bare_file(path: Path) -> Dataset:
    manifest = read_manifest(path)
    formatting = manifest.output.get("formatting") if manifest else None
    if formatting is None:
        formatting = guess_formatting(_peek_row(path))
    return Dataset(paths=(path,), formatting=str(formatting), policy=_read_policy(path))


def _peek_row(path: Path) -> dict[str, Any]:
    # A broken file is told of by whoever reads it in earnest.
    with suppress(InputError):
        return next((row for _, row in iter_json_rows(path) if isinstance(row, dict)), {})
    return {}


def _read_policy(path: Path) -> ThinkPolicy | None:
    manifest = read_manifest(path)
    return ThinkPolicy(manifest.think_policy) if manifest and manifest.think_policy else None


def _describe_bad_row(value: object) -> str:
    if isinstance(value, Exception):
        return f"not JSON: {value}"
    return f"a JSON {type(value).__name__}, not an object"
