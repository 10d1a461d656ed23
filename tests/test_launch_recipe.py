"""A recipe becomes the commands that go its way; steps know when they are current."""

from pathlib import Path
from typing import Any

import pytest

from launch.recipe import list_recipes, plan_recipe, read_recipe
from launch.steps import Step, StepFolder, choose_steps, prepare_folder
from prep.errors import ConfigError, InputError, OutputError, UserError

GIVEN = {
    "base-chat": ("sources.chat.path=",),
    "customer-service": ("sources.company.path=",),
}


def read_shipped(name: str, tmp_path: Path, *pairs: str) -> dict[str, Any]:
    """Return a shipped recipe; one that needs the user's own file gets one."""
    own = tmp_path / "own.jsonl"
    own.write_text("{}\n", encoding="utf-8")
    given = tuple(f"{pair}{own.as_posix()}" for pair in GIVEN.get(name, ()))
    return read_recipe(name, (*given, *pairs))


@pytest.mark.parametrize("name", list(list_recipes()))
def test_every_shipped_recipe_says_what_it_needs_and_how_to_run_it(name: str) -> None:
    opening = list_recipes()[name].splitlines()[:3]
    assert opening[1].startswith("# Needs: ")
    assert opening[2].startswith(f"# Run:   lfc {'quickstart' if name == 'quickstart' else f'run {name}'}")


@pytest.mark.parametrize("name", list(list_recipes()))
def test_every_step_reads_what_an_earlier_one_made_or_what_was_given(name: str, tmp_path: Path) -> None:
    made = {(tmp_path / "own.jsonl").as_posix()}
    for step in plan_recipe(read_shipped(name, tmp_path)):
        for place in step.inputs:
            assert any(place == other or place.startswith(f"{other}/") for other in made), (step.name, place)
        made |= set(step.outputs)


@pytest.mark.parametrize("name", list(list_recipes()))
def test_every_command_of_a_recipe_is_one_that_lfc_takes(name: str, tmp_path: Path) -> None:
    from launch.cli import lfc

    for step in plan_recipe(read_shipped(name, tmp_path)):
        command: Any = lfc
        words = list(step.argv)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(step.name, words, resilient_parsing=False)


def test_the_medical_recipe_holds_out_500_of_1000_and_1000(tmp_path: Path) -> None:
    lines = [step.format() for step in plan_recipe(read_recipe("medical-hybrid"))]
    assert "lfc prep download medical-cot --to raw" in lines
    assert sum("--limit 1000" in line for line in lines) == 2
    assert any("--ratio medical=0.5,chat=0.5" in line for line in lines)
    assert any("--test 500" in line for line in lines)
    assert "lfc prep download --model Qwen/Qwen3-4B --to models" in lines


def test_an_override_changes_one_value_and_a_new_place_takes_the_old_ones(tmp_path: Path) -> None:
    own = tmp_path / "a.csv"
    own.write_text("question,answer\n", encoding="utf-8")
    recipe = read_recipe(
        "medical-hybrid", ("mix.medical=0.7", f"sources.chat.path={own.as_posix()}", "split.test=5")
    )
    assert recipe["mix"] == {"medical": 0.7, "chat": 0.5}
    assert recipe["sources"]["chat"] == {"limit": 1000, "path": own.as_posix()}
    assert recipe["split"] == {"test": 5}


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        (("sorces.chat.limit=1",), ConfigError, "unknown key sorces"),
        (("sources.chat.limt=1",), ConfigError, "source chat: unknown key limt"),
        (("sources.chat.path=null",), ConfigError, "source chat needs one of sample, download, path"),
        (("sources.chat.path=nowhere.csv",), InputError, "nowhere.csv does not exist"),
        (("mix.other=1",), ConfigError, "mix names other, which is no source"),
        (("split",), ConfigError, "'split' is not key=value"),
        (("split.test.more=1",), ConfigError, "`test` holds a value, not keys"),
    ],
)
def test_a_wrong_override_is_refused(pairs: tuple[str, ...], error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=message):
        read_recipe("medical-hybrid", pairs)


def test_an_unknown_recipe_is_answered_by_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there are base-chat, customer-service, maths-hybrid"):
        read_recipe("medcal")


STEPS = [
    Step("a", "A", ("prep", "a"), (), ("a.txt",)),
    Step("b", "B", ("prep", "b"), ("a.txt",), ("b", "info.json#x")),
    Step("c", "C", ("prep", "c"), ("b",), ("c.txt",)),
]


def do_steps(folder: Path) -> StepFolder:
    done = StepFolder(folder)
    (folder / "a.txt").write_text("a", encoding="utf-8")
    (folder / "b").mkdir(exist_ok=True)
    (folder / "b" / "part").write_text("b", encoding="utf-8")
    (folder / "info.json").write_text('{"x": 1, "y": 1}', encoding="utf-8")
    (folder / "c.txt").write_text("c", encoding="utf-8")
    for step in STEPS:
        done.mark_done(step)
    return done


def current(folder: Path) -> list[str]:
    done = StepFolder(folder)
    return [step.name for step in STEPS if done.is_current(step)]


def test_a_step_is_current_until_command_input_or_output_change(tmp_path: Path) -> None:
    do_steps(tmp_path)
    assert current(tmp_path) == ["a", "b", "c"]
    (tmp_path / "b" / "part").write_text("B", encoding="utf-8")
    assert current(tmp_path) == ["a"]
    (tmp_path / "b" / "part").write_text("b", encoding="utf-8")
    (tmp_path / "info.json").write_text('{"x": 1, "y": 2}', encoding="utf-8")
    assert current(tmp_path) == ["a", "b", "c"]
    (tmp_path / "info.json").write_text('{"x": 2, "y": 2}', encoding="utf-8")
    assert current(tmp_path) == ["a", "c"]
    assert not StepFolder(tmp_path).is_current(Step("a", "A", ("prep", "a", "--seed", "1"), (), ("a.txt",)))


def test_clearing_a_step_removes_its_files_and_leaves_shared_documents(tmp_path: Path) -> None:
    do_steps(tmp_path).clear_outputs(STEPS[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "c.txt", "info.json", "steps.json"]
    assert current(tmp_path) == ["a"]


def test_steps_are_chosen_by_name() -> None:
    assert [step.name for step in choose_steps(STEPS, only=["b"])] == ["b"]
    assert [step.name for step in choose_steps(STEPS, start="b")] == ["b", "c"]
    with pytest.raises(UserError, match="no step is called 'd'; the steps are a, b, c"):
        choose_steps(STEPS, start="d")


def test_a_folder_of_other_files_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="holds other files"):
        prepare_folder(tmp_path, STEPS, "lfc run x", fresh=True)
    assert (tmp_path / "thesis.txt").exists()


def test_fresh_empties_a_folder_of_steps_and_writes_their_script(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "q", STEPS, "lfc run x", fresh=False)
    (tmp_path / "q" / "old").write_text("", encoding="utf-8")
    prepare_folder(tmp_path / "q", STEPS, "lfc run x", fresh=True)
    assert sorted(path.name for path in (tmp_path / "q").iterdir()) == ["commands.sh", "steps.json"]
    assert "# A\nlfc prep a\n" in (tmp_path / "q" / "commands.sh").read_text(encoding="utf-8")
