"""No config makes a config command end in a traceback, hang, or write anywhere but where it is told."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from tests.support.config_fuzz import list_mutations

COUNT, COUNT_FULL = 150, 5_000


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/train.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n' * 40, encoding="utf-8")
    Path("data/dataset_info.json").write_text('{"train": {"file_name": "train.jsonl"}}', encoding="utf-8")
    Path("models/tiny-qwen3").mkdir(parents=True)
    Path("models/tiny-qwen3/config.json").write_text("{}", encoding="utf-8")
    Path("models/tiny-qwen3/model.safetensors").write_bytes(b"")
    if os.name != "nt":
        os.mkfifo("fifo")
        Path("loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("check", "x.yaml", "--for", "any"),
        ("check", "x.yaml", "--json", "--for", "gpu"),
        ("check", "x.yaml", "--as", "infer"),
        ("diff", "x.yaml", "cpu-smoke"),
        ("diff", "x.yaml", "cpu-smoke", "--json"),
        ("export", "x.yaml", "-o", "out.yaml", "--force"),
        ("import", "x.yaml", "-o", "out.yaml", "--force"),
    ],
    ids=" ".join,
)
def test_no_config_makes_a_traceback(words: tuple[str, ...], workplace: Path, full: bool) -> None:
    runner = CliRunner()
    for number, text in enumerate(list_mutations(COUNT_FULL if full else COUNT, seed=len(words))):
        Path("x.yaml").write_text(text, encoding="utf-8")
        started = time.process_time()
        result = runner.invoke(lfc, ["launch", "config", *words])
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            number,
            text,
            result.exception,
        )
        assert result.exit_code in (0, 1), (number, text)
        assert time.process_time() - started < 10, (number, text)
        if "--json" in words and result.stdout.startswith("{"):
            json.loads(result.stdout)
