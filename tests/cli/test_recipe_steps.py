"""A recipe stops at the first step that did not succeed, with that step's code, and deletes nothing of others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.cli.recipe import run_command
from launch.recipes.steps import Step
from prep.cli import prep
from prep.errors import ChildFailedError, ConfigError, StoppedError
from tests.support.recorder import Recorder

ROOT = Path(__file__).parents[2]
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and scripts")
RECIPE = """
name: mine
sources: {rows: {path: %s}}
split: {test: 2}
model: tiny
config: {preset: cpu-smoke, set: {max_steps: 2}}
eval: {set: {max_new_tokens: 4}}
"""
STEPS = ["convert-rows", "split", "register-train", "register-test", "model", "config", "train", "eval"]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The working folder holds a recipe and its rows; LLaMA-Factory is a recorder."""
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"question": f"q{number}", "answer": f"a{number}"}) + "\n" for number in range(10)]
    Path("rows.jsonl").write_text("".join(rows), encoding="utf-8")
    Path("mine.yaml").write_text(RECIPE % (tmp_path / "rows.jsonl"), encoding="utf-8")
    recorder = Recorder(tmp_path / "bin")
    monkeypatch.setenv("LFC_LLAMAFACTORY_CLI", str(recorder.program))
    monkeypatch.setenv("LFC_PLAIN_EVAL", "1")
    return recorder


def run(*argv: str) -> Result:
    return CliRunner().invoke(lfc, ["run", "mine.yaml", *argv])


def done() -> list[str]:
    return list(json.loads(Path("mine/steps.json").read_text(encoding="utf-8"))["steps"])


