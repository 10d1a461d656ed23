"""Secrets through every launch command: in no output, and in no file that others can read."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.configs.private import read_secrets, restore_secrets, split_secrets, write_config_text, write_private
from launch.runs.batch_plan import read_batch
from prep.errors import ConfigError, OutputError
from tests.launch.llamaboard.test_page import BASE
from tests.launch.webui.test_datasets import describe, write_registry, write_rows
from tests.support.lfc_process import find_leaks, run_lfc, write_recorder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX modes")

_KEYS = (
    *("hf_hub_token", "ms_hub_token", "om_hub_token", "hub_token", "swanlab_api_key", "swanlab_lark_secret"),
    *("swanlab_lark_webhook_url", "ray_redis_password", "cache_dir", "default_system"),
)
SECRETS = {name: f"canary-{name}-0123456789" for name in _KEYS}
_VARIABLES = ("HF_TOKEN", "WANDB_API_KEY", "MODELSCOPE_API_TOKEN", "HF_ENDPOINT", "WANDB_BASE_URL", "HTTPS_PROXY")
VARIABLE_SECRETS = {name: f"canary-{name}-0123456789" for name in _VARIABLES}
ALL = {**SECRETS, **VARIABLE_SECRETS}
ENVIRON = {
    # What plays LLaMA-Factory here is a program, and no package.
    "LFC_PLAIN_EVAL": "1",
    **{name: text for name, text in VARIABLE_SECRETS.items() if name.endswith(("TOKEN", "KEY"))},
    "HF_ENDPOINT": f"https://user:{VARIABLE_SECRETS['HF_ENDPOINT']}@127.0.0.1:9",
    "WANDB_BASE_URL": f"https://127.0.0.1:9/?api_key={VARIABLE_SECRETS['WANDB_BASE_URL']}",
    "HTTPS_PROXY": f"http://user:{VARIABLE_SECRETS['HTTPS_PROXY']}@127.0.0.1:9",
}
CONFIG: dict[str, Any] = {
    **BASE,
    **{key: SECRETS[key] for key in _KEYS[:6]},
    "swanlab_lark_webhook_url": f"https://open.feishu.cn/open-apis/bot/v2/hook/{SECRETS['swanlab_lark_webhook_url']}",
    "ray_init_kwargs": {"_redis_password": SECRETS["ray_redis_password"]},
    "cache_dir": f"s3://user:{SECRETS['cache_dir']}@bucket/runs",
    "default_system": f"You may call https://127.0.0.1/?access_token={SECRETS['default_system']}",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder whose private config holds every secret; what is found in it at the end is a leak."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "medical.jsonl")
    write_rows(tmp_path / "data" / "held_out.jsonl", rows=3)
    write_registry(
        tmp_path / "data", {"medical": describe("medical.jsonl"), "held_out": describe("held_out.jsonl")}
    )
    write_private(tmp_path / "configs" / "mine.yaml", yaml.safe_dump(CONFIG))
    write_private(
        tmp_path / "configs" / "other.yaml", yaml.safe_dump({**CONFIG, "hub_token": "another-0123456789"})
    )
    chat = {"model_name_or_path": BASE["model_name_or_path"], "template": "qwen3"}
    (tmp_path / "configs" / "chat.yaml").write_text(yaml.safe_dump(chat), encoding="utf-8")
    export = {**chat, "export_dir": "models/merged"}
    (tmp_path / "configs" / "export.yaml").write_text(yaml.safe_dump(export), encoding="utf-8")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        path = tmp_path / str(BASE["model_name_or_path"]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (2).to_bytes(8, "little") if path.suffix == ".safetensors" else b""
        path.write_bytes(size + b"{}")
    write_recorder(tmp_path)
    yield tmp_path
    assert find_leaks(tmp_path, ALL) == []


def lfc(*argv: str, code: int = 0) -> bytes:
    """Run a command with all secrets in its environment; its output, which holds none."""
    env = {**ENVIRON, "LFC_LLAMAFACTORY_CLI": str(Path("bin/llamafactory-cli").absolute())}
    result = run_lfc(Path(), *argv, env=env)
    said = result.stdout + result.stderr
    assert [name for name, text in ALL.items() if text.encode() in said] == [], said.decode()
    assert b"Traceback" not in said, said.decode()
    assert result.returncode == code, said.decode()
    return said


def train(*more: str, code: int = 0) -> bytes:
    return lfc("launch", "train", "configs/mine.yaml", "--no-check", *more, code=code)


def test_a_training_and_all_that_tells_of_it_shows_no_secret(folder: Path) -> None:
    train("--json")
    train("output_dir=saves/b", "hub_token=another-0123456789", "--name", "other")
    lfc("launch", "report", "mine")
    lfc("launch", "logs", "mine")
    lfc("launch", "attach", "mine")
    for more in ([], ["--json"]):
        lfc("launch", "runs", *more)
        lfc("launch", "compare", "mine", "other", *more)
    assert b"hub_token" not in lfc("launch", "compare", "mine", "other")


def test_the_child_gets_the_real_secrets_in_a_file_of_its_owner_alone(folder: Path) -> None:
    train()
    config = folder / "runs" / "mine" / "config.yaml"
    assert yaml.safe_load(config.read_text(encoding="utf-8")) == CONFIG
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    log = folder / "runs" / "mine" / "log.txt"
    assert SECRETS["hub_token"] in log.read_text(encoding="utf-8")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    values = json.loads((folder / "runs" / "mine" / "run.json").read_text(encoding="utf-8"))["values"]
    assert values["hub_token"] == "***"
    assert values["ray_init_kwargs"] == {"_redis_password": "***"}
    assert values["cache_dir"] == "s3://***@bucket/runs"
    assert values["model_name_or_path"] == CONFIG["model_name_or_path"]


def test_a_failed_training_tells_its_cause_without_the_secrets_in_it(folder: Path) -> None:
    said = train("seed=13", code=3)
    assert b"ValueError: refused" in said
    assert b"***" in said
    lfc("launch", "attach", "mine", code=3)
    lfc("launch", "report", "mine")


def test_a_secret_given_on_the_command_line_is_not_repeated(folder: Path) -> None:
    train("hf_hub_token=canary-hf_hub_token-0123456789", "--name", "again")
    for action in ("train", "chat", "export"):
        config = "configs/mine.yaml" if action == "train" else f"configs/{action}.yaml"
        pair = "hf_hub_token=canary-hf_hub_token-0123456789"
        lfc("launch", action, config, pair, "--dry-run", "--no-check")
    lfc("launch", "train", "configs/mine.yaml", "--nnodes", "hub_token=canary-hub_token-0123456789", code=2)
    lfc("launch", "compare", "a", "b", "hub_token=canary-hub_token-0123456789", code=2)


def test_a_chat_gets_a_secret_of_the_command_line_by_a_file_that_goes(folder: Path) -> None:
    program = folder / "bin" / "llamafactory-cli"
    program.write_text(
        '#!/bin/sh\nstat -c %a "$2"; grep -c canary-hf_hub_token "$2"; case "$*" in *canary*) exit 9;; esac\necho "$2" > told\n',
        encoding="utf-8",
    )
    said = lfc("launch", "chat", "configs/chat.yaml", "--no-check", "hf_hub_token=canary-hf_hub_token-0123456789")
    assert said.split() == [b"600", b"1"]
    assert not Path(Path("told").read_text(encoding="utf-8").strip()).exists()


def test_a_batch_shows_none_and_retries_with_the_real_ones(folder: Path) -> None:
    sweep = {"config": "configs/mine.yaml", "grid": {"lora_rank": [4, 8]}, "set": {"seed": 13}}
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    lfc("launch", "batch", "sweep.yaml", "--no-check", "--dry-run", "--json")
    lfc("launch", "batch", "sweep.yaml", "--no-check", "--json", code=1)
    lfc("launch", "batch", "--continue", "sweep", "--no-check", code=1)
    lfc("launch", "report", "sweep")
    for run in read_batch("sweep").runs:
        assert {key: run.values[key] for key in _KEYS[:6]} == {key: CONFIG[key] for key in _KEYS[:6]}
    for config in Path("runs/sweep").glob("*/config.yaml"):
        assert yaml.safe_load(config.read_text(encoding="utf-8"))["ray_init_kwargs"] == CONFIG["ray_init_kwargs"]
    assert stat.S_IMODE(Path("runs/sweep/secrets.json").stat().st_mode) == 0o600


def test_a_sweep_over_a_secret_does_not_name_its_runs_by_it(folder: Path) -> None:
    grid = {"hub_token": [SECRETS["hub_token"]], "lora_rank": [4, 8]}
    write_private(Path("sweep.yaml"), yaml.safe_dump({"config": "configs/mine.yaml", "grid": grid}))
    said = lfc("launch", "batch", "sweep.yaml", "--no-check", "--dry-run")
    assert b"lora_rank-4" in said


def test_an_evaluation_shows_none(folder: Path) -> None:
    train()
    argv = ("launch", "eval", "configs/mine.yaml", "--eval-dataset", "held_out")
    lfc(*argv, "hf_hub_token=canary-hf_hub_token-0123456789")
    lfc("launch", "runs", "--json")
    lfc("launch", "report", "mine")


def test_configs_are_checked_compared_and_written_without_showing_any(folder: Path) -> None:
    lfc("launch", "config", "check", "configs/mine.yaml", "--strict", code=1)
    lfc("launch", "config", "check", "configs/mine.yaml", "--json")
    lfc("launch", "config", "diff", "configs/mine.yaml", "configs/other.yaml")
    assert b"***" in lfc("launch", "config", "diff", "configs/mine.yaml", "configs/other.yaml", "--json")
    Path("configs/none.yaml").write_text("seed: 1\n", encoding="utf-8")
    told = json.loads(lfc("launch", "config", "diff", "configs/none.yaml", "configs/mine.yaml", "--json"))
    assert told["differing"]["hub_token"] == [None, "***"]
    assert "hub_token" in told["only_in_b"]
    pair = "hub_token=canary-hub_token-0123456789"
    lfc("launch", "config", "new", "cpu-smoke", "dataset=medical", pair, "-o", "configs/new.yaml", "--json")
    assert stat.S_IMODE(Path("configs/new.yaml").stat().st_mode) == 0o600
    assert yaml.safe_load(Path("configs/new.yaml").read_text(encoding="utf-8"))["hub_token"] == SECRETS["hub_token"]


def test_llamaboards_files_hold_none(folder: Path) -> None:
    lfc("launch", "webui", "configs/mine.yaml", "--dry-run")
    lfc("launch", "config", "export", "configs/mine.yaml", "-o", "llamaboard_config/mine.yaml", "--json")
    train()
    assert Path(str(CONFIG["output_dir"]), "llamaboard_config.yaml").is_file()


def test_imported_settings_show_none_and_keep_them_for_their_owner_alone(folder: Path) -> None:
    lfc("launch", "config", "export", "configs/mine.yaml", "-o", "llamaboard_config/mine.yaml")
    page = yaml.safe_load(Path("llamaboard_config/mine.yaml").read_text(encoding="utf-8"))
    page["train.use_swanlab"] = True
    page["train.swanlab_api_key"] = SECRETS["swanlab_api_key"]
    page["train.extra_args"] = json.dumps({"hub_token": SECRETS["hub_token"]})
    write_private(Path("llamaboard_config/mine.yaml"), yaml.safe_dump(page))
    argv = ("launch", "config", "import", "llamaboard_config/mine.yaml", "--json", "-o")
    assert b"is a secret and is left out" in lfc(*argv, "configs/left-out.yaml")
    lfc(*argv, "configs/kept.yaml", "--keep-secrets")
    kept = yaml.safe_load(Path("configs/kept.yaml").read_text(encoding="utf-8"))
    assert (kept["swanlab_api_key"], kept["hub_token"]) == (SECRETS["swanlab_api_key"], SECRETS["hub_token"])


def test_a_run_of_an_earlier_lfc_shows_none_either(folder: Path) -> None:
    run = folder / "runs" / "old"
    for name, content in (
        ("run.json", {"action": "train", "values": CONFIG, "argv": ["x"]}),
        ("result.json", {"exit_code": 0}),
    ):
        write_private(run / name, json.dumps(content))
    write_private(run / "command.txt", f"llamafactory-cli train x.yaml hub_token={SECRETS['hub_token']}")
    lfc("launch", "report", "old")
    lfc("launch", "runs", "--json")


def test_a_comment_with_a_token_makes_a_config_private(tmp_path: Path) -> None:
    write_config_text(tmp_path / "a.yaml", "# hub_token: abc\nseed: 1\n", {"seed": 1})
    write_config_text(tmp_path / "b.yaml", "# max_new_tokens: 5\nseed: 1\n", {"seed": 1})
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 for name in ("a.yaml", "b.yaml")]
    assert modes[0] == 0
    assert modes[1] != 0


def test_a_private_file_replaces_an_open_one_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept", encoding="utf-8")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_private(tmp_path / "a", "secret")
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "kept"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "victim"]


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        write_private(tmp_path / "file" / "a", "secret")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}', "[" * 100_000])
def test_kept_secrets_that_cannot_be_read_are_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "secrets.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"secrets\.json (cannot be read|does not hold)"):
        read_secrets(tmp_path)


def test_secrets_come_back_where_nothing_else_was_changed() -> None:
    shown, real = split_secrets({"hub_token": "a", "ray_init_kwargs": {"password": "b"}, "seed": 1})
    assert (shown["hub_token"], sorted(real)) == ("***", ["hub_token", "ray_init_kwargs"])
    assert restore_secrets({**shown, "seed": 2}, real) == {
        "hub_token": "a",
        "ray_init_kwargs": {"password": "b"},
        "seed": 2,
    }
    assert restore_secrets({"hub_token": "new"}, real) == {"hub_token": "new"}
