"""A sweep: every run has a name and a folder of its own on every system, or the sweep is refused."""

import random
from pathlib import Path
from typing import Any

import pytest

from launch.batches.sweep import check_output_folders, check_run_names, read_sweep, wants_boost
from prep.errors import ConfigError, UserError


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text("output_dir: saves/base\nseed: 1\n", encoding="utf-8")


def read(text: str) -> dict[str, dict[str, Any]]:
    Path("s.yaml").write_text(f"config: base.yaml\n{text}\n", encoding="utf-8")
    return read_sweep([Path("s.yaml")], "s")


@pytest.mark.parametrize(
    ("line", "boost"), [("boost: true", True), ("boost: false", False), ("set: {seed: 2}", False)]
)
def test_a_sweep_asks_for_the_boost_of_all_its_runs(line: str, boost: bool) -> None:
    read(f"grid: {{seed: [1, 2]}}\n{line}")
    assert wants_boost([Path("s.yaml")]) is boost
    assert wants_boost([Path("base.yaml")]) is False


def test_a_boost_that_is_no_switch_is_refused() -> None:
    with pytest.raises(ConfigError, match="`boost` must be true or false"):
        read("grid: {seed: [1, 2]}\nboost: fast")


@pytest.mark.parametrize(
    ("sweep", "names"),
    [
        ("grid: {model_name_or_path: [m/a/final, m/b/final]}", ["a_final", "b_final"]),
        ("grid: {model_name_or_path: [x/a/b/final, x/a/c/final, y/a/b/final]}",
         ["x_a_b_final", "x_a_c_final", "y_a_b_final"]),
        ("grid: {dataset_dir: [v1/data, v2/data]}", ["v1_data", "v2_data"]),
        ("grid: {dataset: [医疗, 数学]}", ["医疗", "数学"]),
        ("grid: {dataset: ['！', '？']}", ["x", None]),
        ("grid: {dataset: [Data, data]}", ["Data", None]),
        ("grid: {lora_alpha: [1, 1.2]}", ["1", None]),
        ("grid: {lora_alpha: [1.2, 1]}", [None, None]),
        ("grid: {a: [true, false, null]}", ["True", "False", "None"]),
        ("grid: {a: [[1, 2], [1, 3]]}", [None, None]),
        ("zip: {a: [x/d, y/d], b: [1, 1]}", [None, None]),
    ],
)  # fmt: skip
def test_names_that_we_make_tell_all_runs_apart(sweep: str, names: list[str | None]) -> None:
    configs = read(sweep)
    assert len(configs) == len(names)
    for made, name in zip(configs, names, strict=True):
        assert name is None or made.partition("-")[2] == name
    assert len({values["output_dir"] for values in configs.values()}) == len(names)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("grid: {learning_rate: [1.0e-4, 0.0001]}", "holds 0.0001 and 0.0001: two runs would be one"),
        ("grid: {learning_rate: [1.0e-4, '1e-4']}", "two runs would be one"),
        ("grid: {lora_rank: [8, 8.0]}", "holds 8 and 8.0: two runs would be one"),
        ("grid: {dataset: [a, a]}", "two runs would be one"),
        ("zip: {a: [1, 1], b: [2, 2.0]}", "`zip` holds"),
        ("grid: {a: [1]}\nzip: {a: [2]}", "`a` stands in both grid and zip"),
        ("runs: {a: {}, A: {}}", "runs 'a' and 'A' are one name where case is ignored"),
        ("runs: {'é': {}, 'e\u0301': {}}", "are one name where case is ignored"),
        ("runs: {a: {}, a.2: {}}", "run 'a.2' has the name of an attempt of run 'a'"),
        ("runs: {a/b: {}}", "run name 'a/b' holds one of"),
        ("runs: {../a: {}}", "run name '../a' begins with '.'"),
        ("runs: {/a: {}}", "holds one of"),
        ("runs: {'[/bold]': {}}", "holds one of"),
        ("runs: {-a: {}}", "begins with '-'"),
        ("runs: {'': {}}", "is empty"),
        ('runs: {"a\\e[2J": {}}', "holds a control character"),
        (f"runs: {{{'a' * 300}: {{}}}}", "is longer than 180 bytes"),
        ("runs: {a: {output_dir: saves/x}, b: {output_dir: ./saves/x/}}", "'a' and 'b' share the output_dir saves/x"),
        ("runs: {a: {output_dir: saves/x}, b: {output_dir: saves/y/../x}}", "share the output_dir"),
        ("runs: {a: {output_dir: saves/x}, b: {output_dir: link/x}}", "share the output_dir"),
        ("runs: {a: {output_dir: saves/x}, b: {output_dir: saves/X}}", "share the output_dir"),
        ("runs: {a: {output_dir: saves/x}, b: {output_dir: saves/x/y}}", "lies inside saves/x, that of run 'a'"),
        ("runs: {a: {output_dir: saves/x/y}, b: {output_dir: saves/x}}", "lies inside saves/x, that of run 'b'"),
        ("runs: {a: {output_dir: .}}", "is the working folder itself"),
        ("runs: {a: {output_dir: ''}}", "allowed is the path of a folder"),
        ("runs: {a: {output_dir: 3}}", "allowed is the path of a folder"),
        ("runs: {a: {output_dir: null}}", "allowed is the path of a folder"),
        ("gird: {a: [1]}", "unknown key gird; a sweep has config, set, grid, zip, runs, boost"),
        ("grid: [1, 2]", "`grid` must be a mapping of config keys, each with a list of its values, not [1, 2]"),
        ("grid: {a: 1}", "`grid.a` must be a list of values, not 1"),
        ("grid: {a: []}", "`grid.a` must be a list of values"),
        ("grid: {'a b': [1]}", "must be a config key"),
        ("zip: text", "`zip` must be a mapping"),
        ("set: [1]", "`set` must be a mapping of config keys that change for all runs, not [1]"),
        ("runs: [a, b]", "`runs` must be a mapping of run names"),
        ("runs: {a: 3}", "`runs.a` must be a mapping of config keys that this run changes, not 3"),
        ("grid: {a: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], b: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],"
         " c: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], d: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], e: [1, 2]}", "20,000 runs"),
    ],
)  # fmt: skip
def test_what_would_be_two_things_of_one_name_or_no_sweep_is_refused(sweep: str, message: str) -> None:
    Path("saves").mkdir()
    Path("link").symlink_to("saves")
    with pytest.raises(ConfigError) as caught:
        read(sweep)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("sweep", "message", "hint"),
    [
        ("gird: {a: [1]}", "unknown key gird;", "grid: {learning_rate: [1.0e-4, 2.0e-4]}"),
        (
            "lora_rank: 8",
            "unknown key lora_rank;",
            "set: {lora_rank: …} for all runs, or grid: {lora_rank: […, …]}",
        ),
        ("wandb: 1", "unknown key wandb;", "lfc launch batch --help shows a whole sweep file"),
        ("a1: 1\nb1: 2", "unknown keys a1, b1;", "lfc launch batch --help shows a whole sweep file"),
    ],
)
def test_a_key_that_no_sweep_has_names_what_was_meant(sweep: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(sweep)
    assert message in str(caught.value)
    assert caught.value.hint == hint


@pytest.mark.parametrize("config", ["3", "[a]", "''", "null", "{a: b}"])
def test_a_config_that_is_no_path_is_refused(config: str) -> None:
    Path("s.yaml").write_text(f"config: {config}\nruns: {{a: {{}}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="`config` must be the path of a YAML config"):
        read_sweep([Path("s.yaml")], "s")


def test_configs_of_one_file_name_are_told_apart_by_their_folders() -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
        Path(name, "c.yaml").write_text(f"output_dir: saves/{name}\n", encoding="utf-8")
    assert list(read_sweep([Path("a/c.yaml"), Path("b/c.yaml")], "x")) == ["a_c", "b_c"]
    with pytest.raises(ConfigError, match="is given twice"):
        read_sweep([Path("a/c.yaml"), Path("b/../a/c.yaml")], "x")


def test_random_sweeps_have_runs_of_their_own_or_end_in_one_error() -> None:
    dice = random.Random(13)
    values = [
        "1",
        "1.0",
        "1e0",
        "a",
        "A",
        "a/b",
        "../a",
        "[1]",
        "{}",
        "null",
        "true",
        "'\\0'",
        '"\\e"',
        "医",
        "x.2",
        "-1",
    ]
    for _ in range(300):
        lines = []
        for key in dice.sample(["set", "grid", "zip", "runs"], dice.randint(1, 3)):
            inner = {
                dice.choice(["a", "output_dir", "a.2", "-x", "医", "b"]): dice.choice(
                    [dice.choice(values), f"[{dice.choice(values)}, {dice.choice(values)}]", "{a: 1}"]
                )
                for _ in range(dice.randint(0, 3))
            }
            lines.append(f"{key}: {{{', '.join(f'{name}: {value}' for name, value in inner.items())}}}")
        try:
            configs = read("\n".join(lines))
        except UserError:
            continue
        check_run_names(configs)
        check_output_folders(configs)
