"""Config commands against what should not be: files that are none, keys that are none, places that are taken."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/d.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n', encoding="utf-8")
    Path("data/dataset_info.json").write_text('{"d": {"file_name": "d.jsonl"}}', encoding="utf-8")
    return tmp_path


def config(*words: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", "config", *words])


def fails_clearly(result: Result) -> str:
    """Return the error of a command that failed as a command should: one error, exit code 1, no traceback."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1, result.output
    assert result.stderr.count("Error: ") == 1
    return result.stderr.removeprefix("Error: ").splitlines()[0]


MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_text(""), "c.yaml is empty"),
    "null": (lambda path: path.write_text("null\n"), "c.yaml must be `key: value` lines, not one value"),
    "comment": (lambda path: path.write_text("# nothing\n"), "c.yaml is empty"),
    "list": (lambda path: path.write_text("- a\n"), "c.yaml must be `key: value` lines, not one list"),
    "UTF-16": (lambda path: path.write_bytes("a: 1".encode("utf-16")), "c.yaml cannot be read: it is UTF-16"),
    "bytes": (lambda path: path.write_bytes(b"a: \xff\n"), "c.yaml cannot be read: it is not UTF-8 at byte 3"),
    "alias of itself": (
        lambda path: path.write_text("a: &a [*a]\n"),
        "c.yaml line 1 column 8: the alias stands inside what it stands for",
    ),
}


@pytest.mark.parametrize("what", MAKERS)
@pytest.mark.parametrize(
    "words",
    [
        ("check", "c.yaml"),
        ("check", "c.yaml", "--json"),
        ("diff", "c.yaml", "cpu-smoke"),
        ("diff", "cpu-smoke", "c.yaml", "--json"),
        ("export", "c.yaml", "-o", "out.yaml"),
    ],
    ids=" ".join,
)
def test_a_file_that_is_no_config_is_one_error(words: tuple[str, ...], what: str) -> None:
    make, message = MAKERS[what]
    make(Path("c.yaml"))
    said = fails_clearly(config(*words))
    # A saved page is looked for first, and told apart by its keys.
    assert said == message or (words[0] == "export" and said.startswith("c.yaml must be `key: value` lines"))
    assert not Path("out.yaml").exists()


@pytest.mark.parametrize(
    "word", ["a b=1", "-x=1", "--do_train=true", "a\nb=1", "a.b=1", "=1", "1a=2", "ключ=1", "x" * 200 + "=1"]
)
def test_what_is_no_key_is_refused_before_it_is_written(word: str) -> None:
    assert fails_clearly(config("new", "cpu-smoke", "-o", "c.yaml", "--", word)).startswith(
        ("'", '"', "-", "a", "1", "x", "к")
    )
    assert not Path("c.yaml").exists()


@pytest.mark.parametrize("value", ["&a [*a]", "!!python/name:os.system", "[" * 200, "{", '"\\0"', "9" * 5000])
def test_a_value_that_is_none_is_refused_before_it_is_written(value: str) -> None:
    assert "is not a YAML value" in fails_clearly(config("new", "cpu-smoke", f"run_name={value}", "-o", "c.yaml"))
    assert not Path("c.yaml").exists()


@pytest.mark.parametrize("value", [".nan", ".inf", "1e999", "-.inf", "9" * 30])
def test_a_number_that_is_none_is_refused_before_it_is_written(value: str) -> None:
    fails_clearly(config("new", "cpu-smoke", "dataset=d", f"learning_rate={value}", "-o", "c.yaml"))
    assert not Path("c.yaml").exists()


def test_nothing_is_written_over_without_force() -> None:
    assert config("new", "cpu-smoke", "dataset=d", "-o", "c.yaml").exit_code == 0
    first = Path("c.yaml").read_bytes()
    page = {"top.model_name": "Custom", "top.model_path": "m", "train.dataset": ["d"], "train.output_dir": "x"}
    Path("page.yaml").write_text(json.dumps(page), encoding="utf-8")
    Path("link.yaml").symlink_to("c.yaml")
    for words in (
        ("new", "medical-dpo", "-o", "c.yaml"),
        ("new", "medical-dpo", "-o", "link.yaml"),
        ("import", "page.yaml", "-o", "c.yaml"),
        ("import", "page.yaml", "-o", "page.yaml"),
        ("export", "c.yaml", "-o", "c.yaml"),
    ):
        assert "exists" in fails_clearly(config(*words)), words
    assert Path("c.yaml").read_bytes() == first
    assert config("new", "cpu-smoke", "dataset=d", "seed=7", "-o", "c.yaml", "--force").exit_code == 0
    assert "seed: 7" in Path("c.yaml").read_text(encoding="utf-8")


def test_a_schema_that_stands_beside_the_config_is_left_as_it_is() -> None:
    name = "llamafactory-0.9.5-train.schema.json"
    Path(name).write_text("mine", encoding="utf-8")
    assert config("new", "cpu-smoke", "dataset=d", "-o", "c.yaml").exit_code == 0
    assert Path(name).read_text(encoding="utf-8") == "mine"


def test_a_control_character_of_a_config_never_reaches_the_terminal() -> None:
    Path("c.yaml").write_text('"\\e[2Jk": "\\e]0;x\\a"\nmodel_name_or_path: "\\u202em"\n', encoding="utf-8")
    for words in (("check", "c.yaml"), ("diff", "c.yaml", "cpu-smoke"), ("check", "c.yaml", "--json")):
        output = config(*words).output
        assert not {"\x1b", "\x07", "\u202e"} & set(output)


@pytest.mark.skipif(os.name == "nt", reason="a working folder cannot be deleted there")
@pytest.mark.parametrize(
    "words", [("check", "c.yaml"), ("ls",), ("new", "cpu-smoke", "-o", "c.yaml")], ids=" ".join
)
def test_a_deleted_working_folder_is_no_traceback(words: tuple[str, ...], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    result = config(*words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception


@pytest.mark.parametrize(
    "line",
    [
        "model_name_or_path: " + "x" * 5000,
        "model_name_or_path: ~nobody-is-called-so/x",
        "output_dir: " + "../" * 2000,
        "deepspeed: {zero_optimization: 3}",
        "deepspeed: /dev/zero",
        "new_special_tokens_config: /dev/zero",
        "adapter_name_or_path: ',,,'",
        "dataset_dir: /dev/null",
    ],
)
def test_a_path_that_cannot_be_looked_at_is_a_fault(line: str) -> None:
    base = {"model_name_or_path": "m", "stage": "sft", "do_train": "true", "dataset": "d", "output_dir": "o"}
    lines = [f"{key}: {value}" for key, value in base.items() if not line.startswith(key)]
    Path("c.yaml").write_text("\n".join([*lines, line]) + "\n", encoding="utf-8")
    result = config("check", "c.yaml", "--for", "any")
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert max(map(len, result.output.splitlines())) < 13_000


LONG = "m" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("run", "r.yaml"),
        ("launch", "batch", "s.yaml"),
        ("launch", "prove", LONG),
        ("launch", "eval", f"{LONG}=x"),
        ("launch", "train", f"{LONG}.yaml"),
    ],
)
def test_a_path_longer_than_the_system_takes_is_one_error(words: tuple[str, ...]) -> None:
    recipe = {"sources": {"a": {"path": "data/d.jsonl"}}, "model": LONG, "config": {"preset": "cpu-smoke"}}
    Path("r.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    Path("s.yaml").write_text(json.dumps({"config": LONG, "grid": {"seed": [1, 2]}}), encoding="utf-8")
    result = CliRunner().invoke(lfc, list(words))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    assert "Error: " in result.stderr
