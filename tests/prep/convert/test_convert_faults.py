"""Malformed input and sudden death: every broken row is counted, every broken file is one clear error."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import manifest_path
from tests.support.shapes import medical_rows, sharegpt_rows, write_jsonl, write_parquet

ROOT = Path(__file__).parents[3]
LINE = json.dumps(medical_rows()[0], ensure_ascii=False).encode()


def run_lfc(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(lfc, ["prep", *map(str, arguments)])
    # A bug keeps its traceback; a user's fault is a SystemExit.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def spoil_line(rng: random.Random) -> bytes:
    """Return one line that is broken, or that only looks it."""
    cut, place = rng.randrange(len(LINE)), rng.randrange(len(LINE))
    row: dict[str, Any] = json.loads(LINE)
    name = rng.choice(list(row))
    values: list[Any] = [None, 3, True, [], {}, ["x"], "", " ", "<think>", "</think>\n<think>", "<|im_start|>"]
    value = rng.choice([*values, "x" * 70_000])
    return rng.choice(
        [
            LINE[:cut],
            LINE[:place] + bytes([rng.randrange(256)]) + LINE[place + 1 :],
            LINE[:place] + rng.choice([b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\r"]) + LINE[place:],
            json.dumps({**row, name: value}).encode(),
            json.dumps({key: row[key] for key in row if key != name}).encode(),
            rng.choice([b"[]", b"3", b"null", b'"text"', b"{}", b"{", b"\xef\xbb\xbf" + LINE, b"nan", b"[" * 2000]),
            rng.choice([b"", b" \t", b"\r", LINE + b"\r", b'{"question": "\\ud800", "answer": "a"}', b"{'a': 1}"]),
        ]
    ).replace(b"\n", b" ")


def test_each_malformed_line_is_a_counted_reject_and_no_other_row_suffers(tmp_path: Path, full: bool) -> None:
    rng = random.Random(5)
    for _ in range(100 if full else 4):
        lines = [spoil_line(rng) for _ in range(100)]
        path = tmp_path / "in.jsonl"
        path.write_bytes(b"\n".join([LINE, *lines, LINE]))
        out = tmp_path / "out.jsonl"
        code, _ = run_lfc("convert", path, "-o", out, "--force", "--max-rejects", "1000")
        assert code == 0
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
        rejects = (tmp_path / "out.jsonl.rejects.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        numbers = [int(row["origin"].rpartition(":")[2]) for row in rows]
        rejected = [json.loads(line)["row"] for line in rejects]
        blank = [number for number, line in enumerate(lines, 2) if not line.strip()]
        assert sorted(numbers + rejected + blank) == list(range(1, 103))
        assert numbers[0] == 1
        assert numbers[-1] == 102
        assert all(json.loads(line)["reason"] and json.loads(line)["file"] == path.as_posix() for line in rejects)


def make_files(folder: Path) -> list[Path]:
    """Return one whole file of every type."""
    lines = write_jsonl(folder / "a.jsonl", medical_rows())
    array = folder / "b.json"
    array.write_text(json.dumps(medical_rows()), encoding="utf-8")
    table = folder / "c.csv"
    table.write_text("question,think,answer\r\nq,t,a\r\nq2,,a2\r\n", encoding="utf-8")
    packed = folder / "d.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes(), mtime=0))
    return [lines, array, table, packed, write_parquet(folder / "e.parquet", sharegpt_rows())]


def spoil_file(content: bytes, rng: random.Random) -> bytes:
    """Return a file cut short, or with some bytes changed, added or doubled."""
    place = rng.randrange(len(content))
    wrong = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
    return rng.choice(
        [
            b"",
            content[:place],
            content[place:],
            content[:place] + wrong + content[place + len(wrong) :],
            content[:place] + wrong + content[place:],
            b"\xef\xbb\xbf" + content,
            content.replace(b"\n", b"\r\n"),
            content + content,
        ]
    )


def test_each_malformed_file_ends_in_rows_rejects_or_one_error(tmp_path: Path, full: bool) -> None:
    rng = random.Random(6)
    wholes = [(path, path.read_bytes()) for path in make_files(tmp_path)]
    for _ in range(2000 if full else 30):
        for path, content in wholes:
            path.write_bytes(spoil_file(content, rng))
            for old in tmp_path.glob("out*"):
                old.unlink()
            code, errors = run_lfc("convert", path, "-o", tmp_path / "out.jsonl")
            assert code in (0, 1)
            assert (tmp_path / "out.jsonl").exists() == (code == 0)
            if code:
                assert errors.startswith("Error: ")
                assert path.as_posix() in errors
                assert "Traceback" not in errors


def test_huge_line_is_a_row_like_any_other(tmp_path: Path) -> None:
    rows = [*medical_rows()[:1], {"question": "q", "think": "好" * 3_000_000, "answer": "a"}, *medical_rows()[:1]]
    code, _ = run_lfc("convert", write_jsonl(tmp_path / "in.jsonl", rows), "-o", tmp_path / "out.jsonl")
    assert code == 0
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 3


STEPS = {
    "convert": ("convert", "{raw}", "-o", "{folder}/made.jsonl", "--max-rejects", "5"),
    "mix": ("mix", "a={folder}/a.jsonl", "b={folder}/b.jsonl", "--ratio", "a=1,b=2", "-o", "{folder}/made.jsonl"),
    "split": ("split", "{folder}/a.jsonl", "--test", "50", "--val", "20", "-o", "{folder}/made"),
}
MAIN = {"convert": "made.jsonl", "mix": "made.jsonl", "split": "made_train.jsonl"}


def prepare(folder: Path) -> Path:
    """Write a source with a reject and tool rows, and two converted parts."""
    rows = [{**row, "question": f"{row['question']} {number}"} for number in range(300) for row in medical_rows()]
    raw = write_jsonl(folder / "raw.jsonl", [*rows, {"question": ""}])
    for name in ("a", "b"):
        assert run_lfc("convert", raw, "-o", folder / f"{name}.jsonl", "--max-rejects", "1")[0] == 0
    return raw


def command_of(step: str, folder: Path, raw: Path, *options: str) -> list[str]:
    return [word.format(raw=raw, folder=folder) for word in STEPS[step]] + ["--force", *options]


def read_set(folder: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in folder.glob("made*.jsonl")}


def assert_whole(step: str, folder: Path, allowed: list[dict[str, str]]) -> None:
    """Where the main file stands, its set is one that a whole run makes, and every manifest fits."""
    if not (folder / MAIN[step]).exists():
        return
    assert read_set(folder) in allowed
    for path in folder.glob("made*.jsonl"):
        if manifest_path(path).exists():
            assert json.loads(manifest_path(path).read_text(encoding="utf-8"))["output"]["sha256"] == hash_file(
                path
            )


@pytest.mark.parametrize("step", sorted(STEPS))
def test_killed_at_random_moments_the_next_run_succeeds(step: str, tmp_path: Path, full: bool) -> None:
    raw = prepare(tmp_path)
    command = [sys.executable, "-m", "launch", "prep", *command_of(step, tmp_path, raw)]
    start = time.monotonic()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    whole_s = time.monotonic() - start
    expected = read_set(tmp_path)
    rng = random.Random(8)
    for _ in range(70 if full else 3):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.1, whole_s))
        process.kill()
        process.wait()
        assert_whole(step, tmp_path, [expected])
        assert run_lfc(*command_of(step, tmp_path, raw))[0] == 0
        assert read_set(tmp_path) == expected


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to look at")
def test_no_worker_outlives_a_killed_conversion(tmp_path: Path) -> None:
    line = json.dumps(sharegpt_rows()[0], ensure_ascii=False) + "\n"
    (tmp_path / "in.jsonl").write_text(line * 60_000, encoding="utf-8")
    code = "import prep.convert.stream as c; c._PARALLEL_BYTES = 0; from launch.cli import main; main()"
    command = [sys.executable, "-c", code, "prep", "convert", str(tmp_path / "in.jsonl"), "-o"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "out.jsonl"), "--workers", "2"], cwd=ROOT, start_new_session=True
    )
    time.sleep(0.7)
    process.kill()
    process.wait()
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
