"""The think grammar of Qwen3 rows: split, join, police and write thoughts. Pure text, no files.

Source of every byte here: LLaMA-Factory 0.9.5, data/template.py, ReasoningTemplate, whose thought
delimiters are exactly `<think>\\n` and `\\n</think>\\n\\n`, and Qwen3's own chat template.
"""

import itertools
import re
from typing import NamedTuple

from prep.choices import ThinkPolicy
from prep.errors import RecordError
from prep.patterns import LazyPattern

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


# Names that columns and turns give to a thought: without case, and '_' for spaces.
THOUGHT_FIELDS = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reasoning_content", "reasoning_text", "rationale"),
    *(
        "cot",
        "complex_cot",
        "chain_of_thought",
        "thinking_trajectory",
        "thinking_trajectories",
        "thinking_content",
        "thought_process",
    ),
    *("deepseek_reasoning", "model_reasoning", "reasoning_process", "reasoning_trace", "think_content"),
    *("思考", "思考过程", "思维链", "推理", "推理过程", "思考内容", "推理内容", "思路"),
)


class Markup(NamedTuple):
    """What marks a thought at the beginning of an answer: an opening, a closing, and tags around what follows.

    Shape: `opening` is matched where a text begins, `closing` is searched in what follows, `ending` where a text
    ends; `answer` and `answer_end` are the tags around the answer, if any. Each is bounded in what it repeats, so
    that a search takes linear time.
    """

    name: str
    shown: str
    first_characters: str
    opening: LazyPattern
    closing: LazyPattern
    ending: LazyPattern
    answer: LazyPattern | None = None
    answer_end: LazyPattern | None = None
    is_heading: bool = False


_LESS, _MORE, _SPACE = r"(?:<|＜|&lt;)", r"(?:>|＞|&gt;)", r"[ \t]{0,3}"


def _compile(pattern: str) -> LazyPattern:
    return LazyPattern(pattern, re.IGNORECASE)


def _write_tag(names: str, slash: str = "") -> str:
    return f"{_LESS}{_SPACE}{slash}{_SPACE}(?:{names}){_SPACE}{_MORE}"


def _mark_pair(
    name: str, shown: str, opening: str, closing: str, *, answer: tuple[str, str] | None = None
) -> Markup:
    """Return markup of an opening and a closing pattern."""
    ending = _compile(rf"(?:{closing})\s*\Z")
    begun, ended = (_compile(answer[0]), _compile(rf"(?:{answer[1]})\s*\Z")) if answer else (None, None)
    return Markup(name, shown, _FIRST_CHARACTERS, _compile(opening), _compile(closing), ending, begun, ended)


def _mark_tags(name: str, names: str, *, answer: str = "") -> Markup:
    around = (_write_tag(answer), _write_tag(answer, "[/／]")) if answer else None
    shown = f"<{names.partition('|')[0]}>"
    return _mark_pair(name, shown, _write_tag(names), _write_tag(names, "[/／]"), answer=around)


def _mark_headings(name: str, shown: str, before: str, after: str) -> Markup:
    """Return markup of two headings: lines of their own, after # or between **."""
    end = r"[ \t]{0,3}[:：]?(?:\*\*)?[:：]?[ \t]{0,3}(?:\r?\n|\Z)"
    begin = r"(?:#{1,6}[ \t]{0,3}(?:\*\*)?|\*\*)"
    opening, closing = f"{begin}(?:{before}){end}", rf"(?:(?<=\n)|\A){begin}(?:{after}){end}"
    return Markup(name, shown, "#*", _compile(opening), _compile(closing), _compile(closing), is_heading=True)


def _mark_brackets(name: str, shown: str, before: str, after: str) -> Markup:
    """Return markup of two headings in 【】 or [] at the beginning of a line, the text behind them or below."""
    opening, closing = (
        rf"{start}(?:【{_SPACE}(?:{heads}){_SPACE}】|\[{_SPACE}(?:{heads}){_SPACE}\])[:：]?"
        for start, heads in (("", before), (r"(?:(?<=\n)|\A)", after))
    )
    pattern = _compile(closing)
    return Markup(name, shown, "【[", _compile(opening), pattern, pattern, is_heading=True)


