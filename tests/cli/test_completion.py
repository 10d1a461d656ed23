"""What a shell offers on Tab, asked as bash and zsh ask."""

import json
from pathlib import Path

import pytest
from click.shell_completion import ZshComplete

from launch.cli.root import lfc
from prep.cli.completion import KeyedBashComplete

NO_JSON = "{"
HOSTILE = ("m$(touch x)", "m;reboot", "m *", "m\nplain,evil", "m`id`", "-m'")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two runs, a batch of two, and three datasets beside names that a shell would obey."""
    monkeypatch.chdir(tmp_path)
    for name in ("first", "night/a", "night/b", "second run"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "runs" / "night" / "batch.json").write_text("{}", encoding="utf-8")
    (tmp_path / "runs" / "notes.txt").write_text("", encoding="utf-8")
    for folder, names in (("data", ("medical", "maths", "医疗", *HOSTILE)), ("other", ("elsewhere",))):
        (tmp_path / folder).mkdir()
        registry = {name: {"file_name": "a.jsonl"} for name in names}
        (tmp_path / folder / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset_info.json").write_text(NO_JSON, encoding="utf-8")
    return tmp_path


def ask_bash(line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is offered for the last word of a line, which bash cuts at spaces and at `=`."""
    words = [word for part in line.split(" ") for word in part.replace("=", "\0=\0").split("\0")]
    words = [word for word in words if word] + ([""] if line.endswith(" ") else [])
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    offered = KeyedBashComplete(lfc, {}, "lfc", "_LFC_COMPLETE").complete()
    return offered.split("\n") if offered else []


def ask_zsh(line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is offered for the last word of a line, which zsh cuts at spaces alone."""
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    offered = ZshComplete(lfc, {}, "lfc", "_LFC_COMPLETE").complete()
    return offered.split("\n")[1::3]


OFFERED = {
    "runs": ("lfc launch logs ", ["first", "night/a", "night/b"]),
    "runs to watch": ("lfc launch attach f", ["first"]),
    "runs to compare": ("lfc launch compare first n", ["night/a", "night/b"]),
    "runs and batches to stop": ("lfc launch stop n", ["night", "night/a", "night/b"]),
    "several runs to stop": ("lfc launch stop first night/a f", ["first"]),
    "runs and batches to report": ("lfc launch report ni", ["night", "night/a", "night/b"]),
    "batches to go on with": ("lfc launch batch --continue ", ["night"]),
    "presets": ("lfc launch config new medical-h", ["medical-hybrid"]),
    "a preset to show": ("lfc launch config show medical-h", ["medical-hybrid"]),
    "a preset to compare": ("lfc launch config diff medical-h", ["medical-hybrid"]),
    "recipes": ("lfc run quick", ["quickstart"]),
    "steps": ("lfc run quickstart --only tr", ["train"]),
    "steps of no recipe": ("lfc run --only ", []),
    "datasets, none that a shell would obey": ("lfc prep unregister m", ["medical", "maths"]),
    "a Chinese name": ("lfc prep lint 医", ["医疗"]),
    "datasets of another folder": ("lfc prep lint --dataset-dir other ", ["elsewhere"]),
    "datasets of a broken registry": ("lfc prep unregister --dataset-dir broken ", []),
    "datasets of no folder": ("lfc prep unregister --dataset-dir nowhere ", []),
    "rules of lint": ("lfc prep lint data/a.jsonl --ignore med", ["media"]),
    "templates": ("lfc prep stats medical --template qwen3_nothi", ["qwen3_nothink"]),
    "formats": ("lfc prep convert a.json --format open", ["openmath"]),
    "public sets": ("lfc prep download medical", ["medical-cot"]),
    "keys": ("lfc launch train a.yaml lora_ra", ["lora_rank="]),
    "keys of an inference YAML": ("lfc launch chat a.yaml infer_b", ["infer_backend="]),
    "keys of an evaluation": ("lfc launch eval a.yaml cutoff", ["cutoff_len="]),
    "choices": ("lfc launch config check a.yaml --for g", ["gpu"]),
}


@pytest.mark.parametrize("line", OFFERED)
def test_a_name_is_completed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed, offered = OFFERED[line]
    assert ask_bash(typed, monkeypatch) == [f"plain,{name}" for name in offered]
    assert ask_zsh(typed, monkeypatch) == offered


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("dataset=me", ["medical"]),
        ("dataset=", ["medical", "maths", "医疗"]),
        ("template=qwen3_nothi", ["qwen3_nothink"]),
        ("bf16=", ["true", "false"]),
        ("finetuning_type=f", ["freeze", "full"]),
        ("lora_rank=", []),
    ],
)
def test_a_keys_values_are_completed(typed: str, values: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"lfc launch train a.yaml seed=1 {typed}"
    assert ask_bash(line, monkeypatch) == [f"plain,{value}" for value in values]
    key = typed.partition("=")[0]
    assert ask_zsh(line, monkeypatch) == [f"{key}={value}" for value in values]


@pytest.mark.parametrize(
    "line", ["lfc prep lint nothing", "lfc prep stats ./a", "lfc launch config diff a", "lfc run my"]
)
def test_where_no_name_fits_files_are_offered(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask_bash(line, monkeypatch) == [f"file,{line.rpartition(' ')[2]}"]


def test_a_folder_without_runs_offers_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert ask_bash("lfc launch logs ", monkeypatch) == []
    assert ask_bash("lfc launch batch --continue ", monkeypatch) == []


def test_as_many_names_are_offered_as_somebody_reads(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = {f"set-{number}": {"file_name": "a.jsonl"} for number in range(3_000)}
    (work / "data" / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    assert len(ask_bash("lfc prep unregister ", monkeypatch)) == 500


def test_bash_sets_no_space_behind_a_key() -> None:
    assert "compopt -o nospace" in KeyedBashComplete(lfc, {}, "lfc", "_LFC_COMPLETE").source()
