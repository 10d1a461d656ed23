"""Encoding by pieces gives what encoding gives, compiled and in Python."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.tokens.part_encoder import PartEncoder, TextLength, pack_ids
from prep.tokens.piece_cutter import _SAFE_RANGES

CONTEXTS = ("a{0}1", " {0}{0}\n", "'{0}", "{0}a", "1{0} {0}b", "\n{0}\r\n", "。{0}中", "  {0}", "{0}'s", "'r{0}")


@pytest.fixture(scope="module")
def tokenizer(qwen3_folder: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(qwen3_folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=[True, False], ids=["compiled", "python"])
def encoder(tokenizer: Any, request: pytest.FixtureRequest) -> PartEncoder:
    return PartEncoder(tokenizer, "</think>", uses_c=request.param)


def encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def find_length(ids: list[int]) -> TextLength:
    return TextLength(len(ids), ids.index(151668) if 151668 in ids else -1)


def check(tokenizer: Any, encoder: PartEncoder, texts: list[str]) -> None:
    expected = [encode(tokenizer, text) for text in texts]
    ids, ends = encoder.encode(texts)
    starts = [0, *ends.tolist()]
    assert [ids[start:end].tolist() for start, end in pairwise(starts)] == expected
    assert encoder.measure(dict.fromkeys(texts)) == {
        text: find_length(told) for text, told in zip(texts, expected, strict=True)
    }


def test_the_compiled_engine_is_there(encoder: PartEncoder, request: pytest.FixtureRequest) -> None:
    """Built for the tests: without it both halves of each test would be the same."""
    name = type(encoder._engine).__name__
    assert name == ("_CompiledEngine" if request.node.callspec.params["encoder"] else "_PythonEngine")


def test_every_safe_character_is_cut_as_the_tokenizer_cuts_it(tokenizer: Any, encoder: PartEncoder) -> None:
    texts = []
    for first, last in _SAFE_RANGES:
        # Twenty thousand Chinese characters: two contexts are enough to tell a letter.
        contexts = CONTEXTS if last < 0x4E00 else CONTEXTS[:2]
        for code in range(first, last + 1):
            text = "".join(context.format(chr(code)) for context in contexts)
            assert encoder.cutter.is_safe(text)
            assert tokenizer.normalizer.normalize_str(text) == text
            cuts = [start for _, (start, _) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
            place, ours = 0, []
            for piece in encoder.cutter.cut(text):
                ours.append(place)
                place += len(piece)
            assert ours == cuts, f"U+{code:04X}"
            texts.append(text)
    check(tokenizer, encoder, texts)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.text(max_size=60) | st.text("a'sS 1中。，\n\r\t <>|think/_é ́\u3000ſ🙂", max_size=60), max_size=4)
)
def test_any_text_has_the_ids_that_encoding_gives(tokenizer: Any, encoder: PartEncoder, texts: list[str]) -> None:
    check(tokenizer, encoder, texts)


def test_a_very_long_piece_is_encoded_too(tokenizer: Any, encoder: PartEncoder) -> None:
    check(tokenizer, encoder, ["x" * 1024, "y" * 1025, "-" * 3000 + "a", " " * 5000 + "é", "中" * 2000])


def test_ids_among_texts_stand_as_they_are(encoder: PartEncoder) -> None:
    ids, ends = encoder.encode([pack_ids([7, 8]), "", "é ́", pack_ids([]), pack_ids([9])])
    assert (ids.tolist()[:2], ids.tolist()[-1]) == ([7, 8], 9)
    assert ends.tolist()[:2] == [2, 2]
    assert ends.tolist()[-1] == len(ids) == ends.tolist()[-2] + 1


def test_what_broke_off_is_learned_again(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = PartEncoder(tokenizer, "</think>")
    with monkeypatch.context() as broken:
        broken.setattr(encoder, "_encode_pieces", lambda pieces: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoder.encode(["never seen before"])
    check(tokenizer, encoder, ["never seen before"])


def test_added_tokens_marks_and_repeats_are_counted(tokenizer: Any, encoder: PartEncoder) -> None:
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
    check(tokenizer, encoder, texts)


def test_pieces_are_forgotten_when_there_are_too_many(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prep.tokens.part_encoder._MOST_PIECES", 3)
    for uses_c in (True, False):
        encoder = PartEncoder(tokenizer, "</think>", uses_c=uses_c)
        for text in ("a b c d e f", "a b g h", "x", "a y"):
            check(tokenizer, encoder, [text])


def test_another_kind_of_tokenizer_is_encoded_whole(tokenizer: Any) -> None:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    other = Tokenizer.from_str(tokenizer.to_str())
    other.normalizer = normalizers.Lowercase()
    assert not PartEncoder(other, "</think>").cutter.is_safe("a")
    other = Tokenizer.from_str(tokenizer.to_str())
    other.pre_tokenizer = pre_tokenizers.ByteLevel()
    encoder = PartEncoder(other, "</think>")
    assert not encoder.cutter.is_safe("a")
    check(other, encoder, ["a b</think>"])
    other.add_tokens(["plain"])
    assert not PartEncoder(other, "</think>").cutter.is_safe("a")
