"""Medical chain of thought: columns question, think, answer (krisfu/delicate_medical_r1_data)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats.alpaca import read_history
from prep.formats.fields import read_optional_text, read_text
from prep.formats.reading import Reading, note_markup
from prep.rows.records import Exchange
from prep.rows.thinking import THOUGHT_FIELDS

REQUIRED = ("question", "answer")
OPTIONAL = ("think", "system", "input", "history")
# What the compiled half of conversion makes of each column; a row that holds another one is not for it.
PLAIN = {
    "question": "question",
    "think": "thought",
    "answer": "answer",
    "system": "system",
    "input": "input",
    "history": "nothing",
}
# One sentence, the same in every row of krisfu's set: that it is a doctor, and thinks before it answers.
METADATA = (("Instruction", "metrics"),)
# Compared without case, spaces and '_'.
SYNONYMS = {
    "question": (
        "question",
        "query",
        "prompt",
        "instruction",
        "问题",
        "提问",
        "患者提问",
        "客户问题",
        "用户问题",
        "客户提问",
        "用户提问",
    ),
    "think": THOUGHT_FIELDS,
    "answer": (
        "answer",
        "response",
        "completion",
        "回答",
        "答案",
        "回复",
        "标准回复",
        "标准回答",
        "标准答案",
        "参考答案",
        "客服回复",
    ),
    "input": ("context", "上下文", "背景", "材料"),
    "system": ("system_prompt", "系统提示"),
}


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange]:
    """Return the row's one exchange; without a thought column the answer may carry its own tags.

    Raises: RecordError when a column is not a string.
    """
    question, answer = read_text(row, "question"), read_text(row, "answer")
    thought, system = read_optional_text(row, "think"), read_optional_text(row, "system")
    parts = reading.split(answer, thought)
    return (
        Exchange(
            question,
            parts.thought,
            parts.answer,
            system,
            history=read_history(row.get("history")),
            input=read_optional_text(row, "input"),
            notes=note_markup(parts),
        ),
    )