_FIRST_CHARACTERS = "<＜&[◁"
_LONGEST_MARK = 80
_ANSWER_NAMES = "answer|final_answer|final answer|solution|response|output|回答|答案"
_THOUGHT_HEADS = (
    "thinking|thinking process|thoughts?|thought process|reasoning|reasoning process|"
    "思考|思考过程|推理|推理过程|思维链"
)
_ANSWER_HEADS = "final response|final answer|response|answer|final|回答|最终回答|答案|最终答案|回复|最终回复"
_OWN = _mark_pair("think_tags", OPEN_TAG, "<think>", "</think>")
# Other markup than Qwen3's own; a new one is one line.
MARKUPS = (
    _mark_tags("think_tags_written_otherwise", "think"),
    _mark_tags("thinking_tags", "thinking", answer=_ANSWER_NAMES),
    _mark_tags("reasoning_tags", "reasoning|reason|reasoning_process", answer=_ANSWER_NAMES),
    _mark_tags("thought_tags", "thoughts?|thought_process", answer=_ANSWER_NAMES),
    _mark_tags("chinese_tags", "思考过程|思考|推理过程|推理|思维链", answer=_ANSWER_NAMES),
    _mark_pair(
        "begin_of_thought",
        "<|begin_of_thought|>",
        r"<\|begin_of_thought\|>",
        r"<\|end_of_thought\|>",
        answer=(r"<\|begin_of_solution\|>", r"<\|end_of_solution\|>"),
    ),
    _mark_pair("square_brackets", "[THINK]", r"\[think(?:ing)?\]", r"\[/think(?:ing)?\]"),
    _mark_pair("triangles", "◁think▷", "◁think▷", "◁/think▷"),
    _mark_headings("headings", "## Thinking", _THOUGHT_HEADS, _ANSWER_HEADS),
    _mark_brackets("bracketed_headings", "【思考】", _THOUGHT_HEADS, _ANSWER_HEADS),
)
_TAG_NAMES = "think|thinking|reasoning|thoughts?"
_UNOPENED = _compile(f"<{_SPACE}/{_SPACE}(?:{_TAG_NAMES}){_SPACE}>")
_UNOPENED_END = _compile(rf"{_UNOPENED.pattern}\Z")
_OPENED = _compile(_write_tag(_TAG_NAMES))
_NO_OPENING = ": --think-open missing takes what stands before it for the thought"


class Split(NamedTuple):
    """A model's answer in its parts; `markup` names what marked the thought, "" for Qwen3's own tags and none."""

    thought: str
    answer: str
    markup: str = ""


def split_thought(text: str) -> tuple[str, str]:
    """Split a model's answer into its thought and its answer.

    Shape: one string in; (thought, answer) out, thought "" when the text marks none. The delimiters'
    own newlines go, all other text stays: `split_thought(join_thought(t, a)) == (t, a)` for every t and
    a without markup.
    Raises: RecordError as find_thought does.
    """
    return find_thought(text)[:2]


def find_thought(text: str, *, may_lack_open: bool = False) -> Split:
    """Split a model's answer into thought and answer, and say by which markup of the table.

    Shape: Qwen3's own tags stand anywhere, other markup only where the text begins, so that an answer that
    writes about tags stays as it is. `may_lack_open` takes all before a closing tag for the thought.
    Raises: RecordError when tags are unclosed, unopened, nested, repeated, or Qwen3's stand after other text.
    """
    if OPEN_TAG in text or CLOSE_TAG in text:
        if may_lack_open and OPEN_TAG not in text and text.count(CLOSE_TAG) == 1:
            thought, _, answer = text.partition(CLOSE_TAG)
            return Split(thought.strip(), answer.strip(), "no_opening_tag")
        thought, answer = _split_own_tags(text)
        if thought.strip() or not (inner := find_markup(answer)):
            return Split(thought, answer)
        # What passes for an answer behind an empty block.
        return inner
    found = find_markup(text, may_lack_open=may_lack_open)
    return found or Split("", text)


def find_markup(text: str, *, may_lack_open: bool = False) -> Split | None:
    """Return the parts of a text that begins with other markup than Qwen3's own, None when it does not.

    Raises: RecordError when its tags are not one of each, or a closing one has no opening one.
    """
    start = text[:_LONGEST_MARK].lstrip()
    if not start and len(text) > _LONGEST_MARK:
        text = text.lstrip()
        start = text[:_LONGEST_MARK]
    for markup in MARKUPS:
        opened = markup.opening.match(start) if start[:1] in markup.first_characters else None
        if opened:
            rest = text.lstrip()[opened.end() :]
            if not markup.is_heading or markup.closing.search(rest):
                return _split_markup(markup, rest)
    return _split_unopened(text, may_lack_open)


