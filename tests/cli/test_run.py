"""`lfc run`: the recipes on small data of their shapes, with the real llamafactory-cli where training is asked for."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.modelscope_server import Hub, serve_samples
from tests.support.shapes import write_jsonl

ROOT = Path(__file__).parents[2]
# What turns a recipe for a GPU into one that a CPU finishes.
SMALL = (
    "config.preset=cpu-smoke", "config.set.max_steps=12", "config.set.save_steps=1000", "split.test=6",
    "eval.set.max_new_tokens=32", "eval.set.do_sample=false", "eval.set.per_device_eval_batch_size=6", "model=tiny",
)  # fmt: skip
ROWS = [(f"What is {number} plus {number}?", f"It is {2 * number}.") for number in range(40)]


def run_lfc(*argv: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch", *map(str, argv), "--to", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)


def write_company_csv(path: Path) -> Path:
    path.write_text("问题,回答\n" + "".join(f"{ask},{answer}\n" for ask, answer in ROWS), encoding="utf-8")
    return path


def write_conversations(path: Path) -> Path:
    pairs = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in ROWS]
    return write_jsonl(path, pairs)


def write_maths(path: Path) -> Path:
    rows = [{"problem": q, "generated_solution": f"<think>Twice.</think>{a}"} for q, a in ROWS]
    return write_jsonl(path, rows)


def write_pairs(path: Path) -> Path:
    return write_jsonl(path, [{"prompt": q, "chosen": a, "rejected": f"Not {a}"} for q, a in ROWS])


def write_calls(path: Path) -> Path:
    tool = {"name": "look_up", "parameters": {"type": "object", "properties": {"words": {"type": "string"}}}}
    rows = [
        {
            "tools": json.dumps([tool]),
            "conversations": [
                {"from": "human", "value": q},
                {"from": "function_call", "value": json.dumps({"name": "look_up", "arguments": {"words": q}})},
                {"from": "observation", "value": a},
                {"from": "gpt", "value": a},
            ],
        }
        for q, a in ROWS
    ]
    return write_jsonl(path, rows)


def sources_of(name: str, folder: Path) -> tuple[str, ...]:
    """Return the overrides that give a recipe small data of its sources' shapes."""
    folder.mkdir()
    if name == "customer-service":
        return (f"sources.company.path={write_company_csv(folder / 'answers.csv')}",)
    if name == "preference":
        return (f"sources.pairs.path={write_pairs(folder / 'pairs.jsonl')}",)
    if name == "tools-agent":
        return (f"sources.agent.path={write_calls(folder / 'agent.jsonl')}",)
    if name == "base-chat":
        return (
            f"sources.chat.path={write_conversations(folder / 'chat.jsonl')}",
            "config.set.finetuning_type=full",
        )
    chat = "sources.chat.sample=finetome_example.parquet"
    if name == "maths-hybrid":
        return (f"sources.maths.path={write_maths(folder / 'maths.jsonl')}", chat, "sources.chat.limit=60")
    return ("sources.medical.sample=r1_data_example.jsonl", chat)


def test_the_data_steps_run_without_a_stack_and_a_changed_ratio_redoes_what_depends_on_it(tmp_path: Path) -> None:
    sources = sources_of("medical-hybrid", tmp_path / "raw")
    data = [word for step in DATA_STEPS for word in ("--only", step)]
    first = run_lfc("run", "medical-hybrid", *sources, *SMALL, *data, folder=tmp_path / "out")
    assert first.returncode == 0, first.stderr
    mixed = tmp_path / "out/data/medical-hybrid.manifest.json"
    assert json.loads(mixed.read_text(encoding="utf-8"))["counts"]["records"] == 520
    started = time.monotonic()
    changed = run_lfc(
        "run", "medical-hybrid", *sources, *SMALL, "mix.medical=0.25", "mix.chat=0.75", "--dry-run",
        folder=tmp_path / "out",
    )  # fmt: skip
    assert "--ratio medical=0.25,chat=0.75" in changed.stdout
    assert time.monotonic() - started < 5


DATA_STEPS = ("sample", "convert-medical", "convert-chat", "mix", "split", "register-train", "register-test")


def test_a_recipe_without_its_file_says_how_to_give_it(tmp_path: Path) -> None:
    result = run_lfc("run", "customer-service", folder=tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr == (
        "Error: recipe customer-service: source company needs one of sample, download, path\n"
        "  Try: sources.company.path=YOUR_FILE\n"
    )


@pytest.mark.parametrize(
    ("source", "fault", "hint"),
    [
        ("answers.csv", "source agent has no row with tools", "sources.agent.tools=false"),
        ("both.jsonl", "source agent has rows without tools too", "keep them out with sources.agent.where"),
    ],
)
def test_the_tools_recipe_takes_rows_with_tools_alone(source: str, fault: str, hint: str, tmp_path: Path) -> None:
    write_company_csv(tmp_path / "answers.csv")
    both = write_calls(tmp_path / "both.jsonl")
    plain = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
    with both.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(plain) + "\n")
    path = f"sources.agent.path={tmp_path / source}"
    result = run_lfc("run", "tools-agent", path, *SMALL, "--dry-run", folder=tmp_path / "out")
    assert result.returncode == 1
    assert fault in result.stderr
    assert hint in result.stderr


@pytest.mark.stack
@pytest.mark.parametrize(
    "name", ["customer-service", "base-chat", "maths-hybrid", "medical-hybrid", "preference", "tools-agent"]
)
def test_a_recipe_goes_the_whole_way_and_then_skips_it(name: str, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("trains each recipe; --full runs it")
    argv = ("run", name, *sources_of(name, tmp_path / "raw"), *SMALL)
    first = run_lfc(*argv, folder=tmp_path / "out")
    assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-2000:]
    assert "held-out rows" in first.stdout
    started = time.monotonic()
    second = run_lfc(*argv, folder=tmp_path / "out")
    assert time.monotonic() - started < 2
    assert second.stdout.count("is current: nothing to do") == second.stdout.count("\n$ lfc ")


@pytest.mark.stack
def test_a_changed_ratio_redoes_mix_and_what_follows(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("trains twice; --full runs it")
    argv = ("run", "medical-hybrid", *sources_of("medical-hybrid", tmp_path / "raw"), *SMALL)
    assert run_lfc(*argv, folder=tmp_path / "out").returncode == 0
    again = run_lfc(*argv, "mix.medical=0.25", "mix.chat=0.75", folder=tmp_path / "out")
    assert again.returncode == 0, again.stderr
    skipped = [part.split("(")[-1].split(")")[0] for part in again.stdout.split("is current: nothing to do")[:-1]]
    assert skipped == ["sample", "convert-medical", "convert-chat"]


@pytest.mark.stack
def test_the_quickstart_goes_from_a_hub_to_a_compared_adapter(tmp_path: Path, hub: Hub, full: bool) -> None:
    if not full:
        pytest.skip("trains; --full runs it")
    serve_samples(hub)
    result = run_lfc("quickstart", "--from-hub", folder=tmp_path / "q")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert "the loss fell from" in result.stdout
    manifest = json.loads((tmp_path / "q/data/hybrid_train.manifest.json").read_text(encoding="utf-8"))
    assert "krisfu/delicate_medical_r1_data" in json.dumps(manifest)
