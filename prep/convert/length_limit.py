"""Rows that are longer than a model is to read: measured in its own tokens, as they will be trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from prep.choices import DEFAULT_TEMPLATE, OnLong, ThinkPolicy
from prep.errors import InputError, RecordError, UserError
from prep.registry.dataset import Dataset, align_row
from prep.rows.kinds import Form, Kind, get_form
from prep.rows.records import AlpacaRecord, FormRecord, Record
from prep.storage.fingerprints import hash_file
from prep.tokens.encoder import RowEncoder, TurnLengths
from prep.tokens.templates import find_template
from prep.tokens.tokenizer import find_tokenizer_file
from prep.tokens.turns import TemplateOptions

_ALPACA = Dataset(())


@dataclass(frozen=True)
class LengthLimit:
    """The most tokens that a row may have, and what becomes of a longer one.

    `tokenizer` is a tokenizer.json, whose content `sha256` pins; `on_long` is an OnLong.
    """

    max_tokens: int
    on_long: str
    tokenizer: str
    sha256: str
    template: str = DEFAULT_TEMPLATE

    @classmethod
    def of(
        cls, max_tokens: int, on_long: str, model: Path | None, template: str = DEFAULT_TEMPLATE
    ) -> "LengthLimit":
        """Return the limit in the tokens of a model's folder or tokenizer.json.

        Raises: UserError without a model or with an unknown template; InputError when its tokenizer cannot be used.
        """
        if model is None:
            raise UserError("--max-tokens needs the model whose tokenizer counts", hint="--model PATH")
        if on_long not in tuple(OnLong):
            raise UserError(f"--on-long {on_long} is not known; known are {', '.join(OnLong)}")
        file = find_tokenizer_file(model)
        return cls(max_tokens, on_long, file.as_posix(), hash_file(file), find_template(template).name)


class LengthMeter:
    """Measures written rows through a template of LLaMA-Factory, as their think policy will train them.

    `mask_history` is on: it is what a config of rows with history gets, and no other row differs by it.
    """

    def __init__(self, limit: LengthLimit, policy: ThinkPolicy) -> None:
        self._encoder = _load_encoder(limit.tokenizer, limit.sha256, policy.enable_thinking, limit.template)
        # What the template writes after a row's last turn.
        self._row_tokens = self._encoder.options.rules.row_tokens

    def measure(self, records: Sequence[Record]) -> list[int]:
        """Return the tokens of each row, of a preference row with the longer of its answers.

        Raises: RecordError when LLaMA-Factory could not encode a row.
        """
        try:
            if all(isinstance(record, AlpacaRecord) for record in records):
                rows = [align_row(record.as_dict(), _ALPACA) for record in records]
                return [_add_turns(turns) + self._row_tokens for turns in self._encoder.measure_rows(rows)]
            return [self._measure_one(record) for record in records]
        except InputError as error:
            raise RecordError(f"its tokens cannot be counted: {error}") from error

    def _measure_one(self, record: Record) -> int:
        row = align_row(record.as_dict(), _describe(_find_form(record)))
        return _add_turns(next(self._encoder.measure_rows([row]))) + self._row_tokens


def _add_turns(turns: Sequence[TurnLengths]) -> int:
    return sum(turn.source + turn.target for turn in turns)


def _find_form(record: Record) -> Form:
    if isinstance(record, FormRecord):
        return record.form
    return get_form(Kind.SFT, "alpaca" if isinstance(record, AlpacaRecord) else "sharegpt")


def _describe(form: Form) -> Dataset:
    return Dataset((), formatting=form.formatting, columns=form.all_columns, kind=form.kind)


@lru_cache(maxsize=1)
def _load_encoder(tokenizer: str, sha256: str, enable_thinking: bool | None, template: str) -> RowEncoder:
    """Load a tokenizer once for all shards of a process; `sha256` tells a file that was replaced from it."""
    return RowEncoder(Path(tokenizer), TemplateOptions(template, enable_thinking, mask_history=True))
