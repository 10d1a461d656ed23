"""What `from prep import …` gives: typed, lazy, silent; the same results as the commands'."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import launch
import prep
from prep.api import progress

ROOT = Path(__file__).parents[3]
PUBLIC = {
    "prep": {
        *("convert_files", "mix_files", "split_file", "register_dataset", "collect_stats", "make_tokens"),
        *(
            "ConvertOptions",
            "ConvertResult",
            "MixOptions",
            "MixResult",
            "SplitOptions",
            "SplitSizes",
            "SplitResult",
        ),
        *("StatsOptions", "DatasetStats", "TemplateOptions", "Registration", "MadeTokens", "UserError"),
    },
    "launch": {
        *("check_config", "prove_model", "train", "evaluate", "list_runs"),
        *("Runs", "Check", "Answer", "Run", "RunState", "Comparison"),
    },
}


@pytest.mark.parametrize("package", [prep, launch], ids=["prep", "launch"])
def test_the_public_names_are_these_and_each_is_there(package: Any) -> None:
    names = PUBLIC[package.__name__]
    assert set(package.__all__) - {"__version__"} == names
    assert names <= set(dir(package))
    for name in names:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nobody'"):
        _ = package.nobody


@pytest.mark.parametrize("package", ["prep", "launch"])
def test_type_checkers_are_told_the_same_names(package: str) -> None:
    tree = ast.parse((ROOT / package / "__init__.pyi").read_text(encoding="utf-8"))
    told = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == PUBLIC[package]
    assert (ROOT / package / "py.typed").is_file()


def test_importing_the_packages_stays_light_and_hides_no_package() -> None:
    code = (
        "import prep, launch, sys; loaded = set(sys.modules)\n"
        "from prep import convert_files; from launch import list_runs\n"
        "import prep.convert, launch.prove\n"
        "print(sorted(name for name in loaded if name.split('.')[0] in ('prep', 'launch', 'pyarrow', 'numpy')))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['launch', 'prep']"


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of questions, thoughts and answers in the working folder."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {n}?", "think": f"It is {n}.", "answer": f"{n}"} for n in range(40)]
    path = Path("raw.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_whole_way_to_a_registered_dataset(raw: Path, capfd: pytest.CaptureFixture[str]) -> None:
    converted = prep.convert_files(raw, "data/a.jsonl", prep.ConvertOptions(system="Be brief."))
    assert converted.counts["records"] == 40
    assert {"what": "records", "rows": 40} in converted.to_pandas().to_dict("records")
    prep.convert_files([str(raw)], "data/b.jsonl")
    mixed = prep.mix_files({"a": "data/a.jsonl", "b": Path("data/b.jsonl")}, "data/ab.jsonl")
    assert mixed.to_pandas().to_dict("records") == [
        {"part": name, "taken": 40, "available": 40, "rows": 40} for name in ("a", "b")
    ]
    split = prep.split_file("data/a.jsonl", "data/a", prep.SplitOptions(prep.SplitSizes(test=10)))
    sides = {row["side"]: row["rows"] for row in split.to_pandas().to_dict("records")}
    assert sides == {"train": 30, "test": 10}
    assert prep.register_dataset("data/a_train.jsonl", "mine").changed
    stats = prep.collect_stats("mine")
    assert stats.rows == 30
    assert int(stats.to_pandas()["rows"].sum()) == 30
    assert capfd.readouterr() == ("", "")


def test_faults_are_raised_with_the_next_step(raw: Path) -> None:
    prep.convert_files(raw, "data/a.jsonl")
    with pytest.raises(prep.UserError, match="exists already") as caught:
        prep.convert_files(raw, "data/a.jsonl")
    assert caught.value.hint == "--force to replace it, or another -o"


def test_tokens_are_made_from_a_config(raw: Path, qwen3_folder: Path) -> None:
    prep.convert_files(raw, "data/a.jsonl")
    prep.register_dataset("data/a.jsonl", "a")
    config = f"stage: sft\ndo_train: true\nmodel_name_or_path: {qwen3_folder}\ndataset: a\ntemplate: qwen3\n"
    Path("a.yaml").write_text(config, encoding="utf-8")
    made = prep.make_tokens("a.yaml", output="tokens")
    assert made.path == Path("tokens")
    (row,) = made.to_pandas().to_dict("records")
    assert (row["split"], row["rows"]) == ("train", 40)


class Shell:
    """A notebook's shell, as IPython gives it."""

    kernel = object()

    def __init__(self) -> None:
        self.lines: list[str] = []

    def get_ipython(self) -> "Shell":
        return self

    @property
    def display(self) -> Any:
        shell = self

        class Display:
            def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
                assert (raw, display_id) == (True, True)
                return self

            def update(self, content: dict[str, str], *, raw: bool) -> None:
                shell.lines.append(content["text/plain"])

        return Display()


def test_a_notebook_sees_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell()
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell.display)
    monkeypatch.setattr(progress, "_INTERVAL_S", 0)
    with progress.watch("converting", "rows") as on_rows:
        on_rows(1000)
        on_rows(500)
    assert shell.lines == ["converting: 1,000 rows", "converting: 1,500 rows", "converting: 1,500 rows"]


def test_elsewhere_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with progress.watch("converting", "rows") as on_rows:
        on_rows(5)
    assert capfd.readouterr() == ("", "")
