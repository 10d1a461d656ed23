"""Two answers to one question, the better one as `chosen`: texts, turns, or two whole conversations."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.choices import Turns
from prep.errors import RecordError
from prep.formats import alpaca, messages, sharegpt
from prep.formats.chats.transcripts import read_transcript
from prep.formats.fields import describe_type, read_optional_text, read_text
from prep.formats.reading import ASSISTANT, TEXT_FIELDS, Reading
from prep.rows.records import Exchange, ToolExchange

REQUIRED = ("chosen", "rejected")
OPTIONAL = ("question", "input", "system", "history", "conversations", "messages", "tools", "origin")
SYNONYMS = {
    "question": ("instruction", "prompt", "query", "问题", "提问", "指令"),
    "input": ("context",),
    "chosen": ("chosen_response", "response_chosen", "chosen_messages", "好回答", "好的回答", "优选回答"),
    "rejected": (
        *("rejected_response", "response_rejected", "rejected_messages"),
        *("坏回答", "差的回答", "差回答", "拒绝回答"),
    ),
    "system": ("system_prompt", "系统提示"),
}
METADATA = (("score_chosen",), ("score_rejected",), ("chosen_avg_rating",), ("rejected_avg_rating",))
Answered = Exchange | ToolExchange


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Answered]:
    """Return the row's one exchange, with the other answer as `rejected`.

    Raises: RecordError when the two do not answer the same, or cannot be read.
    """
    whole = reading.of_turns(Turns.ALL)
    return (pair_answers(_read_with(row, row["chosen"], whole), _read_with(row, row["rejected"], whole)),)


def pair_answers(chosen: Answered, rejected: Answered) -> Answered:
    """Return the better exchange with the answer of the other; raises RecordError when they differ before it."""
    if _bare(chosen) != _bare(rejected):
        raise RecordError("the chosen and the rejected answer do not follow the same turns")
    return chosen._replace(rejected=(rejected.thought, rejected.answer))


def _bare(exchange: Answered) -> Answered:
    return exchange._replace(thought="", answer="", notes=())


def _read_with(row: Mapping[str, Any], answer: object, reading: Reading) -> Answered:
    """Read the row as if this were its one answer."""
    for column, module in (("conversations", sharegpt), ("messages", messages)):
        if row.get(column):
            completed = answer_turns(row, column, answer)
            read: Sequence[Answered] = module.read_exchanges({**row, column: completed}, reading)
            return read[-1]
    if isinstance(answer, str):
        answer = _take_apart(row, answer)
    if isinstance(answer, list):
        asked = _read_asked(row, answer)
        return messages.read_exchanges({**row, "messages": [*asked, *answer]}, reading)[-1]
    if isinstance(answer, dict):
        answer = answer.get("value", answer.get("content"))
    if not isinstance(answer, str):
        raise RecordError(f"an answer is {describe_type(answer)}, not a string, a turn or a list of turns")
    if "question" not in row:
        raise RecordError("it has two answers and no question", hint="--map question=COLUMN")
    instruction = read_text(row, "question")
    return alpaca.read_exchanges({**row, "instruction": instruction, "output": answer}, reading)[0]


def _take_apart(row: Mapping[str, Any], answer: str) -> str | list[Any]:
    """Return an answer as turns where it is a whole chat as text, or where its question is one; itself else."""
    question = row.get("question")
    if question is None:
        return read_transcript(answer) or answer
    asked = read_transcript(question) if isinstance(question, str) else None
    if asked is None:
        return [{"role": "assistant", "content": answer}] if isinstance(question, list) else answer
    # A prompt that ends in a mark of who answers has an empty answer.
    said = {"role": ASSISTANT, "content": answer}
    return [*(asked[:-1] if asked[-1] == {"role": ASSISTANT, "content": ""} else asked), said]


def answer_turns(row: Mapping[str, Any], column: str, answer: object) -> list[Any]:
    """Return a column's turns with one more that answers, given as a text, as a turn, or as turns.

    An answer may hold the turns before it once more, and the column may end in the answer that is preferred.
    Raises: RecordError when the column is neither, but the answer's question stands in it.
    """
    turns, chosen = row[column], row["chosen"]
    if not isinstance(turns, list):
        raise RecordError(f"column '{column}' is {describe_type(turns)}, not a list of turns")
    if isinstance(answer, list):
        before, said, preferred = _list_said(turns), _list_said(answer), _list_said(chosen)
        if said[: len(before)] == before or (preferred[: len(before)] == before and len(said) > 1):
            return answer
        if len(said) > 1 and said[0] in before:
            raise RecordError(f"column '{column}' is neither what stands before both answers nor the chosen one")
        return [*turns, *answer]
    texts = _list_said(turns)
    if texts and texts[-1] and texts[-1] == _list_said([chosen])[0]:
        turns = turns[:-1]
    if isinstance(answer, str):
        has_role = any(isinstance(turn, dict) and "role" in turn for turn in turns)
        said_by = {"role": "assistant", "content": answer} if has_role else {"from": "gpt", "value": answer}
        return [*turns, said_by]
    return [*turns, answer]


def _list_said(turns: object) -> list[str | None]:
    """Return what is said in each turn, None where that is no text."""
    texts = [
        next((turn[name] for name in TEXT_FIELDS if name in turn), None) if isinstance(turn, dict) else turn
        for turn in (turns if isinstance(turns, list) else [])
    ]
    return [text.strip() if isinstance(text, str) else None for text in texts]


def _read_asked(row: Mapping[str, Any], answer: list[Any]) -> list[Any]:
    """Return the turns before answers that are turns: the question's, where they do not hold it themselves."""
    question = row.get("question")
    if isinstance(question, list):
        return question
    if isinstance(question, str) and (answer[:-1] and read_transcript(question)):
        return []
    starts = answer[0] if answer and isinstance(answer[0], dict) else {}
    holds_question = starts.get("role") not in ("assistant", ASSISTANT, None)
    if not holds_question:
        return [{"role": "user", "content": read_text(row, "question")}] if "question" in row else []
    asked = [turn.get("content") for turn in answer if isinstance(turn, dict) and turn.get("role") == "user"]
    if question and read_optional_text(row, "question") not in asked:
        raise RecordError("the question column is none of the questions that the chosen and rejected turns hold")
    return []
