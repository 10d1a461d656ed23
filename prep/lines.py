"""Converted files as rows that stay on the disk: where each line lies, and what its record is."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prep.errors import InputError
from prep.files import Fingerprint
from prep.line_blocks import read_blocks
from prep.os_errors import explain_read_error
from prep.records import AlpacaRecord, ToolRecord, has_thought

_FIELDS = {"alpaca": AlpacaRecord._fields[:-1], "sharegpt": ToolRecord._fields[:-1]}
KINDS = ("reasoning", "chat", "with_system", "with_history")


class LineFile:
    """A JSONL whose lines are read one by one, in any order: 16 bytes a row in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("Q")
        self._sizes = array("Q")
        self._seen = Fingerprint.of(path)
        with explain_read_error(path):
            self._stream = path.open("rb")
        for block in read_blocks(path):
            start = block.start
            for line in block.data.split(b"\n"):
                if line and not line.isspace():
                    self._starts.append(start)
                    self._sizes.append(len(line))
                start += len(line) + 1
        if not self._starts:
            self._stream.close()
            raise InputError(f"{path} has no rows")

    def __len__(self) -> int:
        return len(self._starts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def read_line(self, place: int) -> bytes:
        """Return a row's bytes with its line end; places count from 0."""
        with explain_read_error(self.path):
            self._stream.seek(self._starts[place])
            return self._stream.read(self._sizes[place]).rstrip(b"\r") + b"\n"

    def read_record(self, place: int) -> dict[str, Any]:
        """Return a row as `lfc prep convert` wrote it; raises InputError when it did not."""
        import orjson

        try:
            record = orjson.loads(self.read_line(place))
        except orjson.JSONDecodeError as error:
            raise InputError(f"{self.path} row {place + 1}: not JSON: {error}") from error
        form = "sharegpt" if isinstance(record, dict) and "conversations" in record else "alpaca"
        missing = [name for name in _FIELDS[form] if not isinstance(record, dict) or name not in record]
        if missing:
            raise InputError(
                f"{self.path} row {place + 1} has no '{missing[0]}': it is no converted row",
                hint=f"lfc prep convert {self.path} -o NEW",
            )
        return dict(record)

    def check_unchanged(self) -> None:
        """Raise InputError when the file is no longer the one whose lines were found."""
        self._seen.check(self.path)

    def read_records(self) -> Iterator[dict[str, Any]]:
        """Yield every row in the file's order."""
        return (self.read_record(place) for place in range(len(self)))


def form_of(record: dict[str, Any]) -> str:
    """Return LLaMA-Factory's `formatting` of a converted row: alpaca or sharegpt."""
    return "sharegpt" if "conversations" in record else "alpaca"


def count_kinds(records: Iterable[dict[str, Any]]) -> Counter[str]:
    """Count reasoning and chat rows, and rows with a system prompt or a history."""
    counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for record in records:
        counts.update(kinds_of(record))
    return counts


def kinds_of(record: dict[str, Any]) -> Counter[str]:
    """Count one row's kinds."""
    if form_of(record) == "sharegpt":
        output, has_history = record["conversations"][-1]["value"], len(record["conversations"]) > 2
    else:
        output, has_history = record["output"], bool(record["history"])
    kind = "reasoning" if has_thought(output) else "chat"
    return Counter({kind: 1, "with_system": bool(record["system"]), "with_history": has_history})
