"""Blocks of whole lines are the same, and the same lines are too long, whether a stream can seek or not."""

import io
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from prep.errors import InputError
from prep.rows.line_blocks import cut_file_into_lines, cut_into_lines


def make_lines(random_: random.Random) -> bytes:
    lines = b"".join(b"x" * random_.choice((0, 1, 3, 10, 30, 9_000)) + b"\n" for _ in range(random_.randrange(30)))
    return lines + b"the last" * random_.randrange(2)


def list_blocks(blocks: Iterable[object]) -> list[object]:
    """Return the blocks, and what was raised after them."""
    found: list[object] = []
    try:
        found.extend(blocks)
    except InputError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_file_is_cut_as_a_stream_is(seed: int, tmp_path: Path) -> None:
    random_ = random.Random(seed)
    for _ in range(60):
        data = make_lines(random_)
        size, most = random_.choice((1, 2, 7, 50, 10_000)), random_.choice((5, 12, 40, 20_000))
        path = tmp_path / "lines"
        path.write_bytes(data)
        with path.open("rb") as file:
            cut = list_blocks(cut_file_into_lines(file, "n", size, most))
        assert cut == list_blocks(cut_into_lines(io.BytesIO(data), "n", size, most))
