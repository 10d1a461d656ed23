"""Which tokens of a row are trained on: ids and labels as LLaMA-Factory's processor of a stage makes them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from prep.rows.conversation import Conversation
from prep.tokens.cutoff import IGNORE_INDEX, keep_lengths, truncate_turns
from prep.tokens.encoder import EncodedTurn, RowEncoder

# More tokens than any template makes of a row that could be trained on.
NO_CUTOFF = 1 << 40
_MOST_BYTES_A_LETTER = 4


class MaskedRow(NamedTuple):
    """One sequence that is trained on: `answer` is chosen or rejected of a pair, "" of any other row.

    Shape: `labels` are the ids again, or -100 where nothing is trained; `cut` is how many tokens a cutoff took.
    """

    answer: str
    ids: list[int]
    labels: list[int]
    cut: int


class TokenText(NamedTuple):
    """One token, or several that share a letter, as text."""

    ids: tuple[int, ...]
    text: str
    is_trained: bool


def mask_row(encoder: RowEncoder, row: Conversation, cutoff_len: int = NO_CUTOFF) -> list[MaskedRow]:
    """Return a row's sequences with their labels: two of a row with two answers.

    Source: LLaMA-Factory 0.9.5, data/processor: supervised.py, pairwise.py, feedback.py, pretrain.py.
    Raises: InputError when the template has no place for what the row holds.
    """
    encoded = {answer: encoder.encode_turns(one) for answer, one in row.answered.items()}
    if len(row.messages) == 1:
        ids = encoded[""][0].target
        return [MaskedRow("", ids[:cutoff_len], ids[:cutoff_len], max(len(ids) - cutoff_len, 0))]
    if encoder.options.has_one_answer:
        return list(_mask_answers(encoder, encoded, cutoff_len))
    ids, labels = truncate_turns(
        encoded[""],
        cutoff_len,
        mask_history=encoder.options.mask_history,
        end_of_row=encoder.end_of_row,
    )
    whole = sum(len(turn.source) + len(turn.target) for turn in encoded[""]) + encoder.options.rules.row_tokens
    return [MaskedRow("", ids, labels, whole - len(ids))]


def _mask_answers(
    encoder: RowEncoder, encoded: dict[str, list[EncodedTurn]], cutoff_len: int
) -> Iterator[MaskedRow]:
    """Cut as LLaMA-Factory cuts both answers of a pair: by the longer one, behind the prompt of the better one."""
    end = [] if encoder.end_of_row is None else [encoder.end_of_row]
    answers = {answer: turns[0].target + end for answer, turns in encoded.items()}
    prompt = next(iter(encoded.values()))[0].source
    kept_source, kept_target = keep_lengths(len(prompt), max(map(len, answers.values())), cutoff_len)
    for answer, target in answers.items():
        source, kept = prompt[:kept_source], target[:kept_target]
        lost = len(prompt) + len(target) - len(source) - len(kept)
        yield MaskedRow(answer, source + kept, [IGNORE_INDEX] * len(source) + kept, lost)


def spell_tokens(tokenizer: Any, row: MaskedRow) -> list[TokenText]:
    """Return the text of each token; tokens that are only parts of a letter stand together."""
    spelled: list[TokenText] = []
    waiting: list[int] = []
    for place, token in enumerate(row.ids):
        is_trained = row.labels[place] != IGNORE_INDEX
        waiting.append(token)
        text = _spell(tokenizer, waiting)
        follows = row.labels[place + 1 : place + 2]
        may_go_on = bool(follows) and (follows[0] != IGNORE_INDEX) == is_trained
        if text.endswith("\ufffd") and may_go_on and len(waiting) < _MOST_BYTES_A_LETTER:
            continue
        spelled.append(TokenText(tuple(waiting), text, is_trained))
        waiting = []
    return spelled


def _spell(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    # Tokenizers of the SentencePiece kind leave the blank before a text's first word out.
    begins_with_blank = (tokenizer.id_to_token(ids[0]) or "").startswith("\u2581")
    return f" {text}" if begins_with_blank and not text.startswith(" ") else text
