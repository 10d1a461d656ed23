"""The whole way with the real llamafactory-cli, and what a second run makes of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_quickstart(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch", "quickstart", "--to", str(folder), *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished quickstart folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("quick") / "start here"
    result = run_quickstart(folder)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return folder, result.stdout


@pytest.mark.stack
def test_the_adapter_was_trained_by_llamafactory_and_learned(quickstart: tuple[Path, str]) -> None:
    folder, printed = quickstart
    log = (folder / "runs/hybrid/log.txt").read_text(encoding="utf-8")
    assert "llamafactory" in log
    assert "***** Running training *****" in log
    adapter = folder / "saves/tiny-qwen3/lora/hybrid"
    assert (adapter / "adapter_model.safetensors").stat().st_size > 0
    losses = [json.loads(line)["loss"] for line in (adapter / "trainer_log.jsonl").read_text().splitlines()[:-1]]
    assert losses[-1] < losses[0] / 2
    assert f"the loss fell from {losses[0]:.2f} to " in printed


@pytest.mark.stack
def test_base_and_adapter_are_compared_on_the_held_out_rows(quickstart: tuple[Path, str]) -> None:
    folder, printed = quickstart
    comparison = json.loads((folder / "runs/hybrid-eval/comparison.json").read_text(encoding="utf-8"))
    base, adapter = comparison["sides"]
    assert (base["name"], adapter["name"], comparison["rows"]) == ("base", "adapter", 24)
    assert adapter["figures"]["rouge_l"] > base["figures"]["rouge_l"] + 20
    assert adapter["changes"]["rouge_l"]["is_clear"]
    assert adapter["figures"]["think_format"] > 90
    assert re.search(
        rf"rouge_l +{base['figures']['rouge_l']:.2f} +{adapter['figures']['rouge_l']:.2f} +\+.*\]\* ", printed
    )
    assert "Loaded adapter" in (folder / "runs/hybrid-eval/adapter/log.txt").read_text(encoding="utf-8")


@pytest.mark.stack
def test_the_commands_that_ran_can_be_run_again_by_hand(quickstart: tuple[Path, str]) -> None:
    folder, printed = quickstart
    script = (folder / "commands.sh").read_text(encoding="utf-8")
    shown = re.findall(r"^\$ (lfc .*)$", printed, re.MULTILINE)
    assert len(shown) == 11
    assert [line for line in script.splitlines() if line.startswith("lfc ")] == shown


@pytest.mark.stack
def test_a_second_run_reuses_everything_and_says_so(quickstart: tuple[Path, str]) -> None:
    folder, first = quickstart
    result = run_quickstart(folder)
    assert result.returncode == 0
    assert result.stdout.count("is current: nothing to do") == 11
    table = first[first.index("24 held-out rows") : first.index("\nDone")]
    assert table.strip() in result.stdout


@pytest.mark.stack
def test_a_changed_step_redoes_what_depends_on_it(quickstart: tuple[Path, str]) -> None:
    from launch.recipes.recipe import plan_recipe, read_recipe
    from launch.recipes.steps import StepRecord

    folder, _ = quickstart
    test_rows = folder / "data/hybrid_test.jsonl"
    before = test_rows.read_bytes()
    try:
        test_rows.write_bytes(before.splitlines(keepends=True)[0])
        done = StepRecord(folder)
        stale = [step.name for step in plan_recipe(read_recipe("quickstart")) if not done.is_current(step)]
    finally:
        test_rows.write_bytes(before)
    assert stale == ["split", "register-test", "eval"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    for argv in ((), ("--fresh",)):
        result = run_quickstart(tmp_path, "--llamafactory-cli", sys.executable, *argv)
        assert result.returncode == 1
        assert result.stderr == f"Error: {tmp_path} holds other files\n  Try: --to ANOTHER_FOLDER\n"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_the_stack_nothing_is_started(tmp_path: Path) -> None:
    result = run_quickstart(tmp_path / "q", "--llamafactory-cli", str(tmp_path / "none"))
    assert result.returncode == 1
    assert "is not a program that can be run" in result.stderr
    assert not (tmp_path / "q").exists()


def test_a_dry_run_prints_the_commands_and_makes_nothing(tmp_path: Path) -> None:
    result = run_quickstart(tmp_path / "q", "--dry-run")
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "lfc prep sample --to raw"
    assert not (tmp_path / "q").exists()
