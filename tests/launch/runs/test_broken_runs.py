"""A run folder that cannot be read is one line that says why, and hides no other run."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.runs.folder import RunState, find_run, list_runs
from prep.errors import InputError
from tests.support.run_folders import write_evaluation, write_run

VALUES = {"output_dir": "saves/x", "dataset": "d"}
posix_only = pytest.mark.skipif(os.name == "nt", reason="links")


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/good"), {**VALUES, "output_dir": "saves/good"}, [2.0])
    write_run(Path("runs/odd"), VALUES, [3.0])


def run(*argv: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", *argv], catch_exceptions=False)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "[]"),
        ("run.json", "null"),
        ("run.json", "{}"),
        ("run.json", "3"),
        ("run.json", "{"),
        ("run.json", ""),
        ("run.json", "\ud800"),
        ("run.json", "[" * 100_000),
        ("run.json", '{"values": []}'),
        ("run.json", '{"values": {}, "action": 3}'),
        ("run.json", '{"values": {}, "argv": "a"}'),
        ("run.json", '{"values": {}, "slot": 3}'),
        ("process.json", '{"started_at": 5}'),
        ("process.json", '{"started_at": "soon"}'),
        ("process.json", "[1]"),
        ("result.json", '{"exit_code": "0"}'),
        ("result.json", '{"exit_code": true}'),
        ("result.json", '{"exit_code": null}'),
        ("result.json", '{"version": 99}'),
        ("result.json", '{"exit_code": 0, "seconds": "long"}'),
        ("result.json", '{"exit_code": 0, "seconds": NaN}'),
        ("result.json", '{"exit_code": 0, "flags": "x"}'),
        ("result.json", '{"exit_code": 0, "stopped": "no"}'),
        ("result.json", "7"),
        ("result.json", "{}"),
        *(
            (file, text.replace("DEEP", "[" * levels + "]" * levels))
            for levels in (250, 950)
            for file, text in (
                ("run.json", '{"values": {"a": DEEP}}'),
                ("run.json", '{"values": {"model_name_or_path": {"a": DEEP}}}'),
                ("run.json", '{"datasets": {"d": DEEP}}'),
                ("run.json", '{"action": DEEP}'),
                ("process.json", '{"child": DEEP}'),
                ("process.json", '{"started_at": DEEP}'),
                ("result.json", '{"exit_code": 0, "flags": [DEEP]}'),
                ("moved.json", '{"output_dir": DEEP}'),
            )
        ),
    ],
)
def test_a_broken_file_is_told_and_the_other_runs_stay(file: str, content: str) -> None:
    Path("runs/odd", file).write_bytes(content.encode("utf-8", errors="surrogatepass"))
    result = run("runs", "--json")
    assert result.exit_code == 0
    runs = {entry["name"]: entry for entry in json.loads(result.stdout)["runs"]}
    assert runs["good"]["state"] == "finished"
    assert runs["odd"]["state"] == "broken"
    assert runs["odd"]["flags"][0].startswith(f"runs/odd/{file} cannot be ")
    assert run("runs").exit_code == 0
    with pytest.raises(InputError, match="runs/odd"):
        find_run("odd")
    assert run("stop", "odd").exit_code == 1
    assert run("report", "good").exit_code == 0


@pytest.mark.parametrize("content", ['{"sides": 3}', "[]", "{", '{"eval_dataset": "d", "rows": 1, "sides": [3]}', '{"eval_dataset": "d", "rows": 1, "sides": [{"name": "a", "source": 5, "figures": {"maths": "x"}, "changes": {}}]}'])  # fmt: skip
def test_a_broken_evaluation_hides_nothing_either(content: str) -> None:
    write_evaluation(Path("runs/e"), "saves/good", {"base": ["x"] * 12, "adapter": ["good"] * 12}, "good")
    Path("runs/e/comparison.json").write_text(content, encoding="utf-8")
    states = {entry["name"]: entry["state"] for entry in json.loads(run("runs", "--json").stdout)["runs"]}
    assert states == {"good": "finished", "odd": "finished", "e": "broken"}


@posix_only
def test_links_in_circles_and_a_run_json_that_is_a_folder_are_broken_runs() -> None:
    Path("runs/circle").mkdir()
    Path("runs/circle/run.json").symlink_to("run.json")
    Path("runs/loop").symlink_to("loop")
    Path("runs/folder/run.json").mkdir(parents=True)
    states = {found.name: found.state for found in list_runs()}
    assert states["circle"] is states["folder"] is RunState.BROKEN
    assert states["good"] is RunState.FINISHED


@posix_only
def test_an_undecodable_name_is_shown_and_hides_nothing() -> None:
    odd = os.fsdecode(b"runs/\xff\x1b")
    Path("runs/odd").rename(odd)
    result = run("runs")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "good" in result.stdout
    assert len(json.loads(run("runs", "--json").stdout)["runs"]) == 2


@pytest.mark.parametrize("argv", [("runs",), ("report", "x"), ("stop", "x"), ("logs", "x"), ("compare", "x", "y")])
def test_runs_that_is_a_file_is_one_error(argv: tuple[str, ...]) -> None:
    Path("runs").rename("kept")
    Path("runs").write_text("", encoding="utf-8")
    result = run(*argv)
    assert result.exit_code == 1
    assert "Error: runs is not a folder" in result.stderr


@posix_only
def test_a_deleted_working_folder_is_one_error() -> None:
    gone = Path("gone")
    gone.mkdir()
    os.chdir(gone)
    Path("../gone").rmdir()
    result = run("runs")
    assert result.exit_code == 1
    assert "Error: the working folder cannot be read" in result.stderr


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "../" * 3000])
def test_a_name_that_no_run_can_have_is_an_unknown_run(name: str) -> None:
    for command in ("stop", "report", "logs"):
        result = run(command, name)
        assert result.exit_code == 1
        assert "no run is called" in result.stderr


def test_a_loss_that_is_no_number_is_flagged_and_null_in_json() -> None:
    with Path("saves/x/trainer_log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"current_steps": 20, "total_steps": 99, "loss": NaN}\n')
        log.write('{"current_steps": 30, "total_steps": 99, "loss": Infinity}\n')
    odd = next(entry for entry in json.loads(run("runs", "--json").stdout)["runs"] if entry["name"] == "odd")
    assert odd["last_loss"] == 3.0
    assert odd["flags"] == ["the loss is no number from step 20 on"]


@pytest.mark.parametrize("line", ["[]", "3", '{"loss": 2}', '{"current_steps": "x", "loss": 1}', '{"loss": "low"}', "[" * 50_000])  # fmt: skip
def test_a_log_of_somebody_else_is_flagged(line: str) -> None:
    Path("saves/x/trainer_log.jsonl").write_text(line + "\n", encoding="utf-8")
    odd = next(entry for entry in json.loads(run("runs", "--json").stdout)["runs"] if entry["name"] == "odd")
    assert odd["flags"][0].startswith("saves/x/trainer_log.jsonl cannot be read: ")
