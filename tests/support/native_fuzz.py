"""Odd inputs for one of the compiled modules, which was built with the sanitizers: `native_fuzz.py MODULE FILE INPUTS SEED`.

Runs in a process of its own under PYTHONMALLOC=malloc, so that one byte beyond any buffer of Python's is seen too.
Prints how many inputs there were, and how many of them the module took.
"""

import importlib.util
import itertools
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROWS = 40

PARTS = [
    "a", "word ", '\\"', "\\\\", "\\n", "\\u0061", "\\u4e2d", "\\ud83d\\ude00", "\\ud83d", "\\u00", "\\/", "<think>", "</think>",
    "<think>\\n\\n</think>\\n\\n", "</thi", "中", "中文字中文字", "é", "😀", "．", "“", "”", " ", "\\t", "1", "12", "{", "}", ",", ":",
    "[", "]", "a" * 40, "s/f:1", "#2", "_", "\u3000", "\x7f", "Ａ", "ß", "ǅ",
]  # fmt: skip
# Of these a plain line may be made.
TAME = ["a", "word ", "中文字中文字", "é", "😀", "“", " ", "1", ",", "a" * 40, "ß"]
RAW = [
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b"\x00",
    b"\x01",
    b"\xff",
    b"\xe4\xb8",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"{",
    b"]",
]


def spoil(random_: random.Random, line: bytearray) -> None:
    """Change, leave out or cut off some bytes."""
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(line) + 1)
        line[place : place + random_.randrange(3)] = random_.choice(RAW)
    if random_.random() < 0.2:
        del line[random_.randrange(len(line) + 1) :]


def make_text(random_: random.Random, most: int = 5, *, tame: bool = False) -> str:
    return "".join(random_.choices(TAME if tame else PARTS, k=random_.randrange(most + 1)))


def make_record(random_: random.Random) -> bytes:
    """Return a line as the row index has it, or one that is spoiled."""
    tame = random_.random() < 0.5
    question, *texts = (make_text(random_, tame=tame) for _ in range(10))
    pairs = [texts[:2], texts[2:4]][: random_.choice((0, 0, 1, 2))]
    turns = ",".join(f'["{one}","{other}"]' for one, other in pairs)
    odd = ["s/f:0", "s/f:1#0", "f:1", "s/:1", "s/f:", "s//f:9#9", texts[8]]
    origin = random_.choice(["s/f:1", "中/f.jsonl:12#3", *([] if tame else odd)])
    thought = random_.choice(["", "<think>\\n\\n</think>\\n\\n", "<think>\\nx\\n</think>\\n\\n"])
    line = bytearray(
        f'{{"instruction":"q{question}","input":"{texts[4]}","output":"{thought}{texts[5]}",'
        f'"system":"{texts[6]}","history":[{turns}],"origin":"{origin}"}}'.encode()
    )
    if random_.random() < 0.3:
        spoil(random_, line)
    return bytes(line)


