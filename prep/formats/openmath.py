"""Mathematics with solutions that carry their own think tags (nvidia/OpenMathReasoning)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats.fields import read_text
from prep.formats.reading import Reading, note_markup
from prep.rows.records import Exchange

REQUIRED = ("problem", "generated_solution")
PLAIN = {"problem": "question", "generated_solution": "answer"}
# What NVIDIA's own sets say of a solution, and what it repeats.
METADATA = (("expected_answer",), ("tool",), ("message",), ("changed_answer_to_majority",))


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange]:
    """Return the row's one exchange; raises RecordError when a column is no string or a tag is astray."""
    parts = reading.split(read_text(row, "generated_solution"))
    return (Exchange(read_text(row, "problem"), parts.thought, parts.answer, notes=note_markup(parts)),)
