"""A folder of tokens appears whole or not at all, goes on after a kill, and is made by one of several."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.errors import ConfigError, InputError, OutputError, UserError
from prep.tokenized import make
from prep.tokenized.make import make_tokens
from prep.tokenized.note import read_note
from prep.tokenized.packing import fill_knapsacks
from prep.tokenized.settings import UnsupportedError, read_settings
from prep.tokenized.shard import Shard, ShardResult, make_shard_writer
from tests.support.token_rows import register_kind, register_rows
from tests.support.told_progress import ToldProgress


@pytest.fixture
def values(qwen3_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    register_kind(Path("data"), "chat", "alpaca", 60)
    return {
        **{"stage": "sft", "do_train": True, "model_name_or_path": str(qwen3_folder), "dataset": "chat"},
        **{"template": "qwen3", "cutoff_len": 300},
    }


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every batch of ten rows be a data file."""
    monkeypatch.setattr(make, "_SHARD_BYTES", 1)
    monkeypatch.setattr("prep.tokenized.order._BATCH_ROWS", 10)


def test_several_processes_write_the_same_bytes_as_one(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    monkeypatch.setattr(make, "count_workers", lambda: 1)
    one = make_tokens(read_settings(values), Path("one"))
    monkeypatch.setattr(make, "count_workers", lambda: 2)
    monkeypatch.setattr(make, "_PARALLEL_BYTES", 0)
    two = make_tokens(read_settings(values), Path("two"))
    assert read_bytes(one.path) == read_bytes(two.path)
    assert len(one.note.splits["train"]["files"]) == 6


def test_what_a_killed_process_finished_is_not_made_again(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    whole = make_tokens(read_settings(values), Path("whole"))
    written: list[str] = []
    make_writer = make_shard_writer

    def make_dying(settings: Any, files: Any) -> Any:
        write = make_writer(settings, files)

        def die_at_the_fourth(shard: Shard) -> ShardResult:
            if len(written) == 3:
                (shard.path.parent / f".{shard.path.name}.partial").write_bytes(b"torn")
                raise KeyboardInterrupt
            written.append(shard.path.name)
            return write(shard)

        return die_at_the_fourth

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(make, "make_shard_writer", make_dying)
        make_tokens(read_settings(values), Path("made"))
    assert not Path("made").exists()
    with monkeypatch.context() as counting:
        again: list[Shard] = []
        told = ToldProgress()

        def make_counting(settings: Any, files: Any) -> Any:
            write = make_writer(settings, files)

            def count(shard: Shard) -> ShardResult:
                again.append(shard)
                return write(shard)

            return count

        counting.setattr(make, "make_shard_writer", make_counting)
        made = make_tokens(read_settings(values), Path("made"), on_rows=told)
    assert [shard.path.name for shard in again] == [f"data-0000{number}-of-00006.arrow" for number in (3, 4, 5)]
    assert told.counts == [30, 10, 10, 10]
    assert told.expected == 60
    assert read_bytes(made.path) == read_bytes(whole.path)
    assert {path.name for path in Path(".lfc").iterdir()} == {"whole.lock", "made.lock"}


def test_what_was_begun_for_other_rows_is_begun_anew(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = Path(".lfc/made.partial/train")
    partial.mkdir(parents=True)
    (partial / "data-00000-of-00001.arrow").write_bytes(b"old")
    (partial.parent / "done.json").write_text(json.dumps({"train/data-00000-of-00001.arrow": ["x", 1, 1, 3, 60]}))
    (partial.parent / "plan.json").write_text('{"fingerprint": "other"}')
    made = make_tokens(read_settings(values), Path("made"))
    assert made.note.splits["train"]["rows"] == 60
    assert not partial.parent.exists()


def test_nothing_that_lfc_did_not_make_is_replaced(values: dict[str, Any]) -> None:
    Path("theirs").mkdir()
    Path("theirs/a.arrow").write_bytes(b"x")
    for force in (False, True):
        with pytest.raises(OutputError, match="theirs stands there, and lfc did not make it"):
            make_tokens(read_settings(values), Path("theirs"), force=force)
    assert read_bytes(Path("theirs")) == {"a.arrow": b"x"}
    Path("file").write_text("x")
    with pytest.raises(OutputError, match="file stands there"):
        make_tokens(read_settings(values), Path("file"), force=True)


def test_other_tokens_are_replaced_by_force_alone(values: dict[str, Any]) -> None:
    first = make_tokens(read_settings(values), Path("made"))
    assert make_tokens(read_settings(values), Path("made")).was_there
    other = read_settings({**values, "cutoff_len": 100})
    with pytest.raises(OutputError, match="made holds the tokens of other rows or keys") as caught:
        make_tokens(other, Path("made"))
    assert caught.value.hint == "--force to replace them"
    second = make_tokens(other, Path("made"), force=True)
    assert second.note.fingerprint != first.note.fingerprint
    assert read_note(Path("made")) == second.note


def test_of_several_that_want_the_same_tokens_one_makes_them(values: dict[str, Any]) -> None:
    settings = read_settings(values)
    made: list[make.MadeTokens] = []
    threads = [threading.Thread(target=lambda: made.append(make_tokens(settings))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.was_there for one in made) == [False, True, True]
    assert len({one.path for one in made}) == 1


BROKEN: dict[str, tuple[bytes, str]] = {
    "no JSON": (b'{"instruction": 1', "not JSON"),
    "no object": (b"[1, 2]", "it is no JSON object"),
    "a number": (b'{"instruction": "a", "output": 5}', "'output' is int"),
    "a key twice": (b'{"instruction": "a", "output": "b", "output": "c"}', "output"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_row_that_cannot_be_read_is_told_and_nothing_is_left(case: str, values: dict[str, Any]) -> None:
    line, told = BROKEN[case]
    with Path("data/chat.jsonl").open("ab") as stream:
        start = stream.tell()
        stream.write(line + b"\n")
    with pytest.raises(InputError, match=told) as caught:
        make_tokens(read_settings(values), Path("made"))
    assert f"chat.jsonl byte {start:,}: " in str(caught.value)
    assert not Path("made").exists()


def test_rows_that_leave_nothing_are_told(values: dict[str, Any]) -> None:
    register_rows(Path("data"), "empty", [{"text": "short"}])
    texts = {**values, "stage": "pt", "dataset": "empty", "template": None}
    with pytest.raises(InputError, match="no row of train is left"):
        make_tokens(read_settings(texts), Path("made"))
    with pytest.raises(InputError, match="val_size 60 holds out 60 of 60 rows"):
        make_tokens(read_settings({**values, "val_size": 60}), Path("made"))


WRONG: dict[str, dict[str, Any]] = {
    "cutoff": {"cutoff_len": 0},
    "cutoff of packing": {"cutoff_len": 1, "packing": True},
    "no number": {"cutoff_len": "many"},
    "history and prompts": {"mask_history": True, "train_on_prompt": True},
    "two validations": {"val_size": 0.1, "eval_dataset": "chat"},
    "a word": {"val_size": "much"},
    "neat texts": {"stage": "pt", "neat_packing": True},
}


@pytest.mark.parametrize("case", WRONG)
def test_keys_that_cannot_be_are_refused_with_a_fix(case: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({**values, **WRONG[case]})
    assert caught.value.hint


def test_images_and_other_kinds_of_rows_are_left_to_llamafactory(values: dict[str, Any]) -> None:
    rows = [{"instruction": "<image>a", "input": "", "output": "b", "images": ["a.png"]}]
    register_rows(Path("data"), "pictures", rows)
    register_rows(Path("data"), "pairs", [{"instruction": "a", "input": "", "chosen": "b", "rejected": "c"}])
    for name in ("pictures", "pairs"):
        with pytest.raises(UnsupportedError):
            make_tokens(read_settings({**values, "dataset": name}))


def test_a_knapsack_takes_the_longest_that_fits() -> None:
    assert list(fill_knapsacks([3, 9, 4, 3, 11], 10)) == [[1], [2, 3, 0]]
    assert list(fill_knapsacks([], 10)) == []


CONFIG = (
    "stage: sft\ndo_train: true\nmodel_name_or_path: {model}\ndataset: chat\ntemplate: qwen3\ncutoff_len: 300\n"
)


def test_the_command_makes_them_and_says_with_which_line_to_train(
    values: dict[str, Any], qwen3_folder: Path
) -> None:
    Path("a.yaml").write_text(CONFIG.format(model=qwen3_folder), encoding="utf-8")
    result = CliRunner().invoke(lfc, ["prep", "tokenize", "--config", "a.yaml", "-o", "made"])
    assert result.exit_code == 0, result.output
    assert "a.yaml: tokens made" in result.stdout
    assert "tokenized_path: made" in result.stdout
    again = CliRunner().invoke(lfc, ["prep", "tokenize", "chat", "--config", "a.yaml", "-o", "made", "--json"])
    told = json.loads(again.stdout)
    assert (told["tokenized_path"], told["was_there"]) == ("made", True)
    assert told["splits"]["train"]["rows"] == told["splits"]["train"]["rows_read"] == 60
    shared = json.loads(CliRunner().invoke(lfc, ["prep", "tokenize", "--config", "a.yaml", "--json"]).stdout)
    assert shared["tokenized_path"] == f"data/.lfc/tokens/{told['fingerprint'][:20]}"
    assert read_bytes(Path(shared["tokenized_path"])) == read_bytes(Path("made"))


def test_the_command_tells_a_config_whose_tokens_are_not_made_here(
    values: dict[str, Any], qwen3_folder: Path
) -> None:
    Path("a.yaml").write_text(CONFIG.format(model=qwen3_folder) + "streaming: true\n", encoding="utf-8")
    result = CliRunner().invoke(lfc, ["prep", "tokenize", "--config", "a.yaml"], catch_exceptions=True)
    assert isinstance(result.exception, UserError) or result.exit_code == 1
    assert "streaming: True reads its rows from a stream" in str(result.exception) + result.output


def test_a_process_that_is_killed_leaves_no_folder(values: dict[str, Any], qwen3_folder: Path, full: bool) -> None:
    count = 40_000 if full else 4_000
    register_kind(Path("data"), "many", "alpaca", count)
    Path("a.yaml").write_text(CONFIG.format(model=qwen3_folder), encoding="utf-8")
    command = [sys.executable, "-m", "launch", "prep", "tokenize", "many", "--config", "a.yaml", "-o", "made"]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, env={"PYTHONPATH": str(root), "PATH": ""}, stderr=subprocess.DEVNULL)
    partial = Path(".lfc/made.partial/train")
    while process.poll() is None and not (partial.is_dir() and any(partial.iterdir())):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not Path("made").exists()
    made = make_tokens(read_settings({**values, "dataset": "many"}), Path("made"))
    assert made.note.splits["train"]["rows"] == count
    shutil.rmtree("made")
