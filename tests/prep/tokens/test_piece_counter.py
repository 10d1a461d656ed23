"""Counting by pieces gives what encoding gives."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.tokens.piece_counter import _SAFE_RANGES, PieceCounter, TextLength

CONTEXTS = ("a{0}1", " {0}{0}\n", "'{0}", "{0}a", "1{0} {0}b", "\n{0}\r\n", "。{0}中", "  {0}", "{0}'s", "'r{0}")


@pytest.fixture(scope="module")
def tokenizer(qwen3_folder: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(qwen3_folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def counter(tokenizer: Any) -> PieceCounter:
    return PieceCounter(tokenizer, "</think>")


def encode(tokenizer: Any, text: str) -> TextLength:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return TextLength(len(ids), ids.index(151668) if 151668 in ids else -1)


def test_every_safe_character_is_cut_as_the_tokenizer_cuts_it(tokenizer: Any, counter: PieceCounter) -> None:
    for first, last in _SAFE_RANGES:
        # Twenty thousand Chinese characters: two contexts are enough to tell a letter.
        contexts = CONTEXTS if last < 0x4E00 else CONTEXTS[:2]
        for code in range(first, last + 1):
            text = "".join(context.format(chr(code)) for context in contexts)
            assert counter.is_safe(text)
            assert tokenizer.normalizer.normalize_str(text) == text
            cuts = [start for _, (start, _) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
            place, ours = 0, []
            for piece in counter.cut(text):
                ours.append(place)
                place += len(piece)
            assert ours == cuts, f"U+{code:04X}"


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=60) | st.text("a'sS 1中。，\n\r\t <>|think/_é ́\u3000ſ🙂", max_size=60))
def test_any_text_has_the_length_that_encoding_gives(tokenizer: Any, counter: PieceCounter, text: str) -> None:
    assert counter.measure([text]) == {text: encode(tokenizer, text)}


def test_added_tokens_marks_and_repeats_are_counted(tokenizer: Any, counter: PieceCounter) -> None:
    words = [
        "<think>",
        "</think>",
        "<|im_end|>",
        "<tool_call>",
        "</tool_",
        "hello",
        " hello",
        "\n",
        "中文。",
        "<",
        "é",
        "́",
    ]
    rng = random.Random(9)
    texts = ["".join(rng.choices(words, k=rng.randint(0, 12))) for _ in range(2000)]
    assert counter.measure(dict.fromkeys(texts)) == {text: encode(tokenizer, text) for text in texts}


def test_pieces_are_forgotten_when_there_are_too_many(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prep.tokens.piece_counter._MOST_PIECES", 3)
    counter = PieceCounter(tokenizer, "</think>")
    for text in ("a b c d e f", "a b g h", "x", "a y"):
        assert counter.measure([text]) == {text: encode(tokenizer, text)}


def test_another_kind_of_tokenizer_is_encoded_whole(tokenizer: Any) -> None:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    other = Tokenizer.from_str(tokenizer.to_str())
    other.normalizer = normalizers.Lowercase()
    assert not PieceCounter(other, "</think>").is_safe("a")
    other = Tokenizer.from_str(tokenizer.to_str())
    other.pre_tokenizer = pre_tokenizers.ByteLevel()
    counter = PieceCounter(other, "</think>")
    assert not counter.is_safe("a")
    assert counter.measure(["a b</think>"]) == {"a b</think>": encode(other, "a b</think>")}
    other.add_tokens(["plain"])
    assert not PieceCounter(other, "</think>").is_safe("a")
