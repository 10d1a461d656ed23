"""Steps know when they are current; only what a step's own record lists, unchanged, is ever deleted."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launch.recipes.made_files import TRAINED_FILES, WEIGHTS
from launch.recipes.steps import Step, StepRecord, choose_steps
from launch.recipes.steps_folder import StepFolder, check_folder, open_folder, refuse_own_sources
from launch.runs.folder import RunFolder
from prep.errors import OutputError, UserError
from prep.storage.locks import try_lock

STEPS = [
    Step("a", "A", ("prep", "a"), (), ("a.txt",)),
    Step("b", "B", ("prep", "b"), ("a.txt",), ("b", "dataset_info.json#x")),
    Step("c", "C", ("prep", "c"), ("b/",), ("c.txt",)),
]


def do_steps(folder: Path) -> StepFolder:
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text("a", encoding="utf-8")
    (folder / "b").mkdir(exist_ok=True)
    (folder / "b" / "part").write_text("b", encoding="utf-8")
    (folder / "dataset_info.json").write_text('{"x": {"n": 1}, "y": {}}', encoding="utf-8")
    (folder / "c.txt").write_text("c", encoding="utf-8")
    opened = StepFolder(folder)
    for step in STEPS:
        opened.record.mark_done(step)
    return opened


def current(folder: Path) -> list[str]:
    record = StepRecord(folder)
    return [step.name for step in STEPS if record.is_current(step)]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".lfc" not in path.parts)


def enter(folder: Path, *, fresh: bool = False, command: str = "lfc run x") -> list[tuple[Path, Path]]:
    renamed: list[tuple[Path, Path]] = []
    with open_folder(folder, STEPS, command, fresh=fresh, renamed=renamed):
        return renamed


def test_a_step_is_current_until_command_input_or_output_change(tmp_path: Path) -> None:
    do_steps(tmp_path)
    assert current(tmp_path) == ["a", "b", "c"]
    (tmp_path / "b" / "part").write_text("B", encoding="utf-8")
    assert current(tmp_path) == ["a"]
    (tmp_path / "b" / "part").write_text("b", encoding="utf-8")
    (tmp_path / "dataset_info.json").write_text('{"x": {"n": 1}, "y": {"n": 2}}', encoding="utf-8")
    assert current(tmp_path) == ["a", "b", "c"]
    (tmp_path / "dataset_info.json").write_text('{"x": {"n": 2}}', encoding="utf-8")
    assert current(tmp_path) == ["a", "c"]
    assert not StepRecord(tmp_path).is_current(Step("a", "A", ("prep", "a", "--seed", "1"), (), ("a.txt",)))


def test_a_note_beside_what_a_step_made_makes_nothing_stale(tmp_path: Path) -> None:
    do_steps(tmp_path)
    (tmp_path / "b" / "note.md").write_text("best so far", encoding="utf-8")
    assert current(tmp_path) == ["a", "b", "c"]


def test_a_new_lfc_version_alone_redoes_nothing(tmp_path: Path) -> None:
    do_steps(tmp_path)
    state = json.loads((tmp_path / "steps.json").read_text(encoding="utf-8"))
    for done in state["steps"].values():
        done["version"] = "0.0.1"
    (tmp_path / "steps.json").write_text(json.dumps(state), encoding="utf-8")
    assert current(tmp_path) == ["a", "b", "c"]


def test_a_step_that_made_less_than_it_should_have_is_not_done(tmp_path: Path) -> None:
    opened = StepFolder(tmp_path)
    with pytest.raises(OutputError, match=r"step a ended well and did not make a\.txt"):
        opened.record.mark_done(STEPS[0])
    assert current(tmp_path) == []


def test_making_room_deletes_what_the_step_made_and_leaves_shared_documents(tmp_path: Path) -> None:
    assert do_steps(tmp_path).make_room(STEPS[1]) == []
    assert names(tmp_path) == ["a.txt", "c.txt", "dataset_info.json", "dataset_info.json.bak", "steps.json"]
    assert json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8")) == {"y": {}}
    assert current(tmp_path) == ["a"]


def plant(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: plant(folder / "b" / "note.md", "mine"),
        lambda folder: plant(folder / "b" / "part", "edited"),
        lambda folder: (folder / "b" / "link").symlink_to(folder.parent / "outside"),
        lambda folder: os.mkfifo(folder / "b" / "pipe"),
        lambda folder: plant(folder / "b" / ".lfc" / "x.lock", "not empty"),
        lambda folder: plant(folder / "b" / "in" / "part", "b"),
    ],
    ids=["a note", "an edit", "a link", "a pipe", "a file among our locks", "the same file elsewhere"],
)
def test_a_folder_with_anything_that_its_step_did_not_make_is_set_aside_whole(change: Any, tmp_path: Path) -> None:
    folder = tmp_path / "q"
    plant(tmp_path / "outside", "canary")
    opened = do_steps(folder)
    change(folder)
    before = names(folder / "b")
    assert opened.make_room(STEPS[1]) == [(folder / "b", folder / "b.old-1")]
    assert names(folder / "b.old-1") == before
    assert (tmp_path / "outside").read_text(encoding="utf-8") == "canary"


def test_a_name_that_was_set_aside_before_is_never_overwritten(tmp_path: Path) -> None:
    opened = do_steps(tmp_path)
    plant(tmp_path / "a.txt", "mine")
    plant(tmp_path / "a.txt.old-1", "older")
    (tmp_path / "a.txt.old-2").symlink_to("nowhere")
    assert opened.make_room(STEPS[0]) == [(tmp_path / "a.txt", tmp_path / "a.txt.old-3")]
    assert (tmp_path / "a.txt.old-1").read_text(encoding="utf-8") == "older"


def test_what_stands_there_before_the_first_run_of_a_step_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    plant(tmp_path / "b" / "part", "mine")
    opened = StepFolder(tmp_path)
    assert opened.make_room(STEPS[1]) == [(tmp_path / "b", tmp_path / "b.old-1")]


def test_a_download_goes_on_with_what_it_finds(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    plant(tmp_path / "raw" / "half", "x")
    assert StepFolder(tmp_path).make_room(Step("d", "D", ("prep",), (), ("raw",), resumes=True)) == []
    assert names(tmp_path) == ["raw", "raw/half", "steps.json"]


TRAIN = Step("train", "T", ("launch", "train", "c"), (), ("out", "runs/x"), makes=TRAINED_FILES, needs=WEIGHTS)
LEFT = ["runs/x/config.yaml", "runs/x/log.txt", "out/trainer_log.jsonl", "out/checkpoint-5/optimizer.pt"]


def plant_training(folder: Path, *names: str) -> None:
    for name in (*LEFT, *names):
        plant(folder / name, name)


@pytest.mark.parametrize(
    "weights",
    [
        "adapter_model.safetensors",
        "adapter_model.bin",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "pytorch_model.bin",
    ],
)
def test_a_training_without_weights_is_undone(weights: str, tmp_path: Path) -> None:
    plant_training(tmp_path)
    record = StepRecord(tmp_path)
    with pytest.raises(OutputError, match="step train ended well and left no weights in out"):
        record.mark_done(TRAIN)
    assert not record.is_current(TRAIN)
    plant(tmp_path / "out" / weights, "w")
    record.mark_done(TRAIN)
    assert StepRecord(tmp_path).is_current(TRAIN)


@pytest.mark.parametrize(
    "mine", ["out/thesis.md", "out/checkpoint-5/notes.txt", "runs/x/todo.org", "out/deep/er/a.py"]
)
def test_what_somebody_puts_beside_a_training_while_it_runs_is_never_deleted(mine: str, tmp_path: Path) -> None:
    plant_training(tmp_path, "out/adapter_model.safetensors", mine)
    opened = StepFolder(tmp_path)
    opened.record.mark_done(TRAIN)
    renamed = opened.make_room(TRAIN)
    top = "out" if mine.startswith("out") else "runs/x"
    assert [old.relative_to(tmp_path).as_posix() for old, _ in renamed] == [top]
    assert (tmp_path / mine.replace(top, f"{top}.old-1")).read_text(encoding="utf-8") == mine


def test_a_comparison_that_broke_off_stays_for_its_command_and_a_whole_one_makes_room(tmp_path: Path) -> None:
    step = Step("eval", "E", ("launch", "eval", "c"), (), ("runs/x-eval",), end="runs/x-eval/comparison.json")
    plant(tmp_path / "runs/x-eval/base/run.json", "{}")
    opened = StepFolder(tmp_path)
    assert opened.make_room(step) == []
    assert (tmp_path / "runs/x-eval/base/run.json").is_file()
    plant(tmp_path / "runs/x-eval/comparison.json", "{}")
    opened.record.mark_done(step)
    assert opened.make_room(step) == []
    assert not (tmp_path / "runs/x-eval").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_other_files_is_never_used(tmp_path: Path, fresh: bool) -> None:
    plant(tmp_path / "thesis.txt", "mine")
    with pytest.raises(OutputError, match="holds other files"):
        enter(tmp_path, fresh=fresh)
    assert names(tmp_path) == ["thesis.txt"]


def test_fresh_deletes_what_steps_made_and_sets_aside_the_rest(tmp_path: Path) -> None:
    do_steps(tmp_path)
    plant(tmp_path / "b" / "note.md", "mine")
    plant(tmp_path / "thesis.txt", "mine")
    plant(tmp_path / "c.txt", "edited")
    (tmp_path / "notes.old-1").mkdir()
    enter(tmp_path, fresh=True)
    assert names(tmp_path) == [
        "b.old-1", "b.old-1/note.md", "c.txt.old-1", "commands.sh", "dataset_info.json.bak.old-1",
        "dataset_info.json.old-1", "notes.old-1", "steps.json", "thesis.txt.old-1",
    ]  # fmt: skip


def test_fresh_leaves_a_source_that_lies_in_the_folder(tmp_path: Path) -> None:
    do_steps(tmp_path)
    plant(tmp_path / "mine.csv", "q,a")
    step = Step("convert", "C", ("prep",), ((tmp_path / "mine.csv").as_posix(),), ("data/mine.jsonl",))
    renamed: list[tuple[Path, Path]] = []
    with open_folder(tmp_path, [step], "lfc run x", fresh=True, renamed=renamed):
        assert (tmp_path / "mine.csv").is_file()


HOSTILE_PLACES = ["../victim", "/tmp/victim", "b/../../victim", "..", "", ".", "link/victim", "b\0"]


@pytest.mark.parametrize("place", HOSTILE_PLACES)
def test_a_hostile_record_deletes_nothing_outside_the_folder(place: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    plant(victim, "canary")
    folder = tmp_path / "q"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    place = str(victim) if place == "/tmp/victim" else place
    from prep.storage.fingerprints import hash_file

    digest = hash_file(victim)
    identities: list[Any] = [digest, {"victim": digest, "../victim": digest, str(victim): digest}]
    for identity in identities:
        done = {"command": "lfc", "places": {place: identity}, "made": [place]}
        plant(folder / "steps.json", json.dumps({"steps": {"a": done}, "hashes": {}}))
        try:
            enter(folder, fresh=True)
        except UserError as error:
            assert "\n" not in str(error)
    assert victim.read_text(encoding="utf-8") == "canary"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{", '{"steps": []}', '{"steps": {"a": 1}}', '{"steps": {"a": {"command": 1}}}', "\xff",
     '{"steps": {"a": {"command": "x", "places": []}}}', '{"hashes": {"a": 1}}', '{"script": 1}', "[" * 100_000,
     '{"steps": {"a": {"command": "x", "places": {}, "made": [1]}}}'],
)  # fmt: skip
def test_a_record_that_is_none_is_refused_and_nothing_is_touched(text: str, tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_bytes(text.encode("latin-1"))
    plant(tmp_path / "a.txt", "mine")
    for fresh in (False, True):
        with pytest.raises(OutputError, match=r"steps\.json is no record of steps that can be read"):
            enter(tmp_path, fresh=fresh)
    assert names(tmp_path) == ["a.txt", "steps.json"]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "q"
    (tmp_path / "elsewhere").mkdir()
    enter(folder)
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=rf"{folder}/b leads to {tmp_path}/elsewhere, outside {folder}"):
        check_folder(folder, STEPS)
    (folder / "b").unlink()
    (folder / "b").symlink_to(folder / "b")
    with pytest.raises(OutputError, match=rf"{folder}/b"):
        check_folder(folder, STEPS)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    enter(tmp_path)
    plant(tmp_path / "data", "mine")
    with pytest.raises(OutputError, match="data is a file, and a folder is needed"):
        check_folder(tmp_path, [Step("x", "X", ("prep",), (), ("data/x.jsonl",))])


def test_a_live_run_is_named_and_its_folder_never_touched(tmp_path: Path) -> None:
    opened = do_steps(tmp_path)
    run = RunFolder(tmp_path / "runs" / "hybrid-eval" / "base")
    run.path.mkdir(parents=True)
    run.plan.write_text("{}", encoding="utf-8")
    with try_lock(run.lock):
        for refuse in (lambda: check_folder(tmp_path, STEPS), lambda: opened.make_room(STEPS[1])):
            with pytest.raises(OutputError, match=r"run hybrid-eval/base in .* is still alive") as caught:
                refuse()
        assert caught.value.hint == (
            f"in {tmp_path}: lfc launch attach hybrid-eval/base, or lfc launch stop hybrid-eval/base"
        )
    check_folder(tmp_path, STEPS)
    assert current(tmp_path) == ["a", "b", "c"]


def test_two_recipes_never_run_in_one_folder_at_once(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path, STEPS, "lfc run x", fresh=False, renamed=[]),
        pytest.raises(OutputError, match=r"steps\.json is being written by another process"),
    ):
        enter(tmp_path)


def test_a_source_that_a_step_would_write_over_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path / "data" / "x.jsonl", tmp_path / "data", tmp_path, tmp_path.parent):
        step = Step("convert", "C", ("prep",), (source.as_posix(),), ("data/x.jsonl",))
        with pytest.raises(UserError, match="which step convert reads"):
            refuse_own_sources(tmp_path, [step])
    apart = Step("convert", "C", ("prep",), ((tmp_path / "x.jsonl").as_posix(),), ("data/x.jsonl",))
    refuse_own_sources(tmp_path, [apart])


def test_the_script_holds_every_command_and_one_that_was_changed_is_set_aside(tmp_path: Path) -> None:
    enter(tmp_path)
    script = (tmp_path / "commands.sh").read_text(encoding="utf-8")
    assert script.endswith("\n# A\nlfc prep a\n\n# B\nlfc prep b\n\n# C\nlfc prep c\n")
    assert enter(tmp_path, command="lfc run y") == []
    plant(tmp_path / "commands.sh", "my own")
    assert enter(tmp_path) == [(tmp_path / "commands.sh", tmp_path / "commands.sh.old-1")]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\0", "\x1b"])
def test_no_text_of_a_title_becomes_a_line_of_the_script(end: str, tmp_path: Path) -> None:
    step = Step("a", f"A{end}touch PWNED", ("prep", f"a{end}touch PWNED"), (), ("a",))
    with open_folder(tmp_path, [step], f"lfc{end}touch PWNED", fresh=False, renamed=[]):
        pass
    text = (tmp_path / "commands.sh").read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.lstrip().startswith("touch")]
    assert comments in ([], ["touch PWNED'"])


def test_steps_are_chosen_by_name() -> None:
    assert [step.name for step in choose_steps(STEPS, only=["b"])] == ["b"]
    assert [step.name for step in choose_steps(STEPS, start="b")] == ["b", "c"]
    with pytest.raises(UserError, match="no step is called 'd'; the steps are a, b, c"):
        choose_steps(STEPS, start="d")
