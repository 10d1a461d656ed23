"""Numbers in sentences."""

import pytest

from prep.wording import count_of


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (2, "row", "2 rows"),
        (12_345, "finding", "12,345 findings"),
        (2, "copy", "2 copies"),
        (2, "key", "2 keys"),
        (1, "copy", "1 copy"),
    ],
)
def test_a_noun_agrees_with_its_number(number: int, noun: str, text: str) -> None:
    assert count_of(number, noun) == text
