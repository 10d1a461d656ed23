"""`lfc prep convert`, `mix`, `split` and `explain` from outside: streams, exit codes, JSON, what is said aloud."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pyarrow
import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from tests.support.shapes import SHAPES, medical_rows, sharegpt_rows, tool_rows, write_jsonl, write_parquet

ROOT = Path(__file__).parents[2]
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and /dev/full")


def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(lfc, ["prep", *map(str, arguments)], input=stdin, catch_exceptions=False)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_shape_is_recognised_and_said_aloud(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name](tmp_path)
    result = run("convert", shape.path, *shape.arguments, "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    expected = {"medical": "medical-cot", "openmath": "openmath"}.get(
        name.split("-", maxsplit=1)[0], name.split("-", maxsplit=1)[0]
    )
    assert f"{expected} (recognised)" in result.stdout
    assert result.stderr == ""


def test_json_goes_to_stdout_and_names_every_output(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = run("convert", write_jsonl(tmp_path / "in.jsonl", tool_rows()), "-o", out, "--json")
    assert json.loads(result.stdout) == {
        "format": "sharegpt",
        "kind": "sft",
        "counts": {
            "rows": 2,
            "records": 1,
            "rejects": 0,
            "reasoning": 0,
            "chat": 1,
            "with_system": 0,
            "with_history": 0,
            "tool_records": 2,
            "tool_records_with_history": 1,
        },
        "unused_columns": [],
        "left_out": [],
        "notes": [],
        "output": out.as_posix(),
        "tools_output": (tmp_path / "out_tools.jsonl").as_posix(),
        "rejects": None,
        "duplicates": None,
        "contaminated": None,
        "too_long": None,
    }


def test_lines_come_from_stdin_too(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in medical_rows()).encode()
    result = run("convert", "-", "-o", tmp_path / "out.jsonl", stdin=lines)
    assert result.exit_code == 0, result.output
    first = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["origin"] == "out/stdin:1"
    manifest = json.loads((tmp_path / "out.manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"][0]["path"] == "-"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ([], '{"question": "问", "answer": "答"}\n'),
        ([], '[\n {"question": "问",\n  "answer": "答"}\n]'),
        (["--stdin-format", "json"], '[{"question": "问", "answer": "答"}]'),
        (["--stdin-format", "csv"], "question;answer\n问;答\n"),
        (["--stdin-format", "tsv"], "question\tanswer\n问\t答\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_stdin_holds_every_format_of_text(given: list[str], written: str, encoding: str, tmp_path: Path) -> None:
    result = run("convert", "-", "-o", tmp_path / "out.jsonl", *given, stdin=written.encode(encoding))
    assert result.exit_code == 0, result.output
    (row,) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert (row["instruction"], row["output"].endswith("答")) == ("问", True)


def test_a_table_of_gbk_and_a_text_come_from_stdin_when_it_is_said(tmp_path: Path) -> None:
    table = ("问题,答案\n" + "头痛怎么办？,多休息。\n" * 9).encode("gbk")
    assert run("convert", "-", "-o", tmp_path / "a.jsonl", "--stdin-format", "csv", stdin=table).exit_code == 0
    assert (
        run("convert", "-", "-o", tmp_path / "b.jsonl", "--stdin-format", "txt", stdin=b"a page\n").exit_code == 0
    )
    assert json.loads((tmp_path / "b.jsonl").read_text(encoding="utf-8"))["text"] == "a page"
    refused = run("convert", "-", "-o", tmp_path / "c.jsonl", stdin=table)
    assert (refused.exit_code, "stdin holds no JSON" in refused.stderr) == (1, True)
    assert "--stdin-format jsonl, json, csv, tsv, txt" in refused.stderr


def test_rejects_end_in_exit_code_1_with_the_first_reason_and_the_next_step(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [*medical_rows(), {"question": "q", "answer": "</think>"}])
    result = run("convert", path, "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: 1 of 4 rows cannot be used; the first: {path.as_posix()} row 4: </think> without <think>: "
        "--think-open missing takes what stands before it for the thought\n"
        f"  Try: see {tmp_path / 'out.jsonl.rejects.jsonl'}, or allow them with --max-rejects 1\n"
    )
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "-o", "out.jsonl"),
        ("convert", "in.jsonl", "-o", "out.jsonl", "--turns", "some"),
        ("convert", "in.jsonl", "-o", "out.jsonl", "--limit", "0"),
        ("mix", "no-name.jsonl", "-o", "out.jsonl"),
        ("mix", "a=a.jsonl", "-o", "out.jsonl", "--ratio", "a=much"),
        ("explain", "out.jsonl"),
    ],
)
def test_a_wrong_call_ends_in_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", medical_rows())
    result = run("convert", path, "-o", tmp_path / "out.jsonl", "--format", "csv")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: --format csv is not known; known are preference, alpaca, openmath, sharegpt, "
        "glaive, messages, xlam, medical-cot, input-output, text\n"
    )


def test_mix_split_and_explain_follow_each_other(tmp_path: Path) -> None:
    parts = []
    for name in ("a", "b"):
        rows = [{"question": f"{name} {number}", "answer": "x"} for number in range(30)]
        run("convert", write_jsonl(tmp_path / f"{name}-raw.jsonl", rows), "-o", tmp_path / f"{name}.jsonl")
        parts.append(f"{name}={tmp_path / name}.jsonl")
    mixed = tmp_path / "mixed.jsonl"
    result = run("mix", *parts, "--ratio", "a=0.5,b=0.25", "-o", mixed, "--json")
    assert (result.exit_code, json.loads(result.stdout)["taken"]) == (0, {"a": 30, "b": 15})
    result = run("split", mixed, "--test", "6", "--val", "0.2", "-o", tmp_path / "mixed", "--json")
    assert (result.exit_code, json.loads(result.stdout)["rows"]) == (0, {"test": 6, "val": 9, "train": 30})
    result = run("explain", f"{tmp_path / 'mixed_test.jsonl'}:6")
    assert result.exit_code == 0
    assert "step 1" in result.stdout
    assert "side test" in result.stdout
    run("register", tmp_path / "mixed_test.jsonl", "--name", "held_out", "--dataset-dir", tmp_path)
    named = run("explain", "held_out:6", "--dataset-dir", tmp_path)
    assert named.stdout.splitlines()[1:] == result.stdout.splitlines()[1:]
    result = run("explain", f"{tmp_path / 'mixed_test.jsonl'}:7")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'mixed_test.jsonl'} has 6 rows; there is no row 7\n"


@posix_only
def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every write into this file fails as on a full disk.
    def open_full(path: Path, partial: Path) -> IO[bytes]:
        return Path("/dev/full").open("wb")

    monkeypatch.setattr("prep.storage.atomic._create_partial", open_full)
    source = write_jsonl(tmp_path / "in.jsonl", medical_rows())
    result = CliRunner().invoke(lfc, ["prep", "convert", str(source), "-o", str(tmp_path / "out.jsonl")])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / 'out.jsonl'} cannot be written: no space left on device\n"
        "  Try: free some disk space or choose an output on another disk\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lfc", "in.jsonl"]


@posix_only
def test_ctrl_c_ends_in_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    # A pipe that nobody writes into: the command waits in the middle of its work.
    pipe = tmp_path / "rows"
    argv = [sys.executable, "-m", "launch", "prep", "convert", "-", "-o", str(tmp_path / "out.jsonl")]
    os.mkfifo(pipe)
    keep_open = os.open(pipe, os.O_RDWR)
    try:
        process = subprocess.Popen(argv, cwd=ROOT, text=True, stdin=keep_open, stderr=subprocess.PIPE)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        os.close(keep_open)
    assert (process.returncode, said) == (130, "Interrupted: nothing half-written was left behind.\n")
    assert not (tmp_path / "out.jsonl").exists()


def test_lfc_alone_changes_how_pyarrow_loads(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "in.parquet", sharegpt_rows())
    arguments = ["prep", "convert", str(source), "-o", str(tmp_path / "out.jsonl"), "--json", "--force"]
    told = (
        "import atexit, sys\n"
        "def tell():\n"
        "    import pyarrow\n"
        "    print('numpy' in sys.modules, pyarrow.default_memory_pool().backend_name, file=sys.stderr)\n"
        "atexit.register(tell)\n"
    )
    as_lfc = f"{told}import launch.cli; sys.argv[1:] = {arguments}; launch.cli.main()"
    as_library = (
        f"{told}from pathlib import Path; from prep.convert.convert import *; "
        f"convert_files([Path({str(source)!r})], Path({str(tmp_path / 'own.jsonl')!r}), ConvertOptions())"
    )
    without = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    chosen = {**without, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        for code, env in ((as_lfc, without), (as_lfc, chosen), (as_library, chosen))
    ]
    backends = pyarrow.supported_memory_backends()
    fastest = "jemalloc" if "jemalloc" in backends else pyarrow.default_memory_pool().backend_name
    assert [run.stderr for run in runs] == [f"False {fastest}\n", "False system\n", "True system\n"]
    assert json.loads(runs[0].stdout)["counts"]["rows"] == len(sharegpt_rows())