def fail_by(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def exit_by(code: int) -> Callable[[], None]:
    return lambda: click.get_current_context().exit(code)


@pytest.mark.parametrize(
    ("fail", "code"),
    [
        (exit_by(3), 3),
        (exit_by(130), 130),
        (fail_by(ConfigError("wrong")), 1),
        (fail_by(ChildFailedError("killed", exit_code=137)), 137),
        (fail_by(StoppedError("SIGTERM", 15)), 143),
        (fail_by(click.UsageError("wrong")), 2),
        (fail_by(click.ClickException("wrong")), 1),
        (fail_by(click.Abort()), 130),
        (fail_by(KeyboardInterrupt()), 130),
        (fail_by(SystemExit(5)), 5),
        (fail_by(SystemExit("a text")), 1),
    ],
)
def test_however_a_command_fails_its_code_is_raised(
    fail: Callable[[], None], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(prep.commands, "fail", click.Command("fail", callback=fail))
    with pytest.raises(ChildFailedError) as caught:
        run_command(Step("s", "S", ("prep", "fail"), (), ()))
    assert caught.value.exit_code == code
    how = "was interrupted" if code == 130 else f"ended with exit code {code}"
    assert str(caught.value) == f"step s {how}; nothing after it was started"


def test_a_command_that_does_not_exist_fails() -> None:
    with pytest.raises(ChildFailedError) as caught:
        run_command(Step("s", "S", ("prep", "nothing-like-it"), (), ()))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("end", [lambda: None, exit_by(0), fail_by(SystemExit(0)), fail_by(SystemExit())])
def test_a_command_that_succeeds_raises_nothing(end: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prep.commands, "end", click.Command("end", callback=end))
    run_command(Step("s", "S", ("prep", "end"), (), ()))


def test_a_bug_in_a_command_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prep.commands, "bug", click.Command("bug", callback=fail_by(ZeroDivisionError())))
    with pytest.raises(ZeroDivisionError):
        run_command(Step("s", "S", ("prep", "bug"), (), ()))


@posix_only
@pytest.mark.parametrize(
    ("told", "failed", "code"),
    [
        ({"python": 9}, "model", 9),
        ({"train": 7}, "train", 7),
        ({"predict": 3}, "eval", 3),
    ],
)
def test_a_failed_step_ends_the_recipe_with_its_code(
    told: dict[str, int], failed: str, code: int, recorder: Recorder
) -> None:
    recorder.tell(told)
    result = run()
    assert result.exit_code == code, result.output
    assert "Done" not in result.stdout
    assert done() == STEPS[: STEPS.index(failed)]
    recorder.tell({})
    again = run()
    assert again.exit_code == 0, again.output
    assert again.stdout.count("is current: nothing to do") == STEPS.index(failed)
    assert done() == STEPS


@posix_only
def test_bad_rows_end_the_recipe_before_anything_is_trained(recorder: Recorder) -> None:
    Path("rows.jsonl").write_text('{"question": "a", "answer": "b"}\n{"broken json\n', encoding="utf-8")
    result = run()
    assert result.exit_code == 1
    assert "Error: step convert-rows ended with exit code 1; nothing after it was started" in result.stderr
    assert (done(), recorder.calls()) == ([], [])


@posix_only
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_recipe_and_its_training(number: signal.Signals, code: int, recorder: Recorder) -> None:
    recorder.tell({"seconds": 60})
    process = subprocess.Popen(
        [sys.executable, "-m", "launch", "run", str(Path("mine.yaml").absolute()), "--to", str(Path("mine").absolute())],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not recorder.calls() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert done() == STEPS[: STEPS.index("train")]
    assert len(recorder.calls()) == 1


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@posix_only
def test_a_note_beside_an_adapter_outlives_another_training(recorder: Recorder) -> None:
    assert run().exit_code == 0
    adapter = Path("mine/saves/tiny-qwen3/lora/mine")
    (adapter / "note.md").write_text("best so far", encoding="utf-8")
    result = run("--from", "train")
    assert result.exit_code == 0, result.output
    aside = adapter.with_name("mine.old-1")
    assert (aside / "note.md").read_text(encoding="utf-8") == "best so far"
    assert (aside / "adapter_model.safetensors").is_file()
    assert (
        "Note: saves/tiny-qwen3/lora/mine is not as a step left it: it was renamed to "
        "saves/tiny-qwen3/lora/mine.old-1\n"
    ) in result.stderr
    changed = run("config.set.max_steps=3")
    assert changed.exit_code == 0, changed.output
    assert sorted(path.name for path in adapter.parent.iterdir() if path.name != ".lfc") == ["mine", "mine.old-1"]


@posix_only
def test_an_output_dir_that_no_step_made_is_set_aside(recorder: Recorder) -> None:
    assert run("--only", "convert-rows").exit_code == 0
    precious = Path("mine/saves/precious")
    precious.mkdir(parents=True)
    (precious / "weights.bin").write_text("mine", encoding="utf-8")
    result = run("config.set.output_dir=saves/precious")
    assert result.exit_code == 0, result.output
    assert tree(precious.with_name("precious.old-1")) == {"weights.bin": b"mine"}


@posix_only
def test_only_does_one_step_and_leaves_the_script_whole(recorder: Recorder) -> None:
    assert run("--only", "convert-rows", "--only", "split").exit_code == 0
    script = Path("mine/commands.sh").read_text(encoding="utf-8")
    assert sum(line.startswith("lfc ") for line in script.splitlines()) == len(STEPS)
    assert done() == ["convert-rows", "split"]
    both = run("--only", "split", "--from", "train")
    assert both.exit_code == 2
    assert "--only and --from exclude each other" in both.stderr


@posix_only
def test_fresh_keeps_a_note_and_does_all_again(recorder: Recorder) -> None:
    assert run().exit_code == 0
    Path("mine/thesis.txt").write_text("mine", encoding="utf-8")
    result = run("--fresh")
    assert result.exit_code == 0, result.output
    assert "is current" not in result.stdout
    assert Path("mine/thesis.txt.old-1").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in Path("mine").rglob("*.old-*")] == ["thesis.txt.old-1"]


@posix_only
def test_a_training_that_is_alive_is_named_and_left_alone(recorder: Recorder) -> None:
    recorder.tell({"seconds": 30})
    assert run("--only", "convert-rows").exit_code == 0
    run(
        "--only",
        "split",
        "--only",
        "register-train",
        "--only",
        "register-test",
        "--only",
        "model",
        "--only",
        "config",
    )
    from launch.configs.config import read_run_config
    from launch.runs.run import stop_run
    from tests.support.begun_runs import start_llamafactory

    os.chdir("mine")
    live = start_llamafactory(
        recorder.program, "train", read_run_config(Path("configs/mine.yaml")), Path("runs/mine")
    )
    os.chdir("..")
    try:
        before = tree(Path("mine"))
        for argv in ((), ("--fresh",), ("--from", "train"), ("--dry-run",)):
            result = run(*argv)
            assert result.exit_code == 1
            assert result.stderr == (
                "Error: run mine in mine is still alive, and its files are in use\n"
                "  Try: in mine: lfc launch attach mine, or lfc launch stop mine\n"
            )
        after = tree(Path("mine"))
        assert {path: after.get(path) for path in before} == before
    finally:
        os.chdir("mine")
        stop_run(live)
        os.chdir("..")


DRY: list[tuple[Sequence[str], str]] = [
    (("split.test=500",), "test"),
    (("sources.rows.map.question=nowhere",), "column 'nowhere' not found"),
    (("sources.rows.where=score>=4",), "score"),
    (("config.set.gradient_accumulation_steps=true",), "gradient_accumulation_steps"),
    (("eval.set.max_new_token=4",), "max_new_token"),
]


@posix_only
@pytest.mark.parametrize(("pairs", "word"), DRY)
def test_a_dry_run_fails_where_the_real_one_would(pairs: Sequence[str], word: str, recorder: Recorder) -> None:
    before = tree(Path())
    result = run(*pairs, "--dry-run")
    assert result.exit_code == 1, result.output
    assert word in result.stderr
    assert str(Path("/tmp/lfc-")) not in result.stderr
    assert tree(Path()) == before
    assert recorder.calls() == []
    assert run(*pairs).exit_code == 1


@posix_only
def test_a_dry_run_shows_every_command_and_makes_nothing(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(Path())
    result = run("--dry-run")
    assert result.exit_code == 0, result.output
    assert sum(line.startswith("lfc ") for line in result.stdout.splitlines()) == len(STEPS)
    assert tree(Path()) == before
    monkeypatch.setenv("LFC_LLAMAFACTORY_CLI", "/nowhere/llamafactory-cli")
    assert "is not a program that can be run" in run("--dry-run").stderr


@posix_only
def test_a_tiny_model_never_takes_the_place_of_what_stands_there(recorder: Recorder) -> None:
    for name in ("models/mine", "models/.tiny.partial"):
        Path(name).mkdir(parents=True)
        Path(name, "weights.bin").write_text("mine", encoding="utf-8")
    Path("models/link").symlink_to("nowhere")
    before = tree(Path("models"))
    for name in ("mine", "link"):
        result = CliRunner().invoke(lfc, ["launch", "tiny-model", "rows.jsonl", "--to", f"models/{name}"])
        assert result.stderr == f"Error: models/{name} exists already\n  Try: --to ANOTHER_FOLDER\n"
    result = CliRunner().invoke(lfc, ["launch", "tiny-model", "rows.jsonl", "--to", "models/tiny"])
    assert result.exit_code == 0, result.output
    made = tree(Path("models"))
    assert {path: made[path] for path in before} == before
    assert sorted(path.name for path in Path("models").iterdir()) == [".tiny.partial", "link", "mine", "tiny"]


@posix_only
def test_a_tiny_model_that_fails_leaves_its_log_alone(recorder: Recorder) -> None:
    recorder.tell({"python": 9})
    result = CliRunner().invoke(lfc, ["launch", "tiny-model", "rows.jsonl", "--to", "models/tiny"])
    assert result.exit_code == 9
    assert [path.name for path in Path("models").rglob("*") if path.is_file()] == ["log.txt"]
