"""The think grammar of Qwen3 rows: split, join, police and write thoughts. Pure text, no files.

Source of every byte here: LLaMA-Factory 0.9.5, data/template.py, ReasoningTemplate, whose thought
delimiters are exactly `<think>\\n` and `\\n</think>\\n\\n`, and Qwen3's own chat template.
"""

import re
from enum import StrEnum

from prep.errors import RecordError

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"
THOUGHT_START = "<think>\n"
THOUGHT_END = "\n</think>\n\n"
EMPTY_THOUGHT = THOUGHT_START + THOUGHT_END

# `<|im_start|>`, `<|endoftext|>`, `<|eot_id|>`, `<|user|>`, …: a tokenizer turns these into control tokens.
_CHAT_MARKUP = re.compile(r"<\|[A-Za-z0-9_]+\|>")
_CHATML_TURN = re.compile(
    r"<\|im_start\|>(system|user|assistant)[ \t]*(?:\r?\n|\Z)(.*?)(?:<\|im_end\|>\s*|\Z)", re.DOTALL
)
_END_MARKUP = ("<|im_end|>", "<|endoftext|>")
_EMPTY_THOUGHT_NEVER_CLOSED = re.compile(r"\s*<think>\s*<think>")


class ThinkPolicy(StrEnum):
    """How thoughts are written into rows; it fixes `enable_thinking` of the YAML too."""

    TAGGED = "tagged"
    MASKED = "masked"
    STRIP = "strip"

    @property
    def enable_thinking(self) -> bool | None:
        """The value of LLaMA-Factory's `enable_thinking` under which these rows train as intended.

        `tagged` true: the empty thought of a chat row is trained on. `masked` null: the empty thought
        is put into the prompt and carries no loss. `strip` false: every answer follows an empty thought.
        """
        return {ThinkPolicy.TAGGED: True, ThinkPolicy.MASKED: None, ThinkPolicy.STRIP: False}[self]


def split_thought(text: str) -> tuple[str, str]:
    """Split a model's answer into its thought and its answer.

    Shape: one string in; (thought, answer) out, thought "" when the text has no tags. The delimiters'
    own newlines go, all other text stays: `split_thought(join_thought(t, a)) == (t, a)` for every t and
    a without tags.
    Raises: RecordError when tags are unclosed, unopened, nested, repeated or stand after other text.
    """
    if "<" not in text:
        return "", text
    opens, closes = text.count(OPEN_TAG), text.count(CLOSE_TAG)
    if not opens and not closes:
        return "", text
    if opens != 1 or closes != 1:
        raise RecordError(_describe_tag_fault(opens, closes))
    before, _, rest = text.partition(OPEN_TAG)
    thought, closed, answer = rest.partition(CLOSE_TAG)
    if not closed:
        raise RecordError(f"{CLOSE_TAG} stands before {OPEN_TAG}")
    if before.strip():
        raise RecordError(f"text stands before {OPEN_TAG}: {_shorten(before)}")
    thought = thought.removeprefix("\n").removesuffix("\n")
    return thought, answer.removeprefix("\n").removeprefix("\n")


def join_thought(thought: str, answer: str) -> str:
    r"""Write a thought and an answer as Qwen3's template does: `<think>\nT\n</think>\n\nA`."""
    return f"{THOUGHT_START}{thought}{THOUGHT_END}{answer}"


def write_output(thought: str, answer: str, policy: ThinkPolicy) -> str:
    """Return a row's `output` under a policy, with the white space that Qwen3's template would drop gone.

    Raises: RecordError when the answer is empty, or a part holds a tag or chat markup.
    """
    thought, answer = thought.strip(), answer.strip()
    if not answer:
        raise RecordError("the answer is empty")
    for name, part in (("thought", thought), ("answer", answer)):
        if "<" not in part:
            continue
        if OPEN_TAG in part or CLOSE_TAG in part:
            raise RecordError(f"a think tag stands inside the {name}")
        refuse_chat_markup(part, name)
    if policy is ThinkPolicy.STRIP or (policy is ThinkPolicy.MASKED and not thought):
        return answer
    return join_thought(thought, answer)


def repair_answer(text: str) -> tuple[str, str]:
    r"""Return the (thought, answer) of an output that a tutorial's script may have spoiled.

    Understood are chat markup around the whole, `<think>\n\n<think>\n` for no thought, and any white space
    around the tags; a sound output gives its own parts, stripped.
    Raises: RecordError when it cannot be read without guessing.
    """
    turns = unwrap_chat_markup(text)
    if len(turns) != 1 or turns[0][0] not in ("", "assistant"):
        raise RecordError(f"chat markup: the output is {' '.join(role or 'text' for role, _ in turns)}")
    text = turns[0][1]
    never_closed = _EMPTY_THOUGHT_NEVER_CLOSED.match(text)
    if never_closed and text.count(OPEN_TAG) == 2 and CLOSE_TAG not in text:
        return "", text[never_closed.end() :].strip()
    thought, answer = split_thought(text)
    return thought.strip(), answer.strip()


def unwrap_chat_markup(text: str) -> list[tuple[str, str]]:
    """Split text that carries ChatML markup into its (role, text) turns, white space around each gone.

    Shape: text without markup, or with an end-of-turn token alone, is one turn whose role is "".
    Raises: RecordError when the markup is not whole turns.
    """
    rest = text.strip()
    end = len(rest)
    while rest.endswith(_END_MARKUP, 0, end):
        # By index: to cut a long text at each of many marks would take forever.
        end = rest.rindex("<|", 0, end)
        while end and rest[end - 1].isspace():
            end -= 1
    rest = rest[:end]
    if not rest.startswith("<|im_start|>"):
        return [("", rest)]
    turns = []
    place = 0
    while place < len(rest):
        turn = _CHATML_TURN.match(rest, place)
        if not turn:
            raise RecordError("chat markup that is not whole turns")
        turns.append((turn[1], turn[2].strip()))
        place = turn.end()
    return turns


def find_output_fault(output: str) -> str | None:
    r"""Return why an output is not written as Qwen3's template would read it, or None.

    A tagged output must be exactly `<think>\nT\n</think>\n\nA`, or `<think>\n\n</think>\n\nA`.
    """
    if OPEN_TAG not in output and CLOSE_TAG not in output:
        return None
    try:
        thought, answer = split_thought(output)
    except RecordError as error:
        return str(error)
    if output != join_thought(thought, answer):
        return f"the block must be exactly {THOUGHT_START!r}, thought, {THOUGHT_END!r}"
    if thought != thought.strip() or (answer.strip() and answer != answer.lstrip()):
        return "white space stands around the thought or before the answer"
    return None


def refuse_chat_markup(text: str, where: str) -> None:
    """Raise RecordError when text holds control tokens such as `<|im_start|>`, which a template adds itself."""
    found = find_chat_markup(text)
    if found:
        raise RecordError(f"chat markup {found} stands inside the {where}")


def find_chat_markup(text: str) -> str | None:
    """Return the first control token in a text, such as `<|im_start|>`, or None."""
    # The plain search is many times faster, and nearly every text ends here.
    if "<|" not in text:
        return None
    found = _CHAT_MARKUP.search(text)
    return found[0] if found else None


def _describe_tag_fault(opens: int, closes: int) -> str:
    if not closes:
        return f"{OPEN_TAG} is never closed"
    if not opens:
        return f"{CLOSE_TAG} without {OPEN_TAG}"
    return f"{opens} {OPEN_TAG} and {closes} {CLOSE_TAG}: one of each is allowed"


def _shorten(text: str, limit: int = 40) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