def _split_markup(markup: "Markup", rest: str) -> Split:
    closings = [match.span() for match in itertools.islice(markup.closing.finditer(rest), 2)]
    if len(closings) != 1 or (not markup.is_heading and markup.opening.search(rest)):
        count = "never closed" if not closings else "opened or closed more than once"
        raise RecordError(f"the thought markup {markup.shown} is {count}")
    thought, answer = rest[: closings[0][0]].strip(), rest[closings[0][1] :].strip()
    wrapped = markup.answer.match(answer) if markup.answer else None
    if wrapped and markup.answer_end:
        inner = _cut_end(answer[wrapped.end() :], markup.answer_end)
        if inner != answer[wrapped.end() :].strip():
            answer = inner
    return Split(thought, answer, markup.name)


def _split_unopened(text: str, may_lack_open: bool) -> Split | None:
    """Judge a text that does not begin with markup, but may close what it never opened."""
    if "</" not in text and "< /" not in text:
        return None
    closings = list(itertools.islice(_UNOPENED.finditer(text), 2))
    if not closings or _OPENED.search(text):
        return None
    if len(closings) > 1 or not may_lack_open:
        raise RecordError(f"{closings[0][0]} without an opening tag{_NO_OPENING}")
    first = closings[0]
    return Split(text[: first.start()].strip(), text[first.end() :].strip(), "no_opening_tag")


def unwrap_thought(text: str) -> str:
    """Return a thought as its own field holds it, without tags around it; white space at its ends is gone."""
    text = text.strip()
    for markup in (_OWN, *(markup for markup in MARKUPS if not markup.is_heading)):
        if text[:1] in _FIRST_CHARACTERS and (opened := markup.opening.match(text[:_LONGEST_MARK])):
            return _cut_end(text[opened.end() :], markup.ending)
    return _cut_end(text, _UNOPENED_END) if text.endswith(">") else text


def _cut_end(text: str, ending: LazyPattern) -> str:
    """Return a text without what stands at its end, and without white space around it."""
    tail = text.rstrip()[-_LONGEST_MARK:]
    found = ending.search(tail)
    return (text.rstrip()[: -(len(tail) - found.start())] if found else text).strip()


def merge_thought(field: str, said: str, *, may_lack_open: bool = False) -> Split:
    """Return the thought and answer of a row whose thought has a field of its own; the answer may repeat it.

    Raises: RecordError when the two thoughts differ.
    """
    thought = unwrap_thought(field)
    if not thought:
        return find_thought(said, may_lack_open=may_lack_open)
    inner = find_thought(said, may_lack_open=may_lack_open)
    if inner.thought.strip() and inner.thought.split() != thought.split():
        raise RecordError("two different thoughts: one in a field of its own, one in the answer")
    return Split(thought, inner.answer, inner.markup)


def _split_own_tags(text: str) -> tuple[str, str]:
    opens, closes = text.count(OPEN_TAG), text.count(CLOSE_TAG)
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
    try:
        thought, answer, markup = find_thought(output)
    except RecordError as error:
        return str(error)
    if markup:
        other = markup.replace("_", " ")
        return f"a thought in other markup than <think> ({other}) is trained as part of the answer"
    if OPEN_TAG not in output:
        return None
    if output != join_thought(thought, answer):
        return f"the block must be exactly {THOUGHT_START!r}, thought, {THOUGHT_END!r}"
    if thought != thought.strip() or (answer.strip() and answer != answer.lstrip()):
        return "white space stands around the thought or before the answer"
    return None


def may_hold_markup(text: str) -> bool:
    """Whether a text could begin with markup of a thought, or close what it never opened: a cheap first look."""
    return text.lstrip()[:1] in ("#", "*", "【", *_FIRST_CHARACTERS) or "</" in text or "< /" in text


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
        return f"{CLOSE_TAG} without {OPEN_TAG}{_NO_OPENING if closes == 1 else ''}"
    return f"{opens} {OPEN_TAG} and {closes} {CLOSE_TAG}: one of each is allowed"


def _shorten(text: str, limit: int = 40) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
