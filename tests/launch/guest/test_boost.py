"""The boosted training is the same training: the real LLaMA-Factory, a tiny model, float32 on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.guest import boost
from tests.support.boost_variants import BASE, VARIANTS, write_data, write_models
from tests.support.warm_stack import stack_python

ROOT = Path(__file__).resolve().parents[3]
boostable: Any = boost.boostable
# Relative; float32 sums in another order.
SAME = 1e-5
# Run always: together they cover every place where a batch without padding could differ.
QUICK = ("accumulation", "batch of one", "mask_history", "train_on_prompt", "full", "pt", "evaluation", "cut rows")


def run(program: Path, *arguments: str, cwd: Path) -> Any:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [stack_python(), str(program), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, warm_cli: None
) -> dict[str, dict[str, Any]]:
    """What each variant showed; all are trained in one process."""
    folder = tmp_path_factory.mktemp("variants")
    names = list(VARIANTS) if request.config.getoption("--full") else list(QUICK)
    finished = run(ROOT / "tests" / "support" / "boost_variants.py", str(folder), *names, cwd=folder)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_cli: None) -> Path:
    """A folder with data, their registration and a tiny Qwen3."""
    folder = tmp_path_factory.mktemp("boost")
    write_data(folder)
    write_models(folder, set())
    return folder


def write_config(folder: Path, **changes: Any) -> Path:
    settings = {**BASE, "dataset_dir": str(folder), "output_dir": str(folder / "out"), **changes}
    settings["model_name_or_path"] = str(folder / "qwen3")
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    return config


@pytest.mark.stack
@pytest.mark.parametrize("name", VARIANTS)
def test_losses_gradients_and_weights_are_those_of_the_plain_training(
    results: dict[str, dict[str, Any]], name: str
) -> None:
    if name not in results:
        pytest.skip("only with --full")
    result = results[name]
    assert (result["exit code"], result["report"]["active"], result["report"]["reason"]) == (0, True, None)
    assert max(result[kind] for kind in ("loss", "gradient", "weights", "eval")) <= SAME
    assert result["rates"], "the number of batches or the learning rates differ"
    assert result["steps"] == (VARIANTS[name].get("max_steps") or BASE["max_steps"])
    assert all(entry["difference"] <= SAME for entry in result["report"]["selfcheck"])


@pytest.mark.stack
def test_evaluation_stays_as_it_is_and_takes_place(results: dict[str, dict[str, Any]]) -> None:
    # At step 2 of 3, and at the end.
    assert results["evaluation"]["evaluations"] == 2
    assert results["evaluation"]["eval"] <= SAME


@pytest.mark.stack
def test_checkpointing_is_off_when_that_is_asked_for(results: dict[str, dict[str, Any]]) -> None:
    if "checkpointing" not in results:
        pytest.skip("only with --full")
    assert results["checkpointing"]["report"]["has_checkpointing"] is False


# The ways in which a changed library could break the batches: a program of its own each, since boost.py then starts
# LLaMA-Factory anew in the same process.
BREAK = """
import sys
from launch.guest import boost

flatten, part = boost.padding_free.flatten, sys.argv.pop(1)

def broken(batch, *, for_unsloth):
    flat = flatten(batch, for_unsloth=for_unsloth)
    if part == "position_ids":
        flat["position_ids"] = flat["position_ids"] * 2
    if part == "cu_seq_lens_q":
        flat["cu_seq_lens_q"] = flat["cu_seq_lens_q"][[0, -1]]
        flat["max_length_q"] = int(flat["cu_seq_lens_q"][-1])
    if part == "labels":
        flat["labels"] = flat["labels"].roll(1)
    return flat

