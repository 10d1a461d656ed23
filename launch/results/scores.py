"""How good each answer is, row by row, and how sure a difference between two models is: no files, no processes.

Every figure runs from 0 to 100, so that each is a share or a mean over rows.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from prep.errors import RecordError, StackError
from prep.rows.thinking import CLOSE_TAG, OPEN_TAG, Split, find_thought, may_hold_markup, split_thought

RowScores = dict[str, float]
Similarity = Callable[[str, str], RowScores]

_RESAMPLES = 2_000
_CHUNK = 100
# With fewer rows a bootstrap repeats what it was given: no figure is called clear.
_LEAST_ROWS = 10
_BRACE = re.compile(r"\\f?boxed\s*\{|[{}]")
# Python itself takes no longer number from a text.
_LONGEST_NUMBER = 4_300
# What similarity is measured on: longer than any answer that a model gives.
_MEASURED_CHARACTERS = 1 << 18
# What keeps ROUGE's share finite for two texts without a common word, as rouge_chinese writes it.
_NEARLY_NOTHING = 1e-8
# A longer result is no result of maths.
_LONGEST_RESULT = 10_000
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+|\d+/\d+)", re.ASCII)


class Figure(NamedTuple):
    """One column of a comparison: its key, what it says, and whether more of it is better."""

    name: str
    meaning: str
    more_is_better: bool = True


FIGURES = (
    Figure("bleu_4", "BLEU-4 of the answers"),
    Figure("rouge_1", "ROUGE-1 of the answers"),
    Figure("rouge_2", "ROUGE-2 of the answers"),
    Figure("rouge_l", "ROUGE-L of the answers"),
    Figure("maths", r"right results in \boxed{}"),
    Figure("think_format", "think blocks formed as in the held-out row"),
    Figure("cut_off", "cut off before </think>", more_is_better=False),
    Figure("unasked", "thoughts where none was asked", more_is_better=False),
    Figure("unthought", "asked to think and did not", more_is_better=False),
)


class Prediction(NamedTuple):
    """One line of LLaMA-Factory's `generated_predictions.jsonl`: the template's text, the model's, the row's."""

    prompt: str
    output: str
    label: str


@dataclass(frozen=True)
class Change:
    """How far a figure's mean moved between two models, with the 95 % interval of that over the rows."""

    value: float
    low: float
    high: float
    rows: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.rows >= _LEAST_ROWS and not self.low <= 0 <= self.high

    def format(self) -> str:
        """Return the change with its interval, and a star when the interval excludes 0."""
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]{'*' if self.is_clear else ''}"


def score_row(row: Prediction, measure: Similarity, *, asks_to_think: bool = False) -> RowScores:
    r"""Return the figures that apply to a row.

    `maths` applies where the held-out answer has a `\boxed{}`, `unasked` where the held-out row has no thought:
    LLaMA-Factory removes it from the row under `enable_thinking: false`. `unthought` applies where the held-out row
    has a thought, and to every row where `asks_to_think` says so.
    """
    output, label = _with_opening(row.output, row.prompt), _with_opening(row.label, row.prompt)
    answer, wanted = read_answer(output), read_answer(label)
    scores = measure(answer, wanted)
    result = find_boxed(wanted)
    if result is not None:
        scores["maths"] = _percent(match_results(find_boxed(answer), result))
    scores["think_format"] = _percent(is_formed_alike(output, label))
    scores["cut_off"] = _percent(OPEN_TAG in output and CLOSE_TAG not in output)
    if asks_to_think or shows_thought(label):
        scores["unthought"] = _percent(not shows_thought(output))
    else:
        scores["unasked"] = _percent(shows_thought(output))
    return scores


def read_answer(text: str) -> str:
    """Return what follows the thought: all of a text without one, nothing of one whose thought never ended.

    Thoughts in other markup than Qwen3's own are found as convert finds them.
    """
    rest = text.rpartition(CLOSE_TAG)[2]
    return "" if OPEN_TAG in rest else _read_other_markup(rest.strip()).answer.strip()


def is_formed_alike(output: str, label: str) -> bool:
    """Tell whether an output is one whole think block and an answer where the label has a block, else bare."""
    try:
        _, answer = split_thought(output)
    except RecordError:
        return False
    return bool(answer.strip()) and output.startswith(OPEN_TAG) == label.startswith(OPEN_TAG)


def shows_thought(text: str) -> bool:
    """Tell whether anything but white space stands in, or after, an opened think block, or in other markup."""
    thought = text.partition(OPEN_TAG)[2].partition(CLOSE_TAG)[0]
    return bool(thought.strip() or _read_other_markup(text.rpartition(CLOSE_TAG)[2].strip()).thought.strip())


def _read_other_markup(text: str) -> Split:
    """Return the parts of a text without Qwen3's tags; one that cannot be told apart is all answer."""
    if not may_hold_markup(text):
        return Split("", text)
    try:
        return find_thought(text)
    except RecordError:
        return Split("", text)


