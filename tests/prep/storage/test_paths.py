"""Names with numbers."""

from pathlib import Path

import pytest

from prep.storage.paths import number_next


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("a", "a.2"),
        ("a.2", "a.3"),
        ("a.9", "a.10"),
        ("v1.b", "v1.b.2"),
        (".2", ".2.2"),
        ("a.²", "a.².2"),
        ("a." + "9" * 5_000, "a." + "9" * 5_000 + ".2"),
    ],
)
def test_the_name_after_a_name(name: str, following: str) -> None:
    assert number_next(Path("runs") / name) == Path("runs") / following