boost.padding_free.flatten = broken
sys.exit(boost.main(sys.argv[1:]))
"""


@pytest.mark.stack
@pytest.mark.parametrize("part", ["position_ids", "cu_seq_lens_q", "labels"])
def test_a_broken_batch_is_found_and_llamafactory_starts_anew_without_it(
    folder: Path, part: str, request: pytest.FixtureRequest
) -> None:
    if part != "cu_seq_lens_q" and not request.config.getoption("--full"):
        pytest.skip("only with --full")
    program = folder / "break.py"
    program.write_text(BREAK, encoding="utf-8")
    config = write_config(folder, output_dir=str(folder / part))
    finished = run(program, part, str(config), "max_steps=2", cwd=folder)
    report = json.loads((folder / part / "boost.json").read_text(encoding="utf-8"))
    assert report["active"] is False
    assert report["reason"].startswith("a batch's loss differs by ")
    assert "boost off, LLaMA-Factory starts anew without it: a batch's loss differs by " in finished.stderr
    # The training itself took place, as asked for on the command line.
    assert finished.returncode == 0, finished.stderr[-3000:]
    log = (folder / part / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(log[-1])["total_steps"] == 2


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stage": ({"stage": "dpo"}, "stage: dpo pairs its rows; only sft and pt can be boosted"),
    "packing": (
        {"packing": True},
        "packing: true leaves no padding to save, and is another training than packing: false",
    ),
    "pt packs by default": (
        {"stage": "pt", "packing": None},
        "packing: true (the default of stage pt) leaves no padding to save, and is another training than packing: false",
    ),
    "neat_packing": (
        {"neat_packing": True},
        "packing: true leaves no padding to save, and is another training than packing: false",
    ),
    "flash_attn": (
        {"flash_attn": "fa2"},
        "flash_attn asks for another attention; leave it out, or set auto or sdpa",
    ),
    "no attention kernel": (
        {"flash_attn": "disabled"},
        "flash_attn asks for another attention; leave it out, or set auto or sdpa",
    ),
    "noise": (
        {"neftune_noise_alpha": 5},
        "neftune_noise_alpha scales its noise by the padded length: without padding it is another training",
    ),
    "loss": ({"use_dft_loss": True}, "use_dft_loss: true was never seen boosted"),
    "method": ({"finetuning_type": "oft"}, "finetuning_type: oft was never seen boosted"),
    "rope": ({"rope_scaling": "dynamic"}, "rope_scaling depends on how long a padded row is"),
    "long lora": ({"shift_attn": True}, "shift_attn was never seen boosted"),
    "smoothing": ({"label_smoothing_factor": 0.1}, "label_smoothing_factor was never seen boosted"),
    "batch size": (
        {"auto_find_batch_size": True},
        "auto_find_batch_size changes the training; set per_device_train_batch_size",
    ),
    "prediction": (
        {"do_train": False, "do_predict": True, "predict_with_generate": True, "eval_dataset": "rows"},
        "do_train is not set: there is nothing to boost",
    ),
}


# Parsed by LLaMA-Factory itself, all in one process; what it prints last is what would be refused.
ASK = """
import json, sys
from llamafactory.hparams import get_train_args
from launch.guest import boost

for line in open(sys.argv[1], encoding="utf-8"):
    try:
        arguments = get_train_args(json.loads(line))
        boost.boostable.check_arguments(*arguments[:4], compiled=False)
        print("ANSWER none")
    except boost.boostable.RefusedError as reason:
        print("ANSWER", reason)
"""


@pytest.mark.stack
def test_what_would_not_be_the_same_training_is_refused_with_the_reason(folder: Path) -> None:
    rows = [json.loads(write_config(folder, **changes).read_text()) for changes, _ in [({}, ""), *REFUSED.values()]]
    (folder / "configs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "ask.py").write_text(ASK, encoding="utf-8")
    finished = run(folder / "ask.py", str(folder / "configs.jsonl"), cwd=folder)
    answers = [line.partition(" ")[2] for line in finished.stdout.splitlines() if line.startswith("ANSWER ")]
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert answers == ["none", *(reason for _, reason in REFUSED.values())]


@pytest.mark.stack
def test_a_refused_run_ends_with_78_and_says_why_in_its_file(folder: Path) -> None:
    config = write_config(folder, packing=True)
    finished = run(Path(boost.__file__), "--report", str(folder / "told.json"), str(config), cwd=folder)
    reason = "packing: true leaves no padding to save, and is another training than packing: false"
    assert finished.returncode == boost.EXIT_REFUSED == 78
    assert finished.stderr.splitlines()[-1] == f"boost refused: {reason}"
    report = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    assert (report["active"], report["reason"]) == (False, reason)
    assert report["options"]["training"] == [str(config)]


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"USE_RAY": "1"}, "USE_RAY is set; only LLaMA-Factory's own engine in one process can be boosted"),
        ({"FORCE_TORCHRUN": "true"}, "FORCE_TORCHRUN is set; only LLaMA-Factory's own engine in one process can be boosted"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is above 1; only one process can be boosted"),
    ],
)  # fmt: skip
def test_other_engines_and_several_processes_are_refused(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(boostable.RefusedError, match="^" + reason):
        boostable.check_surroundings(environ)


def test_several_gpus_are_refused_with_the_variable_that_chooses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__="2.11.0"))
    with pytest.raises(boostable.RefusedError, match=r"^2 GPUs are visible; choose one with CUDA_VISIBLE_DEVICES$"):
        boostable.check_devices()


@pytest.mark.parametrize(
    ("capability", "version", "reason"),
    [
        ((7, 5), "2.14.1", "this GPU is older than Ampere"),
        ((9, 0), "2.10.1+cu130", "torch 2.10.1.cu130 has no varlen attention with a window, 2.11 has"),
    ],
)
def test_a_gpu_or_torch_without_the_attention_is_refused(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], version: str, reason: str
) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 1, get_device_capability=lambda: capability
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__=version))
    with pytest.raises(boostable.RefusedError, match="^" + reason):
        boostable.check_devices()


def test_a_version_that_was_never_seen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boostable.importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(boostable.RefusedError, match=r"^llamafactory 9\.9 was never seen boosted, 0\.9\.5 were$"):
        boostable.read_versions()


def test_a_wrong_call_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        boost.main(["--checkpointing", "perhaps", "config.yaml"])
    assert ended.value.code == 2
    assert "invalid choice: 'perhaps'" in capsys.readouterr().err
