"""The columns of a file: known metadata, what would be lost, texts of several, and names that are nearly right."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from prep.errors import RecordError
from prep.formats.fields import describe_type

_SLOT = re.compile(r"\{([^{}]+)\}")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+")
# A column about the row, and not of it: its whole name, or the last word of it.
_METADATA_NAMES = {
    *("used_in_kaggle", "inference_mode", "in_source_id", "generator", "annotator", "contributor"),
    *(
        "来源",
        "编号",
        "序号",
        "链接",
        "网址",
        "类别",
        "分类",
        "标签",
        "时间",
        "日期",
        "语言",
        "评分",
        "得分",
        "分数",
    ),
    *("难度", "作者", "领域", "主题", "许可", "__index_level_0__", "unnamed: 0", "科室", "department"),
}
_METADATA_WORDS = {
    *(
        "identifier",
        "identifiers",
        "id",
        "ids",
        "idx",
        "index",
        "uuid",
        "guid",
        "hash",
        "sha",
        "md",
        "no",
        "number",
    ),
    *("source", "sources", "dataset", "subset", "split", "origin", "file", "filename", "repo", "provenance"),
    *("score", "scores", "rating", "ratings", "rate", "metric", "metrics", "quality", "reward", "rank", "margin"),
    *("lang", "language", "languages", "locale", "url", "link", "urls", "domain", "license", "licence"),
    *("category", "categories", "subcategory", "topic", "topics", "subject", "type", "task", "tag", "tags"),
    *("difficulty", "level", "grade", "model", "models", "author", "user", "version", "created", "updated"),
    *("date", "time", "timestamp", "datetime", "tokens", "length", "len", "count", "num", "size"),
    *("verified", "correct", "correctness", "valid", "toxic", "toxicity", "redacted", "moderation", "flag"),
    *("meta", "metadata", "stats", "embedding", "embeddings", "cluster", "temperature", "perplexity"),
    *("tir", "width", "height"),
}
_COUNTING_WORDS = {"num", "count", "total"}
_MEDIA_WORDS = {"image", "images", "video", "videos", "audio", "audios"}
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_SHOWN = 5
# A shorter text may stand in a longer one by chance.
_TELLING_LENGTH = 12
# Parts of names by which people call what is asked, thought and answered; the most telling first.
_TELLING = {
    "answer": (
        *("答案", "回答", "答复", "回复", "解答", "客服", "答", "输出"),
        *("answer", "response", "reply", "completion", "output", "solution", "target", "agent", "bot"),
    ),
    "think": ("思考", "思维", "推理", "分析", "think", "thought", "reason", "rationale", "cot", "explanation"),
    "question": (
        *("问题", "提问", "题目", "咨询", "客户", "用户", "问", "题", "输入", "标题"),
        *("question", "query", "prompt", "instruction", "problem", "input", "user", "customer", "ask", "title"),
    ),
}
# The same for two answers, of which the first is the better one.
_TELLING_PAIR = {
    "chosen": ("chosen", "prefer", "better", "positive", "good", "pos", "win", "优", "好", "正"),
    "rejected": ("reject", "worse", "negative", "bad", "neg", "lose", "劣", "差", "坏", "负"),
}
_MOST_LETTERS = 80
_NUMBERS = re.compile(r"[\d\s.,:/\-]*")
_OVERLOOKED = "_-\ufeff\u200b"


def is_metadata(name: str) -> bool:
    """Whether a column or a turn's field is known to tell about a row, and holds nothing to train on."""
    plain = name.strip().casefold()
    words = [word.casefold() for word in _WORDS.findall(name)]
    # An `image_file` is an image, an `image_id` is not.
    is_file = words[-1:] in (["file"], ["filename"], ["path"]) and not _MEDIA_WORDS.isdisjoint(words)
    is_about = bool(words) and (words[-1] in _METADATA_WORDS or words[0] in _COUNTING_WORDS)
    return plain in _METADATA_NAMES or (is_about and not is_file)


def refuse_lost_columns(
    format_name: str, ours: str, lost: Collection[str], used: Collection[str], row: Mapping[str, Any]
) -> None:
    """Raise RecordError when a column that is not used holds something that the row would lose.

    Shape: `lost` are the columns that may carry meaning; `ours` is our column that can take them, if any; what a
    column of `used` holds as well is not lost.
    """
    held = [name for name in lost if row.get(name) not in _EMPTY]
    if held:
        kept = [text.strip() for name in used for text in _list_texts(row.get(name))]
        held = [name for name in held if not _repeats(row[name], kept)]
    if not held:
        return
    names = ", ".join(f"'{name[:80]}'" for name in held[:_SHOWN]) + (", …" if len(held) > _SHOWN else "")
    drops = " ".join(f"--drop {_quote(name[:80])}" for name in held[:_SHOWN])
    noun, them = ("columns", "them") if len(held) > 1 else ("column", "it")
    raise RecordError(
        f"{noun} {names} would be lost: {format_name} rows have no place for {them}",
        hint=f"{_suggest_place(ours, held, row)}{drops} leaves {them} out",
    )


def _suggest_place(ours: str, held: Sequence[str], row: Mapping[str, Any]) -> str:
    """Return the options that keep what would be lost: as the thought, by its name, else in the question."""
    if not ours:
        return ""
    thought = next((name for name in held if isinstance(row[name], str | list) and _tells_thought(name)), None)
    if thought is None:
        return f'--map {ours}="{{{ours}}} {{{held[0][:80]}}}" writes it into the {ours}, '
    writer = thought.split("_")[0]
    answers = [name for name in held if name != thought and name.split("_")[0] == writer and "_" in name]
    answer = f" --map answer={quote_column(answers[0])}" if len(answers) == 1 else ""
    them = "thought and answer" if answer else "the thought"
    return f"--map think={quote_column(thought[:80])}{answer} takes {them}, "


