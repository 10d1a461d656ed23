"""A recipe becomes the commands that go its way."""

from pathlib import Path
from typing import Any

import pytest

from launch.recipes.recipe import list_recipes, plan_recipe, read_recipe
from prep.errors import ConfigError, InputError, UserError

GIVEN = {
    "base-chat": ("sources.chat.path=",),
    "customer-service": ("sources.company.path=",),
    "preference": ("sources.pairs.path=",),
    "tools-agent": ("sources.agent.path=",),
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
            assert any(f"{place.rstrip('/')}/".startswith(f"{other}/") for other in made), (step.name, place)
        made |= set(step.outputs)


@pytest.mark.parametrize(("pairs", "boosted"), [((), False), (("boost=true",), True), (("boost=false",), False)])
def test_a_recipe_asks_for_the_boost_of_its_training(pairs: tuple[str, ...], boosted: bool, tmp_path: Path) -> None:
    train = next(step for step in plan_recipe(read_shipped("quickstart", tmp_path, *pairs)) if step.name == "train")
    assert ("--boost" in train.argv) is boosted


@pytest.mark.parametrize("name", list(list_recipes()))
def test_every_command_of_a_recipe_is_one_that_lfc_takes(name: str, tmp_path: Path) -> None:
    from launch.cli import lfc

    for step in plan_recipe(read_shipped(name, tmp_path)):
        command: Any = lfc
        words = list(step.argv)
        while hasattr(command, "commands"):
            command = command.get_command(None, words.pop(0))
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
