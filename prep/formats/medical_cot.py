"""Medical chain of thought: columns question, think, answer (krisfu/delicate_medical_r1_data)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats import messages
from prep.formats.alpaca import read_history
from prep.formats.chats.listed import as_turns, ask_once
from prep.formats.chats.transcripts import read_open_chat
from prep.formats.fields import read_optional_text, read_text, read_thought
from prep.formats.reading import ASSISTANT, USER, Reading, note_markup
from prep.rows.records import Exchange, ToolExchange
from prep.rows.thinking import THOUGHT_FIELDS

REQUIRED = ("question", "answer")
OPTIONAL = ("think", "system", "input", "history", "tools")
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
# MetaMathQA tells of which question its own is a variant.
METADATA = (("Instruction", "metrics"), ("original_question", "type"))
# Compared without case, spaces and '_'.
SYNONYMS = {
    "question": (
        "question",
        "query",
        "prompt",
        "instruction",
        "problem",
        "human",
        "问题",
        "题目",
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
        "output",
        "solution",
        "reply",
        "assistant",
        "回答",
        "答案",
        "回复",
        "标准回复",
        "标准回答",
        "标准答案",
        "参考答案",
        "客服回复",
        "解答",
        "输出",
    ),
    "input": ("context", "上下文", "背景", "材料"),
    "system": ("system_prompt", "系统提示"),
}


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange | ToolExchange]:
    """Return the row's one exchange; without a thought column the answer may carry its own tags.

    Question and answer may also be turns, as in TRL's conversational sets; then there is one for each answer.
    Raises: RecordError when a column is neither a string nor turns.
    """
    asked, answered = as_turns(row["question"], USER), as_turns(row["answer"], ASSISTANT)
    if asked is answered is None and not row.get("history") and not row.get("input"):
        chat = read_open_chat(read_text(row, "question"))
        if chat is not None:
            return messages.answer_chat(chat, read_text(row, "answer"), read_thought(row, "think"), row, reading)
    if asked is not None or answered is not None or row.get("tools"):
        return read_chat(row, asked, answered, reading)
    question, answer = read_text(row, "question"), read_text(row, "answer")
    thought, system = read_thought(row, "think"), read_optional_text(row, "system")
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


def read_chat(
    row: Mapping[str, Any], asked: list[Any] | None, answered: list[Any] | None, reading: Reading
) -> Sequence[Exchange | ToolExchange]:
    """Return the exchanges of a row whose question or answer is turns; the other one may be a text.

    Raises: RecordError as messages.read_exchanges does.
    """
    if asked is None:
        asked = ask_once(read_text(row, "question"), answered or [])
    if answered is None:
        answered = [{"role": ASSISTANT, "content": read_text(row, "answer")}]
    if thought := read_thought(row, "think"):
        answered = [*answered[:-1], {**answered[-1], "think": thought}]
    if more := read_optional_text(row, "input"):
        asked = [*asked, {"role": USER, "content": more}]
    earlier = [
        {"role": role, "content": text}
        for pair in read_history(row.get("history"))
        for role, text in zip((USER, ASSISTANT), pair, strict=True)
    ]
    named = {"messages": [*earlier, *asked, *answered], "system": row.get("system"), "tools": row.get("tools")}
    return messages.read_exchanges(named, reading)