def _tells_thought(name: str) -> bool:
    return any(word in simplify_name(name[:_MOST_LETTERS]) for word in _TELLING["think"])


def _list_texts(value: object, depth: int = 4) -> Iterator[str]:
    """Yield the texts of a column: itself, or those of its turns and their parts."""
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _list_texts(part, depth - 1)


def _repeats(value: object, kept: Sequence[str]) -> bool:
    """Whether all texts of a column stand in others too: as one of them, or, when long enough, in one of them."""
    texts = [text.strip() for text in _list_texts(value)]
    return (
        bool(texts)
        and _is_all_text(value)
        and all(
            any(text == one or (len(text) >= _TELLING_LENGTH and text in one) for one in kept) for text in texts
        )
    )


def _is_all_text(value: object) -> bool:
    if isinstance(value, dict | list):
        return all(_is_all_text(part) for part in (value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, str)


def _quote(name: str) -> str:
    return f"'{name}'" if re.search(r"[^\w.-]", name) else name


def is_template(theirs: str, columns: Collection[str]) -> bool:
    """Whether what `--map` gives is no column, but a text with columns in braces."""
    return theirs not in columns and _SLOT.search(theirs) is not None


def list_slots(theirs: str) -> list[str]:
    """Return the columns that a template names."""
    return _SLOT.findall(theirs)


def fill_template(template: str, row: Mapping[str, Any]) -> str:
    r"""Return a template with the row's values in its slots; `\n` and `\t` in it are line end and tab.

    Shape: choices that are a list or an object become lines, `A. first` and so on.
    Raises: RecordError when a value is no text, number or choices.
    """
    text = template.replace("\\n", "\n").replace("\\t", "\t")
    return _SLOT.sub(lambda slot: _write_value(slot[1], row.get(slot[1])), text)


def _write_value(column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    lines = list(_write_choices(value))
    if not lines:
        raise RecordError(f"column '{column}' is {describe_type(value)}, which no template can write")
    return "\n".join(lines)


def _write_choices(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        pairs = [(str(name), text) for name, text in value.items()]
    elif isinstance(value, list) and len(value) <= 26:
        pairs = [(chr(ord("A") + index), text) for index, text in enumerate(value)]
    else:
        return
    if all(isinstance(text, str | int | float) for _, text in pairs):
        yield from (f"{name}. {text}" for name, text in pairs)


def list_used(mapping: Mapping[str, str], columns: Collection[str]) -> set[str]:
    """Return the file's columns that a mapping reads, those of templates too."""
    used = set()
    for theirs in mapping.values():
        used.update(list_slots(theirs) if is_template(theirs, columns) else [theirs])
    return used


def simplify_name(name: str) -> str:
    """Return a column's name without what the eye overlooks: case, spaces, full-width forms, `_` and `-`."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in folded if not letter.isspace() and letter not in _OVERLOOKED)


def find_near(wanted: str, columns: Collection[str]) -> str | None:
    """Return the one column whose name is nearly the wanted one, None when there is none or more than one."""
    simple = {column: simplify_name(column[:_MOST_LETTERS]) for column in columns}
    same = [column for column, name in simple.items() if name == simplify_name(wanted[:_MOST_LETTERS])]
    if same:
        return same[0] if len(same) == 1 else None
    close = get_close_matches(simplify_name(wanted[:_MOST_LETTERS]), list(simple.values()), n=2, cutoff=0.75)
    found = [column for column, name in simple.items() if name in close[:1]]
    return found[0] if len(found) == 1 else None


def suggest_map(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return {our name: the file's name} that reads these rows as questions and answers; {} when nothing tells.

    Only columns of text count. Without telling names, two columns of text are question and answer in their order.
    """
    texts = [column for column in columns if _holds_text(column, rows)]
    pair = _find_telling(_TELLING_PAIR, texts)
    if len(pair) == len(_TELLING_PAIR):
        asked = _find_telling(
            {"question": _TELLING["question"]}, [name for name in texts if name not in pair.values()]
        )
        return {**asked, **pair}
    found = _find_telling(_TELLING, texts)
    rest = [column for column in texts if column not in found.values()]
    for ours in ("question", "answer"):
        if ours not in found and len(rest) == 2 - len(found.keys() & {"question", "answer"}):
            found[ours] = rest.pop(0)
    return found if {"question", "answer"} <= found.keys() else {}


def _find_telling(words_of: Mapping[str, Sequence[str]], columns: Sequence[str]) -> dict[str, str]:
    """Return {our name: the column whose name says most that it is that}, each column once."""
    found: dict[str, str] = {}
    for ours, words in words_of.items():
        rest = [column for column in columns if column not in found.values()]
        named = [(words.index(word), column) for column in rest for word in words if word in simplify_name(column)]
        if named:
            found[ours] = min(named, key=lambda pair: pair[0])[1]
    return found


def write_map(mapping: Mapping[str, str]) -> str:
    """Return the options that map columns so, as a shell takes them."""
    ordered = [ours for ours in ("question", "think", "answer", *_TELLING_PAIR) if ours in mapping]
    return " ".join(f"--map {ours}={quote_column(mapping[ours])}" for ours in ordered)


def quote_column(name: str) -> str:
    """Return a column's name as a shell takes it behind `=`."""
    if simplify_name(name).isalnum() and not any(character.isspace() for character in name):
        return name
    return '"' + "".join(f"\\{character}" if character in '"\\$`' else character for character in name) + '"'


def _holds_text(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row.get(column) for row in rows]
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    # A column of numbers or dates is none that asks.
    return sum(not _NUMBERS.fullmatch(text) for text in texts) * 2 > len(texts)
