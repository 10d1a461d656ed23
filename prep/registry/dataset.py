"""What a file or a registered name means to LLaMA-Factory: its files, columns, tags and think policy."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prep.choices import ThinkPolicy
from prep.errors import InputError, RegistryError, UserError
from prep.registry.dataset_info import FILE_NAME, SHAREGPT_TAGS, read_registry, unknown_name
from prep.rows.conversation import Conversation, Message
from prep.rows.indexing import ROW_FORMS
from prep.rows.json_rows import describe_bad_row, iter_json_rows
from prep.rows.kinds import Kind, find_form, get_form
from prep.rows.records import is_text_pair
from prep.storage.manifests import manifest_path, read_manifest
from prep.storage.paths import is_file
from prep.storage.row_index import RowIndex, read_index
from prep.wording import in_shell

# LLaMA-Factory's own default, data/parser.py; a `columns` map replaces it as a whole.
DEFAULT_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
FORMATTINGS = ("alpaca", "sharegpt", "openai")
_OWN_NAMES = {"response": "output", "chosen": "chosen", "rejected": "rejected"}
_REGISTER_AGAIN = "lfc prep register FILE --name NAME --replace writes the whole entry"
# What a file of SFT rows that nobody registered yet is read as: everything that such a file can have.
_BARE_COLUMNS = {**DEFAULT_COLUMNS, "system": "system", "history": "history", "tools": "tools"}


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
    kind: Kind = Kind.SFT


def find_dataset(target: str, dataset_dir: Path) -> Dataset:
    """Return the dataset that a command's argument names: a file, or a name in dataset_info.json.

    Raises: InputError when there is neither; RegistryError when the registry is broken or the file is missing.
    """
    path = Path(target)
    if is_file(path):
        return _describe_bare_file(path)
    is_name = len(path.parts) == 1 and is_file(dataset_dir / FILE_NAME)
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
    """Return the dataset that a registry entry describes.

    Raises: RegistryError when its file is missing, or the entry says something that LLaMA-Factory cannot use.
    """
    paths = list_entry_files(entry, dataset_dir)
    if not paths:
        raise RegistryError(
            f"dataset '{name}': its file {dataset_dir / str(entry.get('file_name'))} does not exist"
        )
    formatting = entry.get("formatting", "alpaca")
    if formatting not in FORMATTINGS:
        raise RegistryError(
            f"dataset '{name}': formatting {formatting!r} is unknown; allowed are {', '.join(FORMATTINGS)}",
            hint=_REGISTER_AGAIN,
        )
    columns = _read_map(name, entry, "columns", DEFAULT_COLUMNS)
    return Dataset(
        paths=paths,
        name=name,
        formatting=formatting,
        columns=columns,
        tags=_read_map(name, entry, "tags", SHAREGPT_TAGS),
        policy=_read_policy(paths[0]),
        kind=find_entry_kind(entry, columns),
    )


def find_entry_kind(entry: dict[str, Any], columns: dict[str, str]) -> Kind:
    """Return what the rows of an entry are for, as LLaMA-Factory's converters take them."""
    if entry.get("ranking"):
        return Kind.PREFERENCE
    if "kto_tag" in columns:
        return Kind.KTO
    is_alpaca = entry.get("formatting", "alpaca") == "alpaca"
    return Kind.TEXT if is_alpaca and not columns.keys() & {"query", "response"} else Kind.SFT


def _read_map(name: str, entry: dict[str, Any], key: str, default: dict[str, str]) -> dict[str, str]:
    """Return an entry's columns or tags; null is LLaMA-Factory's word for a column that is not there."""
    found = entry.get(key)
    if found is None:
        return dict(default)
    if not isinstance(found, dict) or not all(value is None or isinstance(value, str) for value in found.values()):
        raise RegistryError(f"dataset '{name}': {key} is not an object of strings", hint=_REGISTER_AGAIN)
    return {ours: theirs for ours, theirs in found.items() if theirs is not None}


