"""Publishing to hubs on this machine: what is sent, the card, and every way in which it may break off."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.publish import upload
from launch.publish.card import clean_config
from launch.publish.plan import is_hub_name
from tests.support.run_folders import write_run
from tests.support.upload_hubs import serve_uploads

TOKEN = "upload-t0ken"
SITES = ["modelscope", "huggingface"]
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hub(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUB_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "ms"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with serve_uploads(site) as running:
        yield running


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "saves" / "medical"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen3-4B", "r": 8}))
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (folder / "tokenizer_config.json").write_text("{}")
    for name in ("training_args.bin", "trainer_log.jsonl", "trainer_state.json", "README.md", "optimizer.pt"):
        (folder / name).write_text("not to be sent")
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "adapter_model.safetensors").write_bytes(b"older")
    return folder


def publish(hub: Any, site: str, source: Path, *more: str) -> Result:
    arguments = ["launch", "publish", str(source), "--to", site, "--repo", "me/medical", "--endpoint", hub.endpoint]
    return CliRunner().invoke(lfc, [*arguments, "--token-env", "HUB_TOKEN", *more])


def read_published(hub: Any, site: str, kind: str = "model") -> dict[str, bytes]:
    repositories = hub.sets if site == "huggingface" else hub.repositories
    commits = repositories[kind, "me/medical"].commits
    return {name: body.content for name, body in next(reversed(commits.values()), {}).items()}


def test_without_yes_the_files_and_the_card_are_shown_and_nothing_is_sent(
    hub: Any, site: str, adapter: Path
) -> None:
    result = publish(hub, site, adapter)
    assert result.exit_code == 0, result.output
    assert "adapter_model.safetensors" in result.output
    assert "base_model: Qwen/Qwen3-4B" in result.output
    assert "Nothing was sent; --yes publishes" in result.output
    assert hub.requests == []


def test_an_adapter_is_published_privately_with_its_card_and_nothing_else_of_its_folder(
    hub: Any, site: str, adapter: Path
) -> None:
    result = publish(hub, site, adapter, "--yes", "--json", "--license", "apache-2.0")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["private"] is True
    assert told["published"].startswith(hub.endpoint)
    files = read_published(hub, site)
    assert {name for name in files if not name.startswith(".git")} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer_config.json",
    }
    assert files["adapter_model.safetensors"] == WEIGHTS
    assert b"license: apache-2.0" in files["README.md"]
    # ModelScope's client asks for it again before it sends.
    assert hub.created[0].get("visibility") == "private" or hub.created[0].get("Visibility") == 1
    assert (adapter / "README.md").read_text() == "not to be sent"
    # Again: the same files, no fault.
    assert publish(hub, site, adapter, "--yes").exit_code == 0


@pytest.mark.parametrize(
    ("on", "fault"),
    [
        ("create", {"status": 401, "message": "who are you"}),
        ("create", {"status": 403, "message": "no right to write"}),
        ("create", {"status": 429, "message": "too many requests"}),
        ("create", {"status": 500, "message": "the hub is down"}),
        ("put", {"status": 403, "message": "storage refuses"}),
        ("commit", {"status": 400, "message": "commit refused"}),
        ("commit", {"status": 412, "message": "somebody else has committed"}),
    ],
)
def test_what_a_hub_refuses_is_told_and_nothing_counts_as_published(
    on: str, fault: dict[str, Any], hub: Any, site: str, adapter: Path
) -> None:
    hub.fail(on, **fault)
    result = publish(hub, site, adapter, "--yes")
    assert result.exit_code == 1
    assert "me/medical was not published: " in result.output
    assert TOKEN not in result.output
    repositories = hub.sets if site == "huggingface" else hub.repositories
    if ("model", "me/medical") in repositories:
        assert "adapter_model.safetensors" not in read_published(hub, site)
    hub.faults.clear()
    assert publish(hub, site, adapter, "--yes").exit_code == 0


def test_a_commit_that_the_hub_took_in_part_is_not_called_done(hub: Any, site: str, adapter: Path) -> None:
    hub.loses.add("adapter_model.safetensors")
    result = publish(hub, site, adapter, "--yes")
    assert result.exit_code == 1
    assert "me/medical is not whole on the hub: adapter_model.safetensors is missing there" in result.output
    assert "published:" not in result.output


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer_config.json"])
def test_a_file_that_changed_after_it_was_shown_is_not_called_published(
    hub: Any, site: str, adapter: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = upload.publish

    def change_and_send(*arguments: Any) -> str:
        (adapter / name).write_bytes((adapter / name).read_bytes()[::-1])
        return send(*arguments)

    monkeypatch.setattr(upload, "publish", change_and_send)
    result = publish(hub, site, adapter, "--yes")
    assert result.exit_code == 1, result.output
    assert "published:" not in result.output
    assert name in result.output or "was not published" in result.output
    monkeypatch.undo()


def test_a_wrong_token_is_told_without_it(
    hub: Any, site: str, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_TOKEN", "wrong-s3cret")
    result = publish(hub, site, adapter, "--yes")
    assert result.exit_code == 1
    assert "wrong-s3cret" not in result.output
    assert "was not published" in result.output


def test_what_is_private_is_not_sent_into_a_public_repository(hub: Any, site: str, adapter: Path) -> None:
    hub.add("me/medical", {"README.md": b"# public\n"}, repo_type="model")
    hub.public.add("me/medical")
    result = publish(hub, site, adapter, "--yes")
    assert result.exit_code == 1
    assert "me/medical is there already, and public" in result.output
    assert "adapter_model.safetensors" not in read_published(hub, site)


def test_a_dataset_is_published_with_what_its_manifest_tells(hub: Any, site: str, tmp_path: Path) -> None:
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"question": "q", "think": "t", "answer": "a"}\n', encoding="utf-8")
    made = CliRunner().invoke(lfc, ["prep", "convert", "in.jsonl", "-o", "data/medical.jsonl"])
    assert made.exit_code == 0, made.output
    result = publish(hub, site, Path("data/medical.jsonl"), "--yes")
    assert result.exit_code == 0, result.output
    files = read_published(hub, site, "dataset")
    assert files["medical.jsonl"] == Path("data/medical.jsonl").read_bytes()
    card = files["README.md"].decode()
    assert "| records | 1 |" in card
    assert str(tmp_path) not in card


def test_a_base_of_this_machine_gets_the_name_that_others_find(hub: Any, site: str, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/someone/models/q"}))
    assert "Warning: its base is a folder here" in publish(hub, site, adapter).output
    result = publish(hub, site, adapter, "--yes", "--base-model", "Qwen/Qwen3-4B")
    assert result.exit_code == 0, result.output
    files = read_published(hub, site)
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "Qwen/Qwen3-4B"
    assert b"someone" not in b"".join(files.values())


def test_the_card_tells_training_and_data_of_the_run_and_no_path_of_this_machine(
    hub: Any, site: str, adapter: Path, tmp_path: Path
) -> None:
    values = {
        "model_name_or_path": str(tmp_path / "models" / "base"),
        "output_dir": "saves/medical",
        "dataset": "medical",
        "dataset_dir": str(tmp_path / "data"),
        "learning_rate": 1e-4,
        "do_train": True,
        "hub_token": "hf_s3cret",
    }
    write_run(tmp_path / "runs" / "medical", values)
    card = json.loads(publish(hub, site, adapter, "--json").stdout)["card"]
    assert "learning_rate: 0.0001" in card
    assert "| medical |" in card
    assert str(tmp_path) not in card
    assert "s3cret" not in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repo", "medical"], "'medical' is no repository"),
        (["--repo", "a/../b"], "is no repository"),
        (["--public"], "what everybody sees needs a licence"),
        (["--token-env", "NOT_SET"], "the environment variable NOT_SET holds no token"),
    ],
)
def test_a_wrong_call_is_told_before_anything_is_sent(
    arguments: list[str], message: str, hub: Any, site: str, adapter: Path
) -> None:
    result = publish(hub, site, adapter, "--yes", *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert hub.requests == []


def test_a_folder_without_weights_is_nothing_to_publish(hub: Any, site: str, adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    assert "its weights are not there" in publish(hub, site, adapter).output
    assert "is neither an adapter" in publish(hub, site, tmp_path / "saves").output
    assert "does not exist" in publish(hub, site, tmp_path / "nowhere").output


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("Qwen/Qwen3-4B", True),
        ("models/x/y", False),
        ("/a/b", False),
        ("./a", False),
        ("base", False),
        (None, False),
    ],
)
def test_a_hub_name_is_owner_and_name(name: str | None, is_one: bool) -> None:
    assert is_hub_name(name) is is_one


def test_a_config_in_a_card_has_no_places_and_no_secrets() -> None:
    config = {
        "model_name_or_path": "D:\\models\\q",
        "deepspeed": "/opt/ds/z3.json",
        "output_dir": "x",
        "lora_rank": 8,
    }
    assert clean_config({**config, "swanlab_api_key": "k", "eval_dataset": ["../a/b"]}) == {
        "model_name_or_path": "q",
        "deepspeed": "z3.json",
        "lora_rank": 8,
        "eval_dataset": ["b"],
    }
