"""Rows of an input and an output, texts or turns (Firefly, Aya, NVIDIA's post-training sets)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats import medical_cot
from prep.formats.reading import Reading
from prep.rows.records import Exchange, ToolExchange
from prep.rows.thinking import THOUGHT_FIELDS

REQUIRED = ("input", "output")
OPTIONAL = ("think", "system", "history", "tools")
SYNONYMS = {
    "input": ("inputs", "输入"),
    "output": ("outputs", "target", "targets", "输出"),
    "think": THOUGHT_FIELDS,
    "system": ("system_prompt", "系统提示"),
}
# Firefly says which of its tasks a row is of. NVIDIA's sets say with `reasoning` whether a thought was asked for.
METADATA = (("kind",), ("reasoning", "generator", "category"), ("used_in_training",))


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange | ToolExchange]:
    """Return the row's exchanges; raises RecordError as those of a question and an answer do."""
    named = {name: value for name, value in row.items() if name != "input"}
    return medical_cot.read_exchanges({**named, "question": row["input"], "answer": row["output"]}, reading)
