"""`--where` conditions: one column compared with one value."""

import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prep.errors import RecordError, UserError
from prep.formats.fields import describe_type

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"\s*(.+?)\s*(>=|<=|==|!=|>|<)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """One comparison; numbers compare as numbers, whether the file holds them as numbers or text."""

    column: str
    sign: str
    value: str

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row meets the condition; null meets none but `!=`.

        Raises: RecordError when the row has no such column, or holds what cannot be compared.
        """
        if self.column not in row:
            raise RecordError(f"column '{self.column}' of --where is not there")
        seen = row[self.column]
        if seen is None:
            return self.sign == "!="
        if isinstance(seen, bool):
            seen = str(seen).lower()
        wanted = _as_number(self.value)
        number = _as_number(seen)
        if wanted is not None and number is not None:
            return _OPERATORS[self.sign](number, wanted)
        if isinstance(seen, int | float | str) and self.sign in ("==", "!="):
            return _OPERATORS[self.sign](str(seen), self.value)
        wanted_type = "a number" if wanted is not None else "comparable"
        raise RecordError(f"column '{self.column}' of --where is {describe_type(seen)}, not {wanted_type}")


def parse_condition(text: str) -> Condition:
    """Parse `score>=4.5` or `source==x`; raises UserError when it is no comparison."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UserError(f"--where takes COLUMN OPERATOR VALUE, not '{text}'", hint='--where "score>=4.5"')
    column, sign, value = match.groups()
    if sign not in ("==", "!=") and _as_number(value) is None:
        raise UserError(f"--where {text}: '{value}' is not a number", hint="compare text with == or !=")
    return Condition(column, sign, value.strip("'\"") if value[:1] == value[-1:] and value[:1] in "'\"" else value)


def all_hold(conditions: Sequence[Condition], row: Mapping[str, Any]) -> bool:
    """Whether a row meets every condition."""
    return all(condition.holds(row) for condition in conditions)


def condition_columns(conditions: Collection[Condition]) -> set[str]:
    """Return the columns that conditions read."""
    return {condition.column for condition in conditions}


def _as_number(value: object) -> float | None:
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