def load_similarity() -> Similarity:
    """Return the function that gives BLEU-4 and ROUGE of (output, label).

    Shape: of a text its first 262,144 characters count. ROUGE-L, for which rouge_chinese takes memory by the
    product of both texts' words (gigabytes for two of 10,000), is computed here in memory by their sum.
    Raises: StackError when jieba, nltk or rouge_chinese is missing.
    Source: LLaMA-Factory 0.9.5, train/sft/metric.py, ComputeSimilarity, whose numbers these are.
    """
    try:
        import jieba
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
        from rouge_chinese import Rouge
    except ImportError as error:
        raise StackError(
            f"scoring needs jieba, nltk and rouge_chinese: {error}",
            hint="pip install 'llamafactory-companion[train]', or: pip install jieba nltk rouge-chinese",
        ) from error
    jieba.setLogLevel(logging.WARNING)
    smooth, rouge = SmoothingFunction().method3, Rouge(metrics=["rouge-1", "rouge-2"])

    def measure(output: str, label: str) -> RowScores:
        output, label = output[:_MEASURED_CHARACTERS], label[:_MEASURED_CHARACTERS]
        bleu = sentence_bleu([list(label)], list(output), smoothing_function=smooth)
        words, wanted = " ".join(jieba.cut(output)), " ".join(jieba.cut(label))
        if words.split() and wanted.split():
            overlaps = {name: overlap["f"] for name, overlap in rouge.get_scores(words, wanted)[0].items()}
            overlaps["rouge-l"] = _measure_rouge_l(
                *(_split_words(rouge.cut_sent(text)) for text in (words, wanted))
            )
        else:
            overlaps = dict.fromkeys(("rouge-1", "rouge-2", "rouge-l"), 0.0)
        scores = {"bleu-4": bleu, **overlaps}
        return {name.replace("-", "_"): round(score * 100, 4) for name, score in scores.items()}

    return measure


def _split_words(sentences: Sequence[str]) -> list[str]:
    """Return the words that rouge_chinese counts: one empty word for a sentence of white space."""
    return [word for sentence in sentences if sentence for word in " ".join(sentence.split()).split(" ")]


def _measure_rouge_l(words: Sequence[str], wanted: Sequence[str]) -> float:
    """Return ROUGE-L's F measure, from 0 to 1, as rouge_chinese 1.0.3 computes it."""
    common = count_common_subsequence(words, wanted)
    precision, recall = common / len(words), common / len(wanted)
    return 2.0 * ((precision * recall) / (precision + recall + _NEARLY_NOTHING))


def count_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    Source: H. Hyyrö, "Bit-parallel LCS-length computation revisited", 2004: one addition a word, on integers of as
    many bits as the first text has words.

    >>> count_common_subsequence("a b c d".split(), "a c b d".split())
    3
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(first)) - 1
    row = everything
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & everything
    return len(first) - row.bit_count()


def find_boxed(text: str) -> str | None:
    r"""Return what stands in the last whole `\boxed{…}`, None when there is none.

    >>> find_boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    # Where each open brace's content begins, -1 for one that opens no box: one pass, however many there are.
    opened: list[int] = []
    last = (-1, -1)
    for found in _BRACE.finditer(text):
        # `\{` and `\}` are set braces; they nest in any text that renders.
        if found[0] != "}":
            opened.append(found.end() if len(found[0]) > 1 else -1)
        elif opened:
            last = max(last, (opened.pop(), found.start()))
    start, end = last
    return text[start:end].strip() if start >= 0 else None


def match_results(found: str | None, wanted: str) -> bool:
    """Tell whether two results are the same once written alike: `0.50`, `1/2` and `\\dfrac{1}{2}` are."""
    return found is not None and normalise_result(found) == normalise_result(wanted)


def normalise_result(text: str) -> str:
    r"""Return one spelling of a result: no layout, no units of degree or percent, numbers as reduced fractions.

    >>> normalise_result(r"x = \dfrac{2}{4}")
    '1/2'
    """
    if len(text) > _LONGEST_RESULT:
        return text
    text = re.sub(r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[!,;: ]|\\?\$|~", "", text.replace("{,}", ","))
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\^\s*\{?\\circ\}?|\\?%", "", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\s+", "", text).rstrip(".。")
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"^[A-Za-z]=(?=.)", "", text)
    fraction = re.fullmatch(r"([+-]?)\\frac\{([+-]?\d+)\}\{([+-]?\d+)\}", text)
    if fraction:
        text = f"{fraction[1]}{fraction[2]}/{fraction[3]}".replace("--", "").replace("+", "")
    # Matched first: Fraction would work out 1e999999999.
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return text
    try:
        return str(Fraction(text))
    except (ValueError, ZeroDivisionError):
        return text


def average_scores(rows: Sequence[RowScores]) -> dict[str, float]:
    """Return each figure's mean over the rows that it applies to, in the order of FIGURES."""
    means = {}
    for figure in FIGURES:
        values = [row[figure.name] for row in rows if figure.name in row]
        if values:
            means[figure.name] = round(sum(values) / len(values), 4)
    return means


def compare_scores(
    before: Sequence[RowScores], after: Sequence[RowScores], *, seed: int = 42
) -> Mapping[str, Change]:
    """Return how each figure moved between two models' answers to the same rows, row by row in pairs."""
    changes = {}
    for figure in FIGURES:
        pairs = zip(before, after, strict=True)
        differences = [new[figure.name] - old[figure.name] for old, new in pairs if figure.name in old]
        if differences:
            changes[figure.name] = bootstrap_change(differences, seed=seed)
    return changes


def bootstrap_change(differences: Sequence[float], *, seed: int) -> Change:
    """Return the mean of paired differences with its 95 % percentile interval; the same seed, the same numbers."""
    import numpy as np

    values, draw = np.asarray(differences, dtype=float), np.random.default_rng(seed)
    means = [
        values[draw.integers(0, len(values), (_CHUNK, len(values)))].mean(axis=1)
        for _ in range(_RESAMPLES // _CHUNK)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Change(round(float(values.mean()), 4), round(float(low), 4), round(float(high), 4), len(values))


def _with_opening(text: str, prompt: str) -> str:
    """Return a text with the `<think>` that some templates write at the end of the prompt."""
    if OPEN_TAG in text or not prompt.rstrip().endswith(OPEN_TAG):
        return text
    return f"{OPEN_TAG}\n{text}"


def _percent(is_true: bool) -> float:
    return 100.0 if is_true else 0.0
