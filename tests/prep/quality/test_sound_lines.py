"""Of a line that is told of as sound, lint would say nothing, whatever stands in it."""

import json
import random
from pathlib import Path

import orjson
import pytest

from prep.choices import ThinkPolicy
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.quality import sound_lines
from prep.quality.findings import Finding, LintRule
from prep.quality.lint import lint_dataset
from prep.quality.sound_lines import SoundLines
from prep.registry.dataset import Dataset, find_dataset

pytestmark = pytest.mark.skipif(sound_lines._load_compiled() is None, reason="what is in C was not compiled")

PARTS = [
    *("a", "word ", " ", "\n", "\t", '"', "\\", "\\n", "/", "<", "<p>", "</p>", "< /p>", "<|", "<|im_end|>", "#", "*", "&", "["),
    *("<think>", "</think>", "<think>\n", "\n</think>\n\n", "<image>", "/think", " /no_think ", "think", "n</think>\n\n"),
    *("中", "　", "＜", "◁", "é", "。", "\u00a0", "\u2028", "\ufeff", "😀", "\x7f", "\x00"),
]  # fmt: skip
STARTS = ["", "<think>\n\n</think>\n\n", "<think>\nT\n</think>\n\n", "<think>\n"]


def write_row(rng: random.Random) -> bytes:
    """Return a line that is sound, or has one thing or another in it."""

    def write(most: int) -> str:
        return rng.choice(("", "A", "中")) + "".join(rng.choices(PARTS, k=rng.randrange(most)))

    row = {"instruction": write(3), "input": write(2) if rng.random() < 0.2 else ""}
    row["output"] = rng.choice(STARTS) + write(4)
    row["system"] = write(2) if rng.random() < 0.2 else ""
    history = [[write(2), write(2)] for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    line = orjson.dumps({**row, "history": history, "origin": "s/f:1"})
    if rng.random() < 0.1:
        line = json.dumps(orjson.loads(line), separators=(",", ":")).encode().replace(b"/", b"\\/")
    if rng.random() < 0.2:
        spoiled = bytearray(line)
        spoiled[rng.randrange(len(line))] = rng.choice(b'"\\{}[],\x01\r\xff\x80 a')
        line = bytes(spoiled)
    return line + rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b" \n"))


@pytest.mark.parametrize("policy", [None, *ThinkPolicy])
def test_nothing_is_found_in_a_line_that_is_told_of_as_sound(policy: ThinkPolicy | None, tmp_path: Path) -> None:
    rng = random.Random(4)
    data = b"".join(write_row(rng) for _ in range(3_000)) + b'{"instruction":"no line end"'
    path = tmp_path / "rows.jsonl"
    # The first row is sound, and says which columns there are.
    data = b'{"instruction":"q","input":"","output":"a","system":"","history":[],"origin":"s/f:1"}\n' + data
    path.write_bytes(data)
    dataset = Dataset((path,), policy=policy)
    told = SoundLines(dataset).sort(data)
    lines = data.split(b"\n")
    assert len(told) == len(lines)
    sound = {number for number, code in enumerate(told, 1) if code}
    assert len(sound) > 60
    findings: list[Finding] = []
    lint_dataset(dataset, findings.append, ignore={LintRule.DUPLICATE, LintRule.CRLF, LintRule.BLANK_LINE})
    # With no policy one line alone stands for the two sorts that cannot both be meant.
    found = {finding.where.line for finding in findings if " rows have an empty think block" not in finding.message}
    assert sound & found == set()


def test_what_lint_says_is_the_same_without_what_is_in_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    source = tmp_path / "raw.jsonl"
    with source.open("wb") as stream:
        for number in range(3_000):
            answer = rng.choice(("plain", "I think <b>so</b>", "use <|x|> here?"))
            think = rng.choice(("", "hm", "so\n\nmany\\words"))
            question = f"q {number % 2_900} {rng.choice(('', '/no_think', '<image>', '中'))}"
            stream.write(orjson.dumps({"question": question, "think": think, "answer": answer}) + b"\n")
    path = tmp_path / "rows.jsonl"
    convert_files([source], path, ConvertOptions(max_rejects=3_000))
    said: list[list[Finding]] = []
    for is_compiled in (True, False):
        if not is_compiled:
            monkeypatch.setattr(sound_lines, "_load_compiled", lambda: None)
        said.append([])
        summary = lint_dataset(find_dataset(str(path), tmp_path), said[-1].append)
        assert summary.rows == path.read_bytes().count(b"\n")
    assert said[0] == said[1]
    assert {LintRule.DUPLICATE, LintRule.SWITCH, LintRule.MEDIA} <= {finding.rule for finding in said[0]}
