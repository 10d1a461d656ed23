"""What a recipe may say: one line for each way in which it can be wrong."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.recipes.check import check_recipe
from launch.recipes.recipe import plan_recipe, read_recipe
from prep.errors import ConfigError, UserError

BASE: dict[str, Any] = {
    "name": "mine",
    "sources": {"a": {"sample": "r1_data_example.jsonl"}, "b": {"path": "rows.jsonl"}},
    "split": {"test": 2},
    "model": "tiny",
    "config": {"preset": "cpu-smoke", "set": {"max_steps": 2}},
}


@pytest.fixture(autouse=True)
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("{}\n", encoding="utf-8")


def plan(recipe: Any, *pairs: str) -> list[Any]:
    Path("r.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return plan_recipe(read_recipe("r.yaml", pairs))


def change(dotted: str, value: Any) -> dict[str, Any]:
    """Return the recipe with one value changed; a `/` stands between the keys."""
    recipe = copy.deepcopy(BASE)
    *parents, last = dotted.split("|")
    inner = recipe
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return recipe


OUTSIDE = "lies outside the recipe's folder"
CASES: list[tuple[str, Any, str]] = [
    # Types, by the schema.
    ("name", ["a"], "recipe r: `name` is a list, allowed is a text"),
    ("sources", ["a"], "`sources` is a list, allowed is keys with values"),
    ("sources", {}, "`sources` is empty"),
    ("sources|a", "text", "`sources.a` is 'text', allowed is keys with values"),
    ("sources|a|limit", "ten", "`sources.a.limit` is 'ten', allowed is a whole number, from 1 on"),
    ("sources|a|limit", 0, "`sources.a.limit` is 0"),
    ("sources|a|limit", True, "`sources.a.limit` is true"),
    ("sources|a|turns", "al", "`sources.a.turns` is 'al', allowed is 'expand', 'all', 'first', 'last'"),
    ("sources|a|where", 5, "allowed is a text or a list of texts"),
    ("sources|a|map", {"question": 5}, "`sources.a.map.question` is 5, allowed is a text"),
    ("config", "cpu-smoke", "`config` is 'cpu-smoke', allowed is keys with values"),
    ("config|set", "x", "`config.set` is 'x'"),
    ("eval", [1], "`eval` is a list"),
    ("eval|set", 5, "`eval.set` is 5"),
    ("split", None, "`split` is null"),
    ("split|test", "many", "`split.test` is 'many', allowed is a number, above 0"),
    ("split|test", 0, "`split.test` is 0"),
    ("split|tests", 5, "`split` has an unknown key tests"),
    ("mix", [1], "`mix` is a list"),
    ("mix", {"a": "half", "b": 1}, "`mix.a` is 'half', allowed is a number, above 0"),
    ("mix", {"a": -1, "b": 1}, "`mix.a` is -1"),
    ("think_policy", "taged", "`think_policy` is 'taged'"),
    ("seed", -1, "`seed` is -1"),
    ("model", None, "`model` is null"),
    ("modle", "x", "unknown key modle"),
    # What no schema of ours would be asked.
    ("split|test", float("nan"), "`split.test` is nan, allowed is a finite number"),
    ("sources|a|limit", 1 << 70, "`sources.a.limit` is a number of more than 63 bits"),
    ("sources", {5: {}}, "`sources` holds a key that is no text"),
    ("config|set|x", b"\0", "the tag !!binary is not one of plain values"),
    ("config|set|x", {"a": {1, 2}}, "the tag !!set is not one of plain values"),
    ("sources|a|system", "a\0b", "the escape of U+0000"),
    ("config|set|x", [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]], "or is nested more than 20 deep"),
    # Names.
    *[("name", name, "recipe name") for name in ("../up", "-o", "a/b", "a,b", "a=b", "a b", "x" * 200, "con", "")],
    *[(f"sources|{label}|path", "rows.jsonl", "the source label")
      for label in ("../../victim", "-o", "a=b", "a,b", "a#b", "x" * 200, "a\ntouch PWNED #")],
    ("sources|A|path", "rows.jsonl", "the source labels A and a are one name on some file systems"),
    ("sources|mine|path", "rows.jsonl", "step convert-mine and step mix would both write to data/mine.jsonl"),
    ("sources|mine_train|path", "rows.jsonl", "would both write to data/mine_train.jsonl"),
    ("sources|MINE_test|path", "rows.jsonl", "data/MINE_test.jsonl and data/mine_test.jsonl"),
    ("sources|a_tools|path", "rows.jsonl", "would both write to data/a_tools.jsonl"),
    # Places.
    ("sources|a", {}, "source a needs one of sample, download, path"),
    ("sources|a", {"sample": "r1_data_example.jsonl", "path": "rows.jsonl"}, "source a needs one of"),
    ("sources|a", {"sample": "../../../victim.txt"}, "`sources.a.sample` is '../../../victim.txt', allowed is"),
    ("sources|a", {"path": "nowhere"}, "source a: nowhere does not exist"),
    ("sources|a", {"path": "x" * 4000}, "does not exist"),
    ("sources|a", {"path": "/dev/zero"}, "/dev/zero is neither a file nor a folder"),
    ("sources|a", {"path": "rows.jsonl", "files": "*"}, "source a: `files` goes with `download`"),
    *[("sources|a", {"download": name}, f"source a: '{name}' is n")
      for name in ("owner/..", "../x", "a/b/c", "/etc", "-o", "owner/", "owner/a.")],
    *[("sources|a", {"download": "owner/name", "files": files}, "leads out of the download")
      for files in ("../x", "/etc/*", "a/../../x", "~/x", "-o", "..\\x")],
    *[("model", model, "is none of `tiny`, a folder that is there, or OWNER/NAME")
      for model in ("../up", "owner/..", "nowhere", "-o", "a/b/c")],
    *[("config|set|output_dir", path, OUTSIDE) for path in ("/tmp/x", "raw/..", "saves/../../x", "..", "//x")],
    *[("config|set|output_dir", path, "config.set.output_dir") for path in ("~/x", "~", ".", "./", "-x", "a/-x", "C:\\x")],
    *[("config|set|output_dir", path, "would both write to") for path in
      ("data", "data/a.jsonl", "raw", "runs", "runs/mine/x", "configs/mine.yaml", "models", "steps.json", "Commands.sh",
       "data/dataset_info.json")],
    *[(f"config|set|{key}", "/tmp/x", OUTSIDE) for key in ("tokenized_path", "logging_dir", "cache_dir")],
    # Settings that become arguments.
    ("eval|set", {"--llamafactory-cli": "/tmp/evil.sh"}, "eval.set: '--llamafactory-cli' is no key of LLaMA-Factory"),
    ("eval|set", {"a b": 1}, "eval.set: 'a b' is no key of LLaMA-Factory"),
    ("eval|set", {"max_new_token": 1}, "eval.set: `max_new_token` is no key of LLaMA-Factory"),
    ("eval|set", {"max_new_tokens": "x"}, "eval.set: `max_new_tokens` is x, allowed is"),
    ("eval|set", {"output_dir": "x"}, "eval.set: `output_dir` is decided by the recipe's steps"),
    ("config|set|-o", "x", "config.set: '-o' is no key of LLaMA-Factory"),
    ("config|set|lerning_rate", 1, "config.set: `lerning_rate` is no key of LLaMA-Factory"),
    ("config|set|learning_rate", "fast", "config.set: `learning_rate` is fast"),
    ("config|set|dataset", "x", "config.set: `dataset` is decided by the recipe's steps"),
    ("config|preset", "cpu-smok", "no preset is called 'cpu-smok'"),
    ("config|preset", "predict", "preset predict does not train"),
    # Shares.
    ("mix", {"a": 1}, "mix names no share of b"),
    ("mix", {"a": 1, "b": 1, "c": 1}, "mix names c, which is no source"),
    ("split", {"test": 2.5}, "split.test is 2.5, allowed is a share below 1 or a whole number"),
    ("split", {"test": 0.6, "val": 0.6}, "split holds out 120% of the rows"),
    ("sources|a|where", "score", "--where takes COLUMN OPERATOR VALUE"),
    ("sources|a|format", "alpaka", "format is 'alpaka', allowed is"),
]  # fmt: skip


@pytest.mark.parametrize(("dotted", "value", "message"), CASES)
def test_what_a_recipe_must_not_say_is_refused_by_name(dotted: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(change(dotted, value))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 6_000
    assert sorted(path.name for path in Path().iterdir()) == ["r.yaml", "rows.jsonl"]


def test_the_recipe_that_the_cases_change_is_right() -> None:
    assert [step.name for step in plan(BASE)] == [
        "sample", "convert-a", "convert-b", "mix", "split", "register-train", "register-test", "model", "config",
        "train", "eval",
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["sources", "split", "model", "config"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"`{key}` is missing"):
        plan({name: value for name, value in BASE.items() if name != key})


@pytest.mark.parametrize(
    "pair",
    ["x", "=1", "a.b.c=1", "name.x=1", "..=1", ".=1", "sources=1", "sources.a=1", "split.test=[", "seed=!!python/x 1",
     "split.test=" + "9" * 5000, "eval.set.--x=1", "sources.a.b.c=1", "sources.path=x"],
)  # fmt: skip
def test_a_wrong_override_ends_in_one_error(pair: str) -> None:
    with pytest.raises(UserError):
        plan(BASE, pair)


def test_a_key_that_is_given_twice_is_refused() -> None:
    Path("r.yaml").write_text("name: a\nname: b\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line [12]"):
        read_recipe("r.yaml")


def test_a_missing_recipe_is_told_with_a_step_that_works() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist or is not a file") as caught:
        read_recipe("nowhere.yaml")
    assert caught.value.hint == "lfc run base-chat"


@pytest.mark.parametrize("system", ["-x", "--force", "a\nb", "$(touch x)", "'\"`"])
def test_a_value_never_becomes_an_option_of_its_command(system: str) -> None:
    from launch.cli import lfc

    step = next(step for step in plan(change("sources|a|system", system)) if step.name == "convert-a")
    command: Any = lfc
    words = list(step.argv)
    while hasattr(command, "commands"):
        command = command.get_command(None, words.pop(0))
    context = command.make_context("convert", words)
    assert (context.params["system"], context.params["force"]) == (system, False)


def test_figures_keep_all_of_their_digits() -> None:
    recipe = change("split|test", 1234567)
    recipe["mix"] = {"a": 0.123456789, "b": 1}
    lines = [step.format() for step in plan(recipe)]
    assert any("--ratio a=0.123456789,b=1" in line for line in lines)
    assert any("--test 1234567" in line for line in lines)


def test_two_sources_of_one_repository_are_downloaded_once() -> None:
    recipe = change("sources|a", {"download": "owner/name", "files": "a/*.jsonl"})
    recipe["sources"]["b"] = {"download": "owner/name", "files": "b/*.jsonl"}
    assert sum(step.resumes for step in plan(recipe)) == 1
    recipe["sources"]["b"]["revision"] = "v2"
    with pytest.raises(ConfigError, match="would both write to raw/name"):
        plan(recipe)


def test_a_fix_of_a_setting_is_one_that_the_recipe_takes() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(change("config|set|max_steps", 2.0))
    assert caught.value.hint == "config.set.max_steps=2"


@pytest.mark.parametrize(("name", "folder"), [("hf:owner/name", "name"), ("ms:owner/name", "name")])
def test_a_prefix_names_the_hub_and_is_no_part_of_a_folder(name: str, folder: str) -> None:
    recipe = change("sources|a", {"download": name, "revision": "v1", "files": "*.jsonl"})
    recipe["model"] = "hf:owner/model"
    check_recipe(recipe, "mine")
    argv = {step.name: step.argv for step in plan_recipe(recipe)}
    assert argv["download-a"] == ("prep", "download", name, "--to", "raw", "--revision", "v1")
    assert argv["convert-a"][2] == f"raw/{folder}/*.jsonl"
    assert argv["model"] == ("prep", "download", "--model", "hf:owner/model", "--to", "models")
    assert "model_name_or_path=models/model" in argv["config"]


def test_one_name_on_two_hubs_would_be_one_folder() -> None:
    recipe = change("sources|a", {"download": "owner/name"})
    recipe["sources"]["b"] = {"download": "hf:owner/name"}
    with pytest.raises(ConfigError, match=r"download-a and step download-b would both write to raw/name$"):
        plan_recipe(recipe)
