"""No two live runs work on one GPU unasked, whatever started them and whether the GPU was named or found."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import launch.machine.gpus
from launch.batches.batch import refuse_taken
from launch.cli import lfc
from launch.configs.config import RunConfig
from launch.machine.gpu_use import find_gpus
from launch.machine.gpus import Gpu, GpuReport
from launch.runs.batch_plan import draft_batch
from launch.runs.claims import list_claims
from launch.runs.folder import RunFolder
from launch.runs.run import prepare_llamafactory, stop_run
from prep.errors import OutputError
from tests.support.begun_runs import start_llamafactory

posix_only = pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
THREE = tuple(Gpu("H100", 80 << 30, (9, 0), f"GPU-{letter}000", free_bytes=free) for letter, free in zip("abc", (70, 60, 50), strict=True))  # fmt: skip
VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("action", "values", "environ", "expected"),
    [
        ("train", {}, {}, ("0", "1", "2")),
        ("train", {}, {VISIBLE: "1"}, ("1",)),
        ("train", {}, {VISIBLE: " 2 , 0"}, ("2", "0")),
        ("train", {}, {VISIBLE: "GPU-b"}, ("1",)),
        ("train", {}, {VISIBLE: "GPU-z,MIG-1"}, ("GPU-z", "MIG-1")),
        ("train", {}, {VISIBLE: "01,1"}, ("1",)),
        ("train", {}, {VISIBLE: "0,-1,2"}, ("0",)),
        ("train", {}, {VISIBLE: ""}, ()),
        ("train", {}, {VISIBLE: "-1"}, ()),
        ("train", {}, {"USE_RAY": "1"}, ()),
        ("train", {"use_cpu": True}, {}, ()),
        ("train", {"use_cpu": False}, {}, ("0", "1", "2")),
        ("export", {}, {}, ()),
        ("export", {"export_device": "cpu"}, {VISIBLE: "0"}, ()),
        ("export", {"export_device": "auto"}, {}, ("0", "1", "2")),
        ("lm_eval", {}, {}, ("0",)),
        ("lm_eval", {"device": "cuda"}, {VISIBLE: "2,1"}, ("2",)),
        ("lm_eval", {"device": "cuda:1"}, {VISIBLE: "2,1"}, ("1",)),
        ("lm_eval", {"device": "cpu"}, {}, ()),
    ],
)
def test_the_gpus_of_an_action_are_those_that_it_will_see(
    action: str, values: dict[str, Any], environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert find_gpus(action, values, environ, THREE) == expected


@pytest.mark.parametrize(("environ", "expected"), [({}, ()), ({VISIBLE: "3"}, ("3",))])
def test_where_no_driver_tells_of_gpus_those_that_were_named_count(
    environ: Mapping[str, str], expected: tuple[str, ...]
) -> None:
    assert find_gpus("train", {}, environ, ()) == expected


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in llamafactory-cli's place that waits, on a machine with three GPUs and what commands need."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch.machine.gpus, "_ask_driver", lambda: GpuReport(THREE))
    monkeypatch.delenv(VISIBLE, raising=False)
    for module in ("train", "actions", "batch"):
        monkeypatch.setattr(f"launch.cli.{module}.refuse_faults", lambda *_, **__: None)
    monkeypatch.setattr("launch.cli.evaluate.refuse_entrants", lambda _: None)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n", encoding="utf-8")
    path.chmod(0o755)
    (path.parent / "python").symlink_to(sys.executable)
    monkeypatch.setattr("launch.machine.command.find_lm_eval", lambda: path)
    write_inputs()
    return path


def write_inputs() -> None:
    training = {"stage": "sft", "do_train": True, "dataset": "train", "dataset_dir": "data", "template": "qwen3"}
    configs: dict[str, dict[str, Any]] = {
        "train": {**training, "output_dir": "saves/new"},
        "unsloth": {**training, "output_dir": "saves/new", "use_unsloth": True},
        "cpu": {**training, "output_dir": "saves/new", "use_cpu": True},
        "trained": {**training, "output_dir": "saves/old", "finetuning_type": "lora"},
        "predict": {"do_predict": True, "output_dir": "saves/new", "eval_dataset": "test", "dataset_dir": "data"},
        "merge": {"export_dir": "models/new", "export_device": "auto"},
    }
    for name, values in configs.items():
        Path(f"{name}.yaml").write_text(json.dumps({"model_name_or_path": "m/x", **values}), encoding="utf-8")
    Path("sweep.yaml").write_text("config: train.yaml\ngrid: {seed: [1, 2]}\n", encoding="utf-8")
    Path("saves/old").mkdir(parents=True)
    Path("saves/old/adapter_config.json").write_text("{}", encoding="utf-8")
    Path("data").mkdir()
    row = '{"instruction": "q", "input": "", "output": "a"}\n'
    for name in ("train", "test"):
        Path(f"data/{name}.jsonl").write_text(row * len(name), encoding="utf-8")
    entries = {name: {"file_name": f"{name}.jsonl"} for name in ("train", "test")}
    Path("data/dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")


@pytest.fixture
def live(program: Path, request: pytest.FixtureRequest) -> Iterator[RunFolder]:
    """A live training called `first`, on the GPUs of the test's parameter: `None` leaves it all it finds."""
    env = {} if request.param is None else {VISIBLE: request.param}
    run = start_llamafactory(program, "train", RunConfig({"output_dir": "saves/a"}, ""), Path("runs/first"), env)
    yield run
    stop_run(run)


