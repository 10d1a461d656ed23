"""LlamaBoard's files: read as it reads them, merged and never clobbered, and without secrets."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.configs.config import RunConfig
from launch.llamaboard.convert import import_settings
from launch.llamaboard.fields import EXTRA_ARGS, FIELDS, MODEL_NAME, MODEL_PATH
from launch.llamaboard.files import (
    find_model_path,
    find_secrets,
    format_settings,
    merge_user_config,
    plan_user_config,
    read_settings,
    scrub_secrets,
    write_run_settings,
    write_settings,
)
from launch.results.webui_runs import list_webui_runs
from launch.runs.run import run_llamafactory
from prep.errors import ConfigError, OutputError
from tests.launch.llamaboard.test_page import BASE

PAGE = {MODEL_NAME: "tiny-qwen3", MODEL_PATH: "models/tiny-qwen3"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "llamaboard_cache"
    folder.mkdir()
    return folder


def remember(folder: Path, text: str) -> dict[str, Any]:
    """Merge the page into a user_config.yaml with this text, and return what it is then."""
    (folder / "user_config.yaml").write_text(text, encoding="utf-8")
    merge_user_config(folder, "zh", PAGE)
    merged: dict[str, Any] = yaml.safe_load((folder / "user_config.yaml").read_text(encoding="utf-8"))
    return merged


@pytest.mark.parametrize("text", ["", "\n", "lang: en\n", "lang: en\npath_dict: null\n"])
def test_an_incomplete_user_config_gets_every_key_that_llamaboard_needs(cache: Path, text: str) -> None:
    assert remember(cache, text) == {
        "lang": "zh",
        "hub_name": None,
        "last_model": "Custom",
        "path_dict": {"tiny-qwen3": "models/tiny-qwen3", "Custom": "models/tiny-qwen3"},
        "cache_dir": None,
    }


def test_what_the_user_config_says_already_stays(cache: Path) -> None:
    known = {
        "lang": "en",
        "hub_name": "modelscope",
        "last_model": "Qwen3-8B-Thinking",
        "path_dict": {"Qwen3-8B-Thinking": "/models/8b", "Custom": "/models/mine"},
        "cache_dir": "/cache",
        "later_key": 1,
    }
    merged = remember(cache, yaml.safe_dump(known))
    assert merged == {**known, "lang": "zh", "path_dict": {**known["path_dict"], "tiny-qwen3": "models/tiny-qwen3"}}  # type: ignore[dict-item]


def test_windows_backslashes_in_double_quotes_are_refused_and_left_alone(cache: Path) -> None:
    path = cache / "user_config.yaml"
    text = 'lang: en\npath_dict:\n  Custom: "C:\\models\\qwen"\n'
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"user_config\.yaml line 3 column 15: found unknown escape") as refused:
        merge_user_config(cache, "zh", PAGE)
    assert refused.value.hint == "fix it or delete the file; a Windows path needs single quotes"
    assert path.read_text(encoding="utf-8") == text


def test_planning_writes_nothing(cache: Path) -> None:
    assert plan_user_config(cache, "zh", PAGE)["lang"] == "zh"
    assert list(cache.iterdir()) == []


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_broken_yaml_is_shown_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "llamaboard_config/x.yaml", "top.lang: zh\ntrain.dataset: [a\n")
    with pytest.raises(ConfigError, match=r"x\.yaml line 3 column 1: "):
        read_settings(path)


def test_every_fault_of_saved_settings_is_told_with_its_line(tmp_path: Path) -> None:
    text = "top.finetuning_type: lora\ntop.hub_name: huggingface\ntrain.packing: 'false'\n"
    path = write(tmp_path / "llamaboard_config/x.yaml", text)
    with pytest.raises(ConfigError) as refused:
        read_settings(path)
    said = str(refused.value)
    assert "x.yaml:2:1: error: `top.hub_name` the page has no such field: nothing of the file loads" in said
    assert "x.yaml:3:1: error: `train.packing` is 'false', allowed is true or false, without quotes" in said


def test_a_learning_rate_as_llamaboard_writes_it_is_text(tmp_path: Path) -> None:
    path = write(tmp_path / "x.yaml", yaml.safe_dump({"train.learning_rate": "2e-4"}))
    assert read_settings(path) == {"train.learning_rate": "2e-4"}


def test_settings_that_the_user_saved_are_not_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "llamaboard_config/x.yaml", "train.lora_rank: 8\n")
    with pytest.raises(OutputError, match="holds settings that were saved on the page"):
        write_settings(path, "# Written by lfc\n", force=False)
    assert path.read_text(encoding="utf-8") == "train.lora_rank: 8\n"
    write_settings(path, format_settings(PAGE, "a.yaml"), force=True)
    write_settings(path, format_settings(PAGE, "b.yaml"), force=False)
    assert path.read_text(encoding="utf-8").startswith("# Written by lfc from b.yaml\n")


def test_a_terminal_run_gets_all_87_settings_beside_it(tmp_path: Path) -> None:
    path = write_run_settings({**BASE, "swanlab_api_key": "secret"})
    assert path == Path("saves/tiny-qwen3/lora/run/llamaboard_config.yaml")
    settings = read_settings(tmp_path / path)
    assert set(settings) == set(FIELDS)
    assert "secret" not in path.read_text(encoding="utf-8")
    assert write_run_settings({**BASE, "do_train": False}) is None


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for llamafactory-cli is a script")
def test_a_training_in_the_terminal_leaves_its_settings_for_the_page(tmp_path: Path) -> None:
    stand_in = write(tmp_path / "bin/llamafactory-cli", "#!/bin/sh\nexit 0\n")
    stand_in.chmod(0o755)
    run_llamafactory(stand_in, "train", RunConfig(dict(BASE), yaml.safe_dump(BASE)), Path("runs/mine"))
    settings = read_settings(Path(str(BASE["output_dir"])) / "llamaboard_config.yaml")
    assert (settings[MODEL_NAME], settings["train.dataset"]) == ("tiny-qwen3", ["medical"])


def save_run(folder: Path, *, steps: int, total: int, is_done: bool) -> None:
    write(folder / "training_args.yaml", yaml.safe_dump({**BASE, "output_dir": folder.as_posix()}))
    entry = {"current_steps": steps, "total_steps": total}
    write(folder / "trainer_log.jsonl", json.dumps(entry) + "\n")
    if is_done:
        write(folder / "all_results.json", json.dumps({"train_runtime": 12.5}))


def test_runs_of_the_page_are_listed_with_their_state(tmp_path: Path) -> None:
    saves = tmp_path / "saves"
    save_run(saves / "m/lora/finished", steps=4, total=4, is_done=True)
    save_run(saves / "m/lora/stopped", steps=2, total=4, is_done=True)
    save_run(saves / "m/lora/running", steps=2, total=4, is_done=False)
    save_run(saves / "m/lora/lost", steps=2, total=4, is_done=False)
    for path in (saves / "m/lora/lost").iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    write(saves / "m/lora/terminal/llamaboard_config.yaml", "train.lora_rank: 8\n")
    runs = {run.path.name: run for run in list_webui_runs(saves)}
    states = {name: run.state for name, run in runs.items()}
    assert states == {name: name for name in ("finished", "stopped", "running", "lost")}
    assert (runs["finished"].name, runs["finished"].seconds) == ("m/lora/finished", 12.5)
    assert runs["finished"].values["dataset"] == "medical"
    assert runs["lost"].started_at == "2001-09-09T01:46:40+00:00"


def test_secrets_in_saved_settings_are_found_and_scrubbed(tmp_path: Path) -> None:
    text = yaml.safe_dump({"train.swanlab_api_key": "k1", EXTRA_ARGS: '{"hf_hub_token": "k2", "seed": 1}'})
    path = write(tmp_path / "llamaboard_config/x.yaml", text)
    run = write(tmp_path / "saves/m/lora/r/training_args.yaml", "swanlab_api_key: k3\nmax_new_tokens: 5\n")
    found = find_secrets(tmp_path)
    assert found == {path: ["train.swanlab_api_key", "hf_hub_token"], run: ["swanlab_api_key"]}
    for place in found:
        scrub_secrets(place)
    assert find_secrets(tmp_path) == {}
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {
        "train.swanlab_api_key": "",
        EXTRA_ARGS: '{"seed": 1}',
    }
    assert yaml.safe_load(run.read_text(encoding="utf-8")) == {"swanlab_api_key": "", "max_new_tokens": 5}


def test_the_model_of_a_saved_page_is_found_where_llamaboard_keeps_it(tmp_path: Path, cache: Path) -> None:
    merge_user_config(cache, None, PAGE)
    page = {MODEL_NAME: "tiny-qwen3"}
    assert find_model_path(tmp_path / "llamaboard_config/x.yaml", page) == "models/tiny-qwen3"
    assert find_model_path(tmp_path / "llamaboard_config/x.yaml", {MODEL_NAME: "other"}) is None
    write(tmp_path / "saves/m/lora/r/training_args.yaml", "model_name_or_path: models/other\n")
    assert find_model_path(tmp_path / "saves/m/lora/r/llamaboard_config.yaml", page) == "models/other"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]\n", "the alias stands inside what it stands for"),
        ("a: &a {b: *a}\n", "the alias stands inside what it stands for"),
        (
            "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'])}]\n" for n in range(9)),
            "holds more than 10,000 values once its aliases are written out",
        ),
        ("[" * 50_000, "is nested deeper than 64 levels"),
        ("a: " + "x" * 4_000_000, "is larger than 1 MiB"),
        ("a: 2026-99-99\n", "the page has no such field"),
        ("\x1b: 1\n", r"character U\+001B at position 1 is not allowed in YAML"),
    ],
)
def test_saved_settings_without_an_end_are_one_error(tmp_path: Path, text: str, said: str) -> None:
    Path("page.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_settings(Path("page.yaml"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.swanlab_api_key", "canary-0123"),
        ("train.extra_args", '{"hub_token": "canary-0123"}'),
        ("train.extra_args", '{"ray_init_kwargs": {"_redis_password": "canary-0123"}}'),
        ("hf_hub_token", "canary-0123"),
        ("swanlab_lark_webhook_url", "https://open.feishu.cn/open-apis/bot/v2/hook/canary-0123"),
        ("ray_storage_path", "s3://user:canary-0123@bucket"),
    ],
)
def test_a_secret_is_found_and_scrubbed_wherever_it_stands(key: str, value: str) -> None:
    folder = Path("llamaboard_config")
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml.safe_dump({key: value, "train.lora_rank": 8}), encoding="utf-8")
    assert list(find_secrets(Path())) == [folder / "a.yaml"]
    scrub_secrets(folder / "a.yaml")
    assert "canary" not in (folder / "a.yaml").read_text(encoding="utf-8")
    assert "lora_rank" in (folder / "a.yaml").read_text(encoding="utf-8")


def test_broken_extra_arguments_are_told_without_the_secret_in_them() -> None:
    Path("page.yaml").write_text(yaml.safe_dump({EXTRA_ARGS: '{"hub_token": "canary-0123"'}), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        import_settings(Path("page.yaml"), {"model_name_or_path": "m"})
    assert "canary" not in str(caught.value)
