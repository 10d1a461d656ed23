"""Tokens that were made before are trained on only by a config that would make the same; and made once for all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from launch.configs.config import RunConfig, check_values, format_config
from launch.configs.rules import Machine
from launch.runs.tokens import plan_tokens, use_tokens
from prep.quality.findings import Finding
from prep.tokenized.make import make_tokens
from prep.tokenized.settings import read_settings
from tests.support.token_rows import register_kind


@pytest.fixture
def values(qwen3_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A training config whose model and data lie in the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(qwen3_folder, "model")
    Path("model/config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    Path("data").mkdir()
    register_kind(Path("data"), "chat", "alpaca", 20)
    register_kind(Path("data"), "other", "alpaca", 20)
    return {
        **{"stage": "sft", "do_train": True, "model_name_or_path": "model", "dataset": "chat"},
        **{"dataset_dir": "data", "template": "qwen3", "cutoff_len": 300, "output_dir": "saves/a"},
    }


def judge(values: dict[str, Any]) -> list[Finding]:
    found = check_values(values, "train", Machine(), Path("a.yaml"))
    return [fault for fault in found if fault.rule == "tokens_fit_the_config"]


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "cutoff": ({"cutoff_len": 200}, "cutoff_len is 300, not 200"),
    "template": ({"template": "qwen3_nothink"}, 'template is "qwen3", not "qwen3_nothink"'),
    "thinking": ({"enable_thinking": None}, "enable_thinking is true, not null"),
    "history": ({"mask_history": True}, "mask_history is false, not true"),
    "packing": ({"packing": True}, "packing is false, not true"),
    "prompts": ({"train_on_prompt": True}, "train_on_prompt is false, not true"),
    "held out": ({"val_size": 0.1}, "val_size is 0.0, not 0.1"),
    "another dataset": ({"dataset": "other"}, "the rows of dataset changed"),
    "two datasets": ({"dataset": "chat,other"}, "dataset names other datasets"),
    "evaluation": ({"eval_dataset": "other"}, "eval_dataset names other datasets"),
    "stage": ({"stage": "pt", "template": None, "dataset": "text"}, 'stage is "sft", not "pt"'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tokens_of_other_keys_are_refused_with_what_differs(change: str, values: dict[str, Any]) -> None:
    register_kind(Path("data"), "text", "text", 5)
    made = make_tokens(read_settings(values), Path("tokens"))
    with_tokens = {**values, "tokenized_path": made.path.as_posix()}
    assert judge(with_tokens) == []
    changed, told = CHANGES[change]
    (fault,) = judge({**with_tokens, **changed})
    assert fault.is_error
    assert told in fault.message
    assert fault.fix.startswith("lfc prep tokenize --config a.yaml -o ANOTHER_FOLDER")


def test_rows_and_tokenizers_that_changed_since_are_seen(values: dict[str, Any]) -> None:
    values["tokenized_path"] = make_tokens(read_settings(values), Path("tokens")).path.as_posix()
    path = Path("data/chat.jsonl")
    before = path.read_bytes()
    path.write_bytes(before.replace(b"the", b"teh", 1))
    assert "the rows of dataset changed" in judge(values)[0].message
    path.write_bytes(before)
    assert judge(values) == []
    config = Path("model/tokenizer_config.json")
    config.write_text(config.read_text("utf-8").replace("<|im_end|>", "<|endoftext|>"), encoding="utf-8")
    assert "tokenizer changed" in judge(values)[0].message


def test_tokens_of_unknown_origin_and_torn_ones_are_refused(values: dict[str, Any]) -> None:
    values["tokenized_path"] = make_tokens(read_settings(values), Path("tokens")).path.as_posix()
    (data,) = Path("tokens/train").glob("*.arrow")
    whole, seen = data.read_bytes(), data.stat()
    data.write_bytes(whole[:-100])
    assert "is missing or torn" in judge(values)[0].message
    # Other tokens, under the old size and time.
    middle = len(whole) // 2
    data.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    os.utime(data, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert "tokens holds other tokens than were made" in judge(values)[0].message
    data.write_bytes(whole)
    assert judge(values) == []
    state = Path("tokens/train/state.json")
    state.write_text(state.read_text("utf-8").replace("train", "other"), encoding="utf-8")
    assert "holds other tokens" in judge(values)[0].message
    note = Path("tokens/lfc-tokens.json")
    content = json.loads(note.read_text("utf-8"))
    content["made_from"]["cutoff_len"] = 301
    note.write_text(json.dumps(content), encoding="utf-8")
    assert "is not a note of this version" in judge(values)[0].message
    note.unlink()
    (fault,) = judge(values)
    assert fault.is_error
    assert "nothing tells the origin of" in fault.message


def test_of_stages_whose_tokens_are_not_made_here_it_is_said_that_nothing_is_known(values: dict[str, Any]) -> None:
    Path("theirs").mkdir()
    Path("theirs/dataset_dict.json").write_text("{}", encoding="utf-8")
    (fault,) = judge({**values, "stage": "dpo", "tokenized_path": "theirs"})
    assert not fault.is_error
    assert "whether it fits is not known" in fault.message


def test_a_training_gets_tokens_that_are_made_once_and_the_next_takes_them(values: dict[str, Any]) -> None:
    text = "# mine\n" + format_config(values, header="a")
    config = RunConfig(values, text)
    assert plan_tokens(values).describe().startswith("tokens: made once, in data/.lfc/tokens/")
    first, plan = use_tokens(config)
    assert plan.folder is not None
    assert not plan.is_there
    assert first.values == {**values, "tokenized_path": plan.folder.as_posix()}
    assert first.text.startswith(text)
    assert first.text.endswith(f"tokenized_path: {plan.folder.as_posix()}\n")
    assert judge(first.values) == []
    slower = {**values, "learning_rate": 1e-5, "output_dir": "saves/b", "seed": 7}
    assert plan_tokens(slower).describe() == f"tokens: taken from {plan.folder.as_posix()}, which fits"
    second, again = use_tokens(RunConfig(slower, format_config(slower, header="b")))
    assert again.is_there
    assert second.values["tokenized_path"] == first.values["tokenized_path"]
    assert [path.name for path in Path("data/.lfc/tokens").iterdir() if path.name != ".lfc"] == [plan.folder.name]


def test_a_later_attempt_of_a_run_gets_the_tokens_of_the_rows_as_they_are_then(values: dict[str, Any]) -> None:
    first, _ = use_tokens(RunConfig(values, ""))
    with Path("data/chat.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(
            json.dumps({"instruction": "new", "input": "", "output": "row", "system": "", "history": []}) + "\n"
        )
    second, plan = use_tokens(first)
    assert second.values["tokenized_path"] != first.values["tokenized_path"]
    assert plan.folder is not None
    assert second.text.count("tokenized_path") == 2


def test_a_path_that_the_user_gave_is_made_there_and_never_anew(values: dict[str, Any]) -> None:
    values["tokenized_path"] = "mine"
    config = RunConfig(values, "text\n")
    used, plan = use_tokens(config)
    assert used == config
    assert plan.folder == Path("mine")
    assert Path("mine/dataset_dict.json").is_file()
    changed = RunConfig({**values, "cutoff_len": 100}, "")
    assert use_tokens(changed)[0] == changed
    assert "cutoff_len is 300, not 100" in judge(changed.values)[0].message


UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "stage": ({"stage": "dpo"}, "tokens are made once for stage sft and pt, not dpo"),
    "stream": ({"streaming": True}, "streaming: True reads its rows from a stream"),
    "generation": ({"predict_with_generate": True}, "predict_with_generate: True evaluates on prompts alone"),
    "model on a hub": (
        {"model_name_or_path": "Qwen/Qwen3-0.6B"},
        "the tokenizer of Qwen/Qwen3-0.6B is not on this disk",
    ),
    "interleaved": (
        {"dataset": "chat,other", "mix_strategy": "interleave_under"},
        "mix_strategy: interleave_under",
    ),
    "template": ({"template": "qwen2_audio_x"}, "the tokens of template 'qwen2_audio_x' are not known here"),
    "added tokens": ({"add_tokens": "<a>"}, "add_tokens: '<a>' adds tokens"),
    "no dataset": ({"dataset": None}, "the config trains on no dataset"),
    "an unknown dataset": ({"dataset": "nobody"}, "nobody"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_where_tokens_are_not_made_here_llamafactory_makes_them_and_that_is_said(
    case: str, values: dict[str, Any]
) -> None:
    change, told = UNSUPPORTED[case]
    config = RunConfig({**values, **change}, "text\n")
    used, plan = use_tokens(config)
    assert used == config
    assert plan == plan_tokens(config.values)
    assert plan.describe().startswith("tokens: made by LLaMA-Factory when it trains, because ")
    assert told in plan.reason
    assert not Path("data/.lfc/tokens").exists()


def test_several_machines_make_their_own(values: dict[str, Any]) -> None:
    config = RunConfig(values, "")
    assert use_tokens(config, machines=2) == (config, plan_tokens(values, machines=2))