def call(program: Path, words: str, env: Mapping[str, str] | None = None) -> Result:
    argv = ["launch", *words.split(), "--llamafactory-cli", str(program)]
    return CliRunner().invoke(lfc, argv, env=env, catch_exceptions=False)


# Every command that starts a run: on the GPUs it finds, on GPU 1 by name, and on GPU 0.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "train": ("train train.yaml", "--gpus 1", "--gpus 0"),
    "train on several": ("train train.yaml", "--gpus 1,2", "--gpus 0,2"),
    "predict": ("predict predict.yaml", VISIBLE + "=1", VISIBLE + "=0"),
    "export": ("export merge.yaml", VISIBLE + "=1", VISIBLE + "=0"),
    "eval": ("eval trained.yaml --eval-dataset test", VISIBLE + "=1", VISIBLE + "=0"),
    "tasks": ("eval trained.yaml --tasks mmlu", VISIBLE + "=0", VISIBLE + "=1"),
}


def split_call(words: str, how: str) -> tuple[str, dict[str, str]]:
    name, equals, value = how.partition("=")
    return (f"{words} --dry-run", {name: value}) if equals else (f"{words} {how} --dry-run", {})


@posix_only
@pytest.mark.parametrize("live", ["0"], indirect=True)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_second_run_is_refused_a_taken_gpu_named_or_not_and_given_a_free_one(
    command: str, program: Path, live: RunFolder
) -> None:
    words, *named = COMMANDS[command]
    free, taken = named if command != "tasks" else named[::-1]
    # An evaluation works on one GPU, and finds itself one that is free.
    unnamed: list[tuple[str, dict[str, str]]] = [] if command == "eval" else [(f"{words} --dry-run", {})]
    for text, env in [*unnamed, split_call(words, taken)]:
        refused = call(program, text, env)
        assert refused.exit_code == 1, refused.output
        assert "Error: GPU 0 is in use by 'first', which has not ended\n" in refused.stderr
        how = "--gpus 1,2" if "--gpus" in text else f"before the command {VISIBLE}=1,2"
        assert f"  Try: {how}, lfc launch stop first, or --no-check to share it\n" in refused.stderr
    for text, env in [split_call(words, free), (f"{words} --dry-run --no-check", {})]:
        assert call(program, text, env).exit_code == 0
    assert call(program, f"{words} --dry-run", {"LFC_SHARE_GPUS": "1"}).exit_code == 0


@posix_only
@pytest.mark.parametrize("live", [None], indirect=True)
@pytest.mark.parametrize("words", ["batch sweep.yaml --gpus 2", "train train.yaml --gpus 1", *(words for words, *_ in COMMANDS.values())])  # fmt: skip
def test_a_live_run_that_named_no_gpu_has_all(words: str, program: Path, live: RunFolder) -> None:
    assert json.loads(live.plan.read_text(encoding="utf-8"))["gpus"] == ["0", "1", "2"]
    refused = call(program, words)
    assert (refused.exit_code, "is in use by 'first'" in refused.stderr) == (1, True)
    assert [path.parent.name for path in Path("runs").rglob("run.json")] == ["first"]


@posix_only
@pytest.mark.parametrize("live", [None], indirect=True)
@pytest.mark.parametrize("words", ["train cpu.yaml --dry-run", "batch sweep.yaml --slots 2 --dry-run"])
def test_what_stays_on_the_processor_takes_no_gpu(words: str, program: Path, live: RunFolder) -> None:
    result = call(program, words)
    assert result.exit_code == 0, result.output


@posix_only
@pytest.mark.parametrize("live", ["0"], indirect=True)
def test_unsloth_is_given_the_emptiest_gpu_that_nobody_has(program: Path, live: RunFolder) -> None:
    result = call(program, "train unsloth.yaml --dry-run")
    assert (result.exit_code, f"{VISIBLE}=1 " in result.stdout) == (0, True), result.output


@posix_only
def test_a_run_that_is_written_down_and_not_yet_started_has_its_gpus(program: Path) -> None:
    config = RunConfig({"output_dir": "saves/a"}, "")
    run = prepare_llamafactory(program, "train", config, Path("runs/a"), {VISIBLE: "2"})
    assert json.loads(run.plan.read_text(encoding="utf-8"))["gpus"] == ["2"]
    # A queued run is its launcher's: here it is this process, and a queued run of an ended one is nobody's.
    assert list_claims() == []
    plan = json.loads(run.plan.read_text(encoding="utf-8"))
    plan["launcher"] = {"pid": os.getppid(), "identity": identify(os.getppid())}
    run.plan.write_text(json.dumps(plan), encoding="utf-8")
    assert [claim.gpus for claim in list_claims()] == [("2",)]
    with pytest.raises(OutputError, match="GPU 2 is in use by 'a'"):
        refuse_taken(draft_batch("b", {}, ("0", "2"), 1))


def identify(pid: int) -> str | None:
    from launch.runs.identity import identify_process

    return identify_process(pid)


@posix_only
@pytest.mark.parametrize("live", ["1"], indirect=True)
def test_a_run_of_an_earlier_version_still_tells_the_gpus_it_was_given(program: Path, live: RunFolder) -> None:
    plan = json.loads(live.plan.read_text(encoding="utf-8"))
    del plan["gpus"]
    live.plan.write_text(json.dumps(plan), encoding="utf-8")
    assert [claim.gpus for claim in list_claims()] == [("1",)]
