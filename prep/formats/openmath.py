"""Mathematics with solutions that carry their own think tags (nvidia/OpenMathReasoning)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats.fields import read_text
from prep.formats.reading import Reading, note_markup
from prep.rows.records import Exchange

REQUIRED = ("problem", "generated_solution")


def read_exchanges(row: Mapping[str, Any], how: Reading | str) -> Sequence[Exchange]:
    """Return the row's one exchange; raises RecordError when a column is no string or a tag is astray."""
    parts = Reading.of(how).split(read_text(row, "generated_solution"))
    return (Exchange(read_text(row, "problem"), parts.thought, parts.answer, notes=note_markup(parts)),)