def list_entry_files(entry: dict[str, Any], dataset_dir: Path) -> tuple[Path, ...]:
    """Return the files of a registry entry, sorted; none when they are not on this disk."""
    file_name = entry.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        return ()
    path = dataset_dir / file_name
    try:
        if path.is_dir():
            return tuple(sorted(child for child in path.iterdir() if is_file(child)))
    except (OSError, ValueError):
        return ()
    return (path,) if is_file(path) else ()


def find_own_index(dataset: Dataset, path: Path) -> RowIndex | None:
    """Return the row index of one of a dataset's files, if the dataset reads the columns that it tells of.

    None for a file that convert, mix or split did not write, or that was changed since.
    """
    if dataset.tags != SHAREGPT_TAGS or dataset.formatting not in ("alpaca", "sharegpt"):
        return None
    form = next(
        (form for form in ROW_FORMS if (form.kind, form.formatting) == (dataset.kind, dataset.formatting)), None
    )
    if form is None or any(dataset.columns.get(ours) != theirs for ours, theirs in form.columns.items()):
        return None
    index = read_index(path, read_manifest(path))
    return index if index is not None and (index.column("kind") == ROW_FORMS.index(form)).all() else None


def count_noted_rows(dataset: Dataset) -> int:
    """Return the rows that the manifests of a dataset's files tell of, 0 when one of them tells of none."""
    counts = []
    for path in dataset.paths:
        with suppress(UserError):
            manifest = read_manifest(path)
            counts.append(manifest.counts.get("records", 0) if manifest else 0)
    return sum(counts) if len(counts) == len(dataset.paths) and all(counts) else 0


