"""Odd inputs for one of the compiled modules, which was built with the sanitizers: `native_fuzz.py MODULE FILE INPUTS SEED`.

Runs in a process of its own under PYTHONMALLOC=malloc, so that one byte beyond any buffer of Python's is seen too.
Prints how many inputs there were, and how many of them the module took.
"""

import hashlib
import importlib.util
import itertools
import os
import random
import shutil
import sys
import tempfile
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

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


ROWS = 40


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
            module.list_origins(lines[start:])
            start = lines.find(b"\n", start) + 1 or len(lines)
    return taken


def fuzz_near(module: Any, inputs: int, random_: random.Random) -> int:
    """Lines and texts, folded by a table that knows some characters only, into buffers that are often too small."""
    table = array("I", [0xFFFFFFFF]) * 0x110000
    for code in (*range(128), *map(ord, "中文字é😀“Ａß\u3000")):
        table[code] = random_.choice((0, code, code, code, 0x80000000 | code))
    taken = 0
    for _ in range(inputs // 4):
        rows = [
            make_record(random_) if random_.random() < 0.8 else (make_text(random_), random_.getrandbits(64))
            for _ in range(4)
        ]
        for start in range(5):
            output = array("Q", bytes(8 * random_.choice((0, 1, 30, 1_000))))
            taken += len(module.hash_rows(rows, start, len, table, output))
        one, other = (make_text(random_, 20) for _ in range(2))
        both, either = module.compare(one, random_.choice((one, other, "", one[:4])))
        assert 0 <= both <= either
    return taken // 4


def fuzz_sound(module: Any, inputs: int, random_: random.Random) -> int:
    """Blocks of four lines, some of them cut off."""
    taken = 0
    for _ in range(inputs // 4):
        data = b"\n".join(make_record(random_) for _ in range(4)) + random_.choice((b"\n", b"", b"\n\n"))
        output = bytearray(random_.choice((0, 1, 4, 100)))
        lines = module.sort_lines(data, output)
        assert lines <= len(output)
        taken += sum(map(bool, output[:lines]))
    return taken


def fuzz_calls(module: Any, inputs: int, random_: random.Random) -> int:
    """Objects, fields and tables of any uses, now and then judged, in buffers that are often too small."""
    calls = (_call_objects, _call_fields, _call_table)
    taken = 0
    for number in range(inputs // 4):
        tame = random_.random() < 0.6
        texts = tuple(make_text(random_, 2).encode() for _ in range(10))
        roles = ((b"human", module.USER), (b"gpt", module.ASSISTANT), (b"system", module.SYSTEM))
        job = (texts, random_.randrange(4), random_.randrange(3), roles, (b"from", b"role"), (b"value", b"content"))
        room = 4_000 if tame else random_.choice((0, 9, 90, 4_000))
        try:
            made = calls[number % 3](module, random_, job, room, tame=tame)
        except (ValueError, OverflowError):
            continue
        taken += made[2]
    return taken


def _draw_uses(module: Any, random_: random.Random, columns: int, *, tame: bool) -> bytes:
    known = (module.UNUSED, module.BLANK, module.EMPTY, module.THOUGHT, module.SYSTEM_PROMPT, module.INPUT)
    uses = [
        random_.choice((module.UNUSED, module.INPUT)) if tame else random_.choice((*known, 99))
        for _ in range(columns)
    ]
    if columns > 1:
        uses[0], uses[1] = module.QUESTION, module.ANSWER
    if not tame:
        random_.shuffle(uses)
    return bytes(uses)


def _draw_judge(random_: random.Random, columns: int) -> tuple[tuple[int, ...], Callable[..., int]]:
    judged = (random_.randrange(columns + 1),) if random_.random() < 0.2 else ()
    return judged, lambda value: len(value) % 4 - 1


def _call_objects(module: Any, random_: random.Random, job: Any, room: int, *, tame: bool) -> Any:
    columns = random_.randint(2, 5) if tame else random_.randint(0, 5)
    uses = _draw_uses(module, random_, columns, tame=tame)
    names = tuple(f'"{random_.choice("qta中")}{column}"'.encode() for column in range(columns))
    if random_.random() < 0.3 and columns:
        uses = bytes((module.TURNS, *uses[1:])).replace(bytes((module.ANSWER,)), bytes((module.UNUSED,)))
    is_array = random_.random() < 0.5
    end = b"," if is_array else b"\n"
    lines = bytearray().join(make_object(module, random_, names, uses, tame=tame) + end for _ in range(4))
    if random_.random() < 0.3:
        spoil(random_, lines)
    forms = ((1 << columns) - 1, uses), (random_.getrandbits(columns + 1), uses[::-1])
    judged = _draw_judge(random_, columns)
    return module.convert_objects(job, names, forms, *judged, is_array, bytes(lines), 0, 1, room)


def make_object(module: Any, random_: random.Random, names: tuple[bytes, ...], uses: bytes, *, tame: bool) -> bytes:
    values = []
    for use in uses:
        text = f'"x{make_text(random_, tame=True)}"'
        if use == module.TURNS:
            turns = (f'{{"from":"{role}","value":{text}}}' for role in ("human", "gpt") * random_.randint(1, 3))
            values.append(f"[{','.join(turns)}]")
        elif tame:
            values.append(text)
        else:
            others = (f'"{make_text(random_)}"', "null", "12", "-1.5e3", "true", '{"a":[1,{}]}', "[[[[]]]]", '""')
            values.append(random_.choice((text, *others)))
    pairs = (name + b":" + value.encode() for name, value in zip(names, values, strict=True))
    return b"{" + b",".join(pairs) + b"}"


def _call_fields(module: Any, random_: random.Random, job: Any, room: int, *, tame: bool) -> Any:
    columns = random_.randint(2, 5) if tame else random_.randint(0, 5)
    uses = _draw_uses(module, random_, columns, tame=tame)
    lines = bytearray()
    for _ in range(4):
        cells = [f"x{make_text(random_, tame=True)}".replace(",", ".") for _ in uses]
        quoted = [f'"{cell}""{cell}"' if random_.random() < 0.3 else cell for cell in cells]
        lines += ",".join(quoted).encode() + random_.choice((b"\n", b"\r\n"))
    if random_.random() < 0.3:
        spoil(random_, lines)
    judged = _draw_judge(random_, columns)
    return module.convert_fields(job, uses, b",", *judged, random_.random() < 0.5, bytes(lines), 0, 1, room)


def _pack_column(random_: random.Random, texts: list[bytes] | None, ends: list[int], *, tame: bool) -> Any:
    width = random_.choice((4, 8))
    if not tame and random_.random() < 0.3:
        ends[random_.randrange(len(ends))] = random_.choice((-1, 1 << 30, 3))
    offsets = b"".join(end.to_bytes(width, sys.byteorder, signed=True) for end in ends)
    valid = random_.choice((None, None, b"\xff" * ((len(ends) + 7) // 8), random_.randbytes((len(ends) + 6) // 8)))
    first = 0 if tame else random_.choice((0, 0, 1))
    return first, len(ends) - 1 - first, width, valid, offsets, None if texts is None else b"".join(texts)


def _pack_texts(random_: random.Random, texts: list[bytes], *, tame: bool) -> Any:
    return _pack_column(random_, texts, list(itertools.accumulate(map(len, texts), initial=0)), tame=tame)


def _call_table(module: Any, random_: random.Random, job: Any, room: int, *, tame: bool) -> Any:
    rows, has_turns = 4, random_.random() < 0.5
    columns = []
    for use in () if has_turns and tame else _draw_uses(module, random_, random_.randint(2, 4), tame=tame):
        texts = [f"x{make_text(random_, tame=tame)}".encode() for _ in range(rows)]
        columns.append((use, _pack_texts(random_, texts, tame=tame)))
    turns = None
    if has_turns:
        names = [
            random_.choice((b"human", b"gpt", b"")) if not tame else (b"human", b"gpt")[n % 2] for n in range(16)
        ]
        texts = [f"x{make_text(random_, tame=tame)}".encode() for _ in names]
        ends = sorted(2 * random_.randrange(9) for _ in range(rows + 1))
        parts = (_pack_texts(random_, column, tame=tame) for column in (names, texts))
        turns = (_pack_column(random_, None, ends, tame=tame), *parts)
    skips = random_.choice((None, bytes(random_.choices((0, 1, 2), (8, 1, 1), k=rows))))
    first, last = (0, rows) if tame else (random_.randrange(6), random_.randrange(6))
    return module.convert_table(job, tuple(columns), turns, skips, rows, first, last, 1, room)


def fuzz_conversions(module: Any, inputs: int, random_: random.Random) -> int:
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


def fuzz_kernel(module: Any, inputs: int, random_: random.Random) -> int:
    """Every input by a call of its functions, and one in 25 by a whole conversion, with files around each forty."""
    return fuzz_calls(module, inputs, random_) + fuzz_conversions(module, inputs // 25, random_)


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


def fuzz_sha256(module: Any, inputs: int, random_: random.Random) -> int:
    """Two streams at a time, whose pieces end anywhere in a block, against hashlib."""
    taken = 0
    for _ in range(inputs // 8 if module.IS_FAST else 0):
        streams = [(bytearray(module.START), hashlib.sha256()) for _ in range(2)]
        for _ in range(random_.randrange(4)):
            sizes = [random_.choice((0, 1, 55, 56, 63, 64, 65, 128, random_.randrange(1_000))) for _ in streams]
            pieces = [random_.randbytes(size) for size in sizes]
            (one, first), (other, second) = streams
            module.update_two(one, pieces[0], other, pieces[1])
            module.update(one, pieces[1])
            first.update(pieces[0] + pieces[1])
            second.update(pieces[1])
            taken += 2
        if any(module.digest(state) != known.digest() for state, known in streams):
            raise AssertionError("another digest than hashlib's")
        for state in (b"", bytearray(len(module.START) - 1)):
            try:
                module.digest(state)
            except ValueError:
                continue
            raise AssertionError("a state of another size was taken")
    return taken if module.IS_FAST else inputs


FUZZ: dict[str, Callable[[Any, int, random.Random], int]] = {
    "_indexer": fuzz_indexer,
    "_kernel": fuzz_kernel,
    "_near": fuzz_near,
    "_pieces": fuzz_pieces,
    "_sha256": fuzz_sha256,
    "_sound": fuzz_sound,
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
