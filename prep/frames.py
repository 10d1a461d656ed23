"""Results as tables of pandas, for notebooks."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def make_frame(rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return rows as a pandas frame, a column for each key, in the order in which they first come."""
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows])
