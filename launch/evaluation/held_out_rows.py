"""The held-out rows in the order in which LLaMA-Factory asks them: where each stands, and what it says."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from launch.configs.rules import split_names
from prep.errors import InputError, RecordError
from prep.registry.dataset import Dataset, align_row, find_dataset, read_dataset_rows
from prep.rows.conversation import Message
from prep.rows.thinking import split_thought


@dataclass(frozen=True)
class HeldOutRow:
    """One row of a registered dataset: `path` and `number` (from 1) are where it stands; `origin` what it says."""

    dataset: str
    path: Path
    number: int
    origin: str
    values: dict[str, Any]
    source: Dataset

    @property
    def place(self) -> dict[str, Any]:
        """What traces the row: its dataset, its file and row there, and where that row once came from."""
        return {
            "dataset": self.dataset,
            "file": self.path.as_posix(),
            "file_row": self.number,
            "origin": self.origin,
        }

    def write_request(self, *, with_thought: bool = True) -> tuple[dict[str, Any], str]:
        """Return what is asked, OpenAI's `messages` and maybe `tools`, and the answer that is wanted.

        Raises: InputError when the row cannot be asked so.
        """
        conversation = align_row(self.values, self.source)
        *earlier, (role, wanted) = conversation.messages
        if role not in (Message.ASSISTANT, Message.FUNCTION) or not earlier:
            raise InputError(f"{self.path} row {self.number} does not end with an answer")
        messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
        messages += [_write_message(*message) for message in earlier]
        request: dict[str, Any] = {"messages": messages}
        if conversation.tools.strip():
            request["tools"] = [_write_tool(tool) for tool in _read_json(conversation.tools, list)]
        return request, wanted if with_thought else _drop_thought(wanted)


def read_held_out_rows(eval_dataset: object, dataset_dir: Path, max_samples: int | None = None) -> list[HeldOutRow]:
    """Return the rows of some registered datasets, one dataset after the other.

    Raises: InputError or RegistryError when a dataset cannot be read.
    """
    return [
        row
        for name in split_names(eval_dataset)
        if name
        for row in islice(_read_dataset(name, dataset_dir), max_samples)
    ]


def locate_rows(config: Mapping[str, Any], count: int) -> list[HeldOutRow] | None:
    """Return where the rows of a prediction stand, None when its datasets hold another number of rows."""
    folder = Path(str(config.get("dataset_dir") or "data"))
    most = config.get("max_samples")
    rows = read_held_out_rows(config.get("eval_dataset"), folder, most if isinstance(most, int) else None)
    # LLaMA-Factory leaves rows out that do not begin with a question: then nothing tells which is which.
    return rows if len(rows) == count else None


def _read_dataset(name: str, folder: Path) -> Iterator[HeldOutRow]:
    dataset = find_dataset(name, folder)
    for path, number, values in read_dataset_rows(dataset):
        yield HeldOutRow(name, path, number, str(values.get("origin") or ""), values, dataset)


def _write_message(role: str, text: str) -> dict[str, Any]:
    if role == Message.FUNCTION:
        calls = _read_json(text, (list, dict))
        return {"role": "assistant", "content": "", "tool_calls": _write_calls(calls)}
    return {"role": "tool" if role == Message.OBSERVATION else role, "content": text}


def _write_calls(calls: Any) -> list[dict[str, Any]]:
    written = []
    for number, call in enumerate(calls if isinstance(calls, list) else [calls]):
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise InputError("a function call has no name")
        arguments = json.dumps(call.get("arguments", {}), ensure_ascii=False)
        function = {"name": call["name"], "arguments": arguments}
        written.append({"id": f"call_{number}", "type": "function", "function": function})
    return written


def _write_tool(tool: Any) -> dict[str, Any]:
    return tool if isinstance(tool, dict) and "function" in tool else {"type": "function", "function": tool}


def _read_json(text: str, kinds: type | tuple[type, ...]) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"tools or function calls that are no JSON: {error}") from error
    if not isinstance(value, kinds):
        raise InputError("tools or function calls of another shape than LLaMA-Factory's")
    return value


def _drop_thought(text: str) -> str:
    try:
        return split_thought(text)[1]
    except RecordError:
        return text
