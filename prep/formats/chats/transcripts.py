"""Whole chats that stand in one text: the marks by which well-known sets tell who speaks."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from prep.formats.reading import ASSISTANT, OBSERVATION, SYSTEM, USER
from prep.patterns import LazyPattern
from prep.rows.thinking import unwrap_chat_markup

_TURN_START = "<|im_start|>"
_LONGEST_OPENING = 4000
_LONGEST_END = 40
_USUAL_ENDS = r"</s>|<\|endoftext\|>"


class TranscriptStyle(NamedTuple):
    """How a chat is written down.

    Shape: `mark` is what stands before each turn, its group the word that says who speaks; `words` are {that word,
    without case: our role}; `end` is what a turn may end in; `preamble` begins a text that stands before all turns.
    `joins` are words that go on with the turn before them.
    """

    name: str
    mark: LazyPattern
    words: Mapping[str, str]
    end: LazyPattern
    preamble: LazyPattern | None = None
    joins: tuple[str, ...] = ()


def _style(
    name: str, mark: str, words: tuple[str, ...], *, end: str = "", preamble: str = "", joins: tuple[str, ...] = ()
) -> TranscriptStyle:
    """Return a style by its words: the user's, the model's, the system's, the tools', blanks between."""
    roles = zip((USER, ASSISTANT, SYSTEM, OBSERVATION), words, strict=False)
    named = {word: role for role, listed in roles for word in listed.split()}
    spelled = "|".join(map(re.escape, sorted((*named, *joins), key=len, reverse=True)))
    return TranscriptStyle(
        name,
        LazyPattern(mark.replace("WHO", f"({spelled})")),
        {word.casefold(): role for word, role in named.items()},
        LazyPattern(rf"(?:{'|'.join(filter(None, (_USUAL_ENDS, end)))})\Z"),
        LazyPattern(preamble) if preamble else None,
        tuple(word.casefold() for word in joins),
    )


_SPACE = r"\s{0,20}"
STYLES = (
    _style("inst_tags", rf"(?:{_SPACE}<s>)?{_SPACE}\[WHO\]{_SPACE}", ("INST", "/INST")),
    _style(
        "header_ids",
        rf"(?:<\|begin_of_text\|>)?{_SPACE}<\|start_header_id\|>WHO<\|end_header_id\|>{_SPACE}",
        ("user", "assistant", "system", "ipython tool"),
        end=r"<\|eot_id\|>",
    ),
    _style(
        "start_of_turn",
        rf"(?:<bos>)?{_SPACE}<start_of_turn>WHO{_SPACE}",
        ("user", "model", "system"),
        end="<end_of_turn>",
    ),
    _style(
        "role_tags",
        rf"{_SPACE}<\|WHO\|>:?{_SPACE}",
        ("user", "assistant", "system"),
        end=r"<\|end\|>",
    ),
    _style(
        "fullwidth_tags",
        rf"(?:<｜begin▁of▁sentence｜>)?{_SPACE}<｜WHO｜>{_SPACE}",
        ("User", "Assistant"),
        end="<｜end▁of▁sentence｜>",
    ),
    _style("moss", rf"{_SPACE}(?:\[|<\|)WHO(?:\]|\|>): ?", ("Human", "MOSS"), end="<eo[a-z]>"),
    _style("square_tags", rf"{_SPACE}\[\|WHO\|\] ?", ("Human", "AI"), preamble="The conversation between"),
    _style(
        "hashes",
        rf"{_SPACE}#{{2,3}} ?WHO ?:[ \t]{{0,20}}\n?",
        ("Human User Instruction", "Assistant Response GPT", "System"),
        preamble="Below is an instruction",
        joins=("Input",),
    ),
    _style("human_and_assistant", rf"(?:\A{_SPACE}|\n\n)WHO: ?", ("Human", "Assistant")),
    _style(
        "lines",
        rf"(?:\A{_SPACE}|\n)WHO ?[:：] ?",
        ("Human User 用户 客户 患者", "Assistant 助手 客服 医生"),
    ),
    _style(
        "user_and_assistant",
        rf"(?:\A{_SPACE}|\s)WHO: ?",
        ("USER", "ASSISTANT"),
        preamble="A chat between",
    ),
)
_SYSTEM_TAGS = LazyPattern(r"\A\s*<<SYS>>(.*?)<</SYS>>\s*", re.DOTALL)


def read_transcript(text: str) -> list[dict[str, str]] | None:
    """Return the turns of a chat that a text holds, as {role, content}; None for any other text.

    A chat begins with a user's or a system turn, and somebody answers in it; the last answer may be empty.
    """
    opening = text.lstrip()[:_LONGEST_OPENING]
    if opening.startswith(_TURN_START):
        return [{"role": role or SYSTEM, "content": said} for role, said in unwrap_chat_markup(text)]
    for style in STYLES:
        has_preamble = style.preamble is not None and style.preamble.match(opening) is not None
        begins = style.mark.match(opening)
        if begins is None and not has_preamble:
            continue
        if begins is not None and style.words.get(begins[1].casefold()) not in (USER, SYSTEM):
            continue
        turns = _take_apart(text.strip(), style)
        if any(turn["role"] == ASSISTANT for turn in turns) and any(turn["role"] == USER for turn in turns):
            return turns
    return None


def read_open_chat(text: str) -> list[dict[str, str]] | None:
    """Return the turns of a chat that ends in the mark of who is to answer, without it; None for any other."""
    turns = read_transcript(text)
    if turns is None or turns[-1] != {"role": ASSISTANT, "content": ""} or turns[-2]["role"] != USER:
        return None
    return turns[:-1]


def _take_apart(text: str, style: TranscriptStyle) -> list[dict[str, str]]:
    before, *pieces = style.mark.split(text)
    turns = [{"role": SYSTEM, "content": before.strip()}] if before.strip() else []
    for word, piece in zip(pieces[::2], pieces[1::2], strict=True):
        said = _cut_end(piece.strip(), style)
        if word.casefold() in style.joins:
            if turns:
                turns[-1]["content"] = "\n".join(filter(None, (turns[-1]["content"], said)))
            continue
        role = style.words[word.casefold()]
        system = _SYSTEM_TAGS.match(said) if role == USER else None
        if system:
            turns.append({"role": SYSTEM, "content": system[1].strip()})
        turns.append({"role": role, "content": said[system.end() :].strip() if system else said})
    return turns


def _cut_end(text: str, style: TranscriptStyle) -> str:
    while found := style.end.search(text[-_LONGEST_END:]):
        text = text[: -len(found[0])].rstrip()
    return text