def fuzz_indexer(module: Any, inputs: int, random_: random.Random) -> int:
    taken = 0
    for _ in range(inputs // 4):
        lines = b"\n".join(make_record(random_) for _ in range(4)) + random_.choice((b"\n", b""))
        start = 0
        while start < len(lines):
            output = bytearray(random_.choice((0, 7, 100, 1_000)))
            taken += module.describe_lines(lines, start, output)[0]
            start = lines.find(b"\n", start) + 1 or len(lines)
    return taken


def fuzz_kernel(module: Any, inputs: int, random_: random.Random) -> int:
    """Rows of lines, arrays and tables, converted under every mapping of five columns to three texts."""
    sys.modules["prep.convert._kernel"] = module
    import prep.convert

    setattr(prep.convert, "_kernel", module)  # noqa: B010
    from prep.choices import ThinkPolicy
    from prep.convert.convert import convert_files
    from prep.convert.options import ConvertOptions
    from prep.errors import UserError

    # What the disk has at which moment is not asked here.
    os.fsync = lambda fd: None
    taken, folder = 0, Path(tempfile.mkdtemp(prefix="lfc-fuzz-"))
    mappings = list(itertools.permutations(range(5), 3))
    try:
        for number in range(max(1, inputs // ROWS)):
            suffix = random_.choice(("jsonl", "json", "csv"))
            path = write_rows(random_, folder / f"in.{suffix}")
            places = random_.choice(mappings) if random_.random() < 0.9 else (random_.randrange(5),) * 3
            roles = dict(zip(("question", "think", "answer"), (f"c{place}" for place in places), strict=True))
            options = ConvertOptions(
                column_map=roles,
                policy=random_.choice(list(ThinkPolicy)),
                where=random_.choice(((), ("c0 is not null",))),
                drop=tuple(f"c{place}" for place in range(5) if place not in places),
                max_rejects=ROWS,
                force=True,
            )
            with suppress(UserError):
                taken += convert_files([path], folder / f"out{number % 3}.jsonl", options).counts["records"]
    finally:
        shutil.rmtree(folder)
    return taken


def write_rows(random_: random.Random, path: Path) -> Path:
    """Write rows of five columns, plain ones or not, as lines, as an array or as a table."""
    tame = random_.random() < 0.6
    lines = [
        bytearray(make_line(random_, tuple(f'"c{place}"'.encode() for place in range(5)), tame=tame))
        for _ in range(ROWS)
    ]
    if path.suffix == ".csv":
        head = b"c0,c1,c2,c3,c4\n"
        lines = [
            bytearray(",".join(f'"x{make_text(random_, tame=tame)}"' for _ in range(5)).encode() + b"\n")
            for _ in lines
        ]
        content = head + b"".join(lines)
    else:
        for line in lines:
            if not tame and random_.random() < 0.1:
                spoil(random_, line)
        rows = b",".join(line.rstrip() for line in lines)
        content = b"[" + rows + b"]" if path.suffix == ".json" else b"".join(lines)
    path.write_bytes(content)
    return path


def make_line(random_: random.Random, names: tuple[bytes, ...], *, tame: bool) -> bytes:
    values = [f'"x{make_text(random_, tame=True)}"' for _ in names]
    if not tame:
        values = [random_.choice((value, f'"{make_text(random_)}"', "null", "12", "true")) for value in values]
    pairs = (name + b":" + value.encode() for name, value in zip(names, values, strict=True))
    return b"{" + b",".join(pairs) + b"}\n"


def fuzz_pieces(module: Any, inputs: int, random_: random.Random) -> int:
    taken = 0
    classes = bytes(random_.choices(range(6), weights=(1, 30, 5, 10, 4, 20), k=1 << 16))
    for number in range(inputs // 8):
        if number % 500 == 0:
            added = [(b"<think>", 1), (b"</think>", 2), (b"<", 3)][: random_.randrange(4)]
            table = module.new_table(classes, added, random_.choice((-1, 1, 7)))
        parts: list[str | bytes] = [make_text(random_, 6) for _ in range(7)]
        parts.append(
            random_.choice((bytes(random_.randrange(20)), "\ud800", "x" * 1_500, "'", "'r", "a\n \n", "", b""))
        )
        random_.shuffle(parts)
        for call in (module.encode, module.measure):
            _, _, unknown, whole = call(table, parts)
            taken += len(parts) - len(whole)
            counts = [random_.randrange(4) for _ in unknown]
            packed = b"".join(count.to_bytes(4, sys.byteorder) for count in counts)
            spare = random_.choice((0, 0, 4, -4))
            try:
                module.learn(table, unknown, packed, bytes(max(0, 4 * sum(counts) + spare)))
            except ValueError:
                table = module.new_table(classes, [], 1)
    return taken // 2


FUZZ: dict[str, Callable[[Any, int, random.Random], int]] = {
    "_indexer": fuzz_indexer,
    "_kernel": fuzz_kernel,
    "_pieces": fuzz_pieces,
}


def main() -> None:
    name, file, inputs, seed = sys.argv[1:]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    taken = FUZZ[name](module, int(inputs), random.Random(int(seed)))
    sys.stdout.write(f"{inputs} inputs {taken} taken\n")


if __name__ == "__main__":
    main()