def read_dataset_rows(dataset: Dataset) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Yield (file, line, row) of every row, in order; in a JSON array the number is the element's.

    Raises: InputError at the first row that is no JSON object, with its file and line.
    """
    for path in dataset.paths:
        for number, row in iter_json_rows(path):
            if not isinstance(row, dict):
                raise InputError(
                    f"{path} line {number}: {describe_bad_row(row)}",
                    hint=f"lfc prep lint {in_shell(path)} tells all",
                )
            yield path, number, row


def align_row(row: dict[str, Any], dataset: Dataset) -> Conversation:
    """Return a row's messages as LLaMA-Factory's converters align them.

    Raises: InputError with the reason when the row cannot be aligned.
    Source: LLaMA-Factory 0.9.5, data/converter.py.
    """
    return _align_alpaca(row, dataset) if dataset.formatting == "alpaca" else _align_sharegpt(row, dataset)


def _align_alpaca(row: dict[str, Any], dataset: Dataset) -> Conversation:
    values = {ours: row.get(theirs) for ours, theirs in dataset.columns.items()}
    history = values.get("history") or []
    if not isinstance(history, list) or not all(map(is_text_pair, history)):
        raise InputError("its history is not a list of [question, answer] pairs")
    messages: list[tuple[str, str]] = []
    for question, answer in history:
        messages += [(Message.USER, question), (Message.ASSISTANT, answer)]
    asked = [text for name in ("prompt", "query") if (text := _read_text(values, name, dataset))]
    messages.append((Message.USER, "\n".join(asked)))
    system, tools = _read_text(values, "system", dataset), _read_text(values, "tools", dataset)
    if dataset.kind is Kind.TEXT:
        return Conversation(system, messages, tools)
    names = ("chosen", "rejected") if dataset.kind is Kind.PREFERENCE else ("response",)
    answers = []
    for name in names:
        answer = values.get(name)
        if not isinstance(answer, str):
            raise InputError(_describe_type(dataset.columns.get(name, _OWN_NAMES[name]), answer))
        answers.append(answer)
    _check_label(values, dataset)
    messages.append((Message.ASSISTANT, answers[0]))
    return Conversation(system, messages, tools, answers[1] if dataset.kind is Kind.PREFERENCE else None)


def _check_label(values: dict[str, Any], dataset: Dataset) -> None:
    """Raise InputError when a KTO row has no label: LLaMA-Factory would train on it as on SFT, then drop it."""
    if dataset.kind is Kind.KTO and type(values.get("kto_tag")) is not bool:
        column, label = dataset.columns["kto_tag"], values.get("kto_tag")
        seen = "null" if label is None else type(label).__name__
        raise InputError(f"column '{column}' is {seen}, not true or false")


def _align_sharegpt(row: dict[str, Any], dataset: Dataset) -> Conversation:
    tags = dataset.tags
    values = {ours: row.get(theirs) for ours, theirs in dataset.columns.items()}
    roles = {
        tags.get("user_tag"): Message.USER,
        tags.get("assistant_tag"): Message.ASSISTANT,
        tags.get("observation_tag"): Message.OBSERVATION,
        tags.get("function_tag"): Message.FUNCTION,
    }
    system = _read_text(values, "system", dataset)
    try:
        if any("tool_calls" in turn for turn in values.get("messages") or ()):
            raise InputError("a turn's tool_calls are not read here")
        pairs = [(turn[tags["role_tag"]], turn[tags["content_tag"]]) for turn in values.get("messages") or ()]
        if pairs and pairs[0][0] == tags.get("system_tag"):
            system = pairs.pop(0)[1]
        if dataset.kind is Kind.PREFERENCE:
            turns: list[Any] = [values["chosen"], values["rejected"]]
            pairs += [(turn[tags["role_tag"]], turn[tags["content_tag"]]) for turn in turns]
        messages = [(roles[role], content) for role, content in pairs]
        rejected = messages.pop() if dataset.kind is Kind.PREFERENCE else None
    except (KeyError, TypeError):
        raise InputError("its turns do not carry the dataset's tags") from None
    sides = [role in (Message.USER, Message.OBSERVATION) for role, _ in messages]
    if not sides or sides != [True, False] * (len(sides) // 2):
        raise InputError("its turns do not go question, answer, question, answer")
    if rejected is not None and rejected[0] not in (Message.ASSISTANT, Message.FUNCTION):
        raise InputError("its rejected turn is no answer")
    texts = [content for _, content in [*messages, *([rejected] if rejected else [])]]
    if not all(isinstance(content, str) for content in (system, *texts)):
        raise InputError("a turn's content is not a string")
    _check_label(values, dataset)
    tools = _read_text(values, "tools", dataset)
    if rejected is None:
        return Conversation(system, messages, tools)
    return Conversation(system, messages, tools, rejected[1], rejected[0])


def _read_text(values: dict[str, Any], name: str, dataset: Dataset) -> str:
    """Return a column's text, "" for null; raises InputError when it is something else."""
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(_describe_type(dataset.columns.get(name, name), value))
    return value


def _describe_type(column: str, value: object) -> str:
    seen = "null" if value is None else type(value).__name__
    return f"a column that is read is not a string: '{column}' is {seen}"


def _describe_bare_file(path: Path) -> Dataset:
    manifest = read_manifest(path)
    form = find_form(_peek_row(path))
    formatting = manifest.output.get("formatting") if manifest else None
    if formatting not in FORMATTINGS:
        formatting = form.formatting
    columns = dict(_BARE_COLUMNS) if form.kind is Kind.SFT else {}
    columns |= get_form(form.kind, formatting).all_columns if formatting != "openai" else form.all_columns
    return Dataset(paths=(path,), formatting=formatting, columns=columns, policy=_read_policy(path), kind=form.kind)


def _peek_row(path: Path) -> dict[str, Any]:
    # A broken file is told of by whoever reads it in earnest.
    with suppress(InputError):
        return next((row for _, row in iter_json_rows(path) if isinstance(row, dict)), {})
    return {}


def _read_policy(path: Path) -> ThinkPolicy | None:
    manifest = read_manifest(path)
    if manifest is None or not manifest.think_policy:
        return None
    if manifest.think_policy not in list(ThinkPolicy):
        raise InputError(
            f"{manifest_path(path)}: think policy {manifest.think_policy!r} is unknown; "
            f"allowed are {', '.join(ThinkPolicy)}",
            hint="make the data file again",
        )
    return ThinkPolicy(manifest.think_policy)
