"""Medical chain of thought: columns question, think, answer (krisfu/delicate_medical_r1_data)."""

from collections.abc import Iterator
from typing import Any

from prep.errors import RecordError
from prep.records import Exchange

COLUMNS = ("question", "think", "answer")


def read_exchanges(row: dict[str, Any]) -> Iterator[Exchange]:
    """Yield the row's one exchange; raises RecordError when a column is not a string."""
    question, thought, answer = (row[name] for name in COLUMNS)
    for name, value in zip(COLUMNS, (question, thought, answer), strict=True):
        if not isinstance(value, str):
            raise RecordError(f"column '{name}' is {type(value).__name__}, not a string")
    yield Exchange(question, thought, answer)
