"""Medical chain of thought: columns question, think, answer (krisfu/delicate_medical_r1_data)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats.alpaca import read_history
from prep.formats.fields import read_optional_text, read_text
from prep.rows.records import Exchange
from prep.rows.thinking import split_thought

REQUIRED = ("question", "answer")
OPTIONAL = ("think", "system", "input", "history")
# One sentence, the same in every row of krisfu's set: that it is a doctor, and thinks before it answers.
METADATA = (("Instruction", "metrics"),)
# Compared without case, with '_' for spaces.
SYNONYMS = {
    "question": ("question", "query", "prompt", "instruction", "问题", "提问", "患者提问"),
    "think": (
        *("think", "thinking", "thought", "reasoning", "reasoning_content", "complex_cot", "cot"),
        *("思考", "思考过程", "思维链", "推理", "推理过程"),
    ),
    "answer": ("answer", "response", "completion", "回答", "答案", "回复"),
    "input": ("context", "上下文", "背景", "材料"),
    "system": ("system_prompt", "系统提示"),
}


def read_exchanges(row: Mapping[str, Any], _turns: str) -> Sequence[Exchange]:
    """Return the row's one exchange; without a thought column the answer may carry its own tags.

    Raises: RecordError when a column is not a string.
    """
    question, answer = read_text(row, "question"), read_text(row, "answer")
    thought, system = read_optional_text(row, "think"), read_optional_text(row, "system")
    if not thought:
        thought, answer = split_thought(answer)
    return (
        Exchange(
            question,
            thought,
            answer,
            system,
            history=read_history(row.get("history")),
            input=read_optional_text(row, "input"),
        ),
    )
