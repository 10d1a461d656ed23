"""The real WebUI in a real browser: filled in, trained from, restored, and stopped without losing anything."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from launch.cli import lfc
from launch.results.webui_runs import list_webui_runs
from tests.support.llamaboard_page import Page, needs_browser, open_page

ROOT = Path(__file__).parents[2]
# LlamaBoard's own words, in the language that the fixture asks for.
PREVIEW, START = "预览命令", "开始"
DONE, FAILED = "训练完毕", "训练出错"
SETTINGS = ("lora_rank=12", "lora_alpha=20", "cutoff_len=384", "learning_rate=0.002", "flash_attn=fa2", "seed=11")


@dataclass(frozen=True)
class Webui:
    """A WebUI that `lfc launch webui` started: its folder, its process, its address, the browser on it."""

    folder: Path
    process: subprocess.Popen[str]
    url: str
    page: Page


def run_lfc(folder: Path, *argv: str) -> str:
    command = [sys.executable, "-m", "launch", *argv]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def prepare_folder(folder: Path) -> None:
    """Convert and register the sample under two think policies, and make configs and a tiny model for them."""
    run_lfc(folder, "prep", "sample", "--to", "raw")
    for policy in ("tagged", "masked"):
        data = f"data/{policy}.jsonl"
        run_lfc(folder, "prep", "convert", "raw/r1_data_example.jsonl", "--think-policy", policy, "-o", data)
        run_lfc(folder, "prep", "register", data, "--name", policy, "--dataset-dir", "data")
    run_lfc(folder, "launch", "tiny-model", "data/tagged.jsonl", "--to", "models/tiny-qwen3")
    steps = {"tagged": ("max_steps=2",), "masked": ("max_steps=5000",)}
    for policy, more in steps.items():
        pairs = (f"dataset={policy}", "max_samples=8", f"output_dir=saves/tiny-qwen3/lora/{policy}", *more)
        run_lfc(folder, "launch", "config", "new", "cpu-smoke", *pairs, "-o", f"configs/{policy}.yaml")


@pytest.fixture(scope="module")
def webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """One WebUI for all tests of this file, opened on the tagged config; they use it one after the other."""
    folder = tmp_path_factory.mktemp("webui")
    prepare_folder(folder)
    with start_webui(folder, "tagged", *SETTINGS[:4], SETTINGS[5]) as (process, url), open_page() as page:
        page.open(url, until="模型名称")
        yield Webui(folder, process, url, page)


@pytest.fixture(scope="module")
def masked_webui(webui: Webui) -> Iterator[Webui]:
    """A second one in the same folder, opened on the masked config."""
    with start_webui(webui.folder, "masked", "save_steps=10") as (process, url), open_page() as page:
        page.open(url, until="模型名称")
        yield Webui(webui.folder, process, url, page)


@contextmanager
def start_webui(
    folder: Path, policy: str, *pairs: str, lang: str = "zh"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `lfc launch webui` on a policy's config, wait for the address that it prints, and end it afterwards.

    What it prints goes to `<policy>.out.txt` and `<policy>.err.txt`.
    """
    argv = ["launch", "webui", f"configs/{policy}.yaml", *pairs, "--lang", lang, "--no-browser"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with (folder / f"{policy}.err.txt").open("w") as err, (folder / f"{policy}.out.txt").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "launch", *argv], cwd=folder, env=env, stdout=out, stderr=err, text=True
        )
    try:
        yield process, wait_for_address(folder, policy, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


def wait_for_address(folder: Path, policy: str, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + 500
    while True:
        said = (folder / f"{policy}.out.txt").read_text(encoding="utf-8")
        found = re.search(r"^WebUI: (\S+)$", said, re.MULTILINE)
        if found:
            return found[1]
        assert process.poll() is None, (folder / f"{policy}.err.txt").read_text(encoding="utf-8")
        assert time.monotonic() < deadline, "the WebUI never answered"
        time.sleep(0.5)


pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("warm_cli"), needs_browser]


def test_the_page_shows_everything_of_the_yaml_without_a_click(webui: Webui) -> None:
    shown = webui.page.read()
    expected = {
        "语言": "zh",
        "模型名称": "tiny-qwen3",
        "模型路径": "models/tiny-qwen3",
        "对话模板": "qwen3",
        "数据集": ["tagged"],
        "LoRA 秩": "12",
        "LoRA 缩放系数": "20",
        "学习率": "0.002",
        "加速方式": "auto",
        "截断长度": "384",
        "计算类型": "fp32",
        "启用思考模式": True,
        "输出目录": "tagged",
        "配置路径": "tagged.yaml",
    }
    assert {label: shown[label] for label in expected} == expected
    assert (
        "Everything of llamaboard_config/tagged.yaml is filled in." in (webui.folder / "tagged.out.txt").read_text()
    )
    assert webui.page.count_errors() == 0


def test_the_chat_tab_has_the_sampling_of_the_trained_mode(webui: Webui) -> None:
    with urllib.request.urlopen(f"{webui.url}config") as answer:
        components = json.load(answer)["components"]
    sliders = {
        (entry["props"].get("minimum"), entry["props"].get("maximum")): entry["props"].get("value")
        for entry in components
        if entry["type"] == "slider"
    }
    # Most new tokens and temperature, told from others by their range.
    assert (sliders[8, 8192], sliders[0.01, 1.5]) == (8192, 0.6)


def test_the_page_would_run_what_the_yaml_runs(webui: Webui) -> None:
    command = webui.page.preview(PREVIEW)
    expected = {
        "model_name_or_path": "models/tiny-qwen3",
        "template": "qwen3",
        "dataset": "tagged",
        "cutoff_len": "384",
        "lora_rank": "12",
        "lora_alpha": "20",
        "learning_rate": "0.002",
        "enable_thinking": "True",
        "preprocessing_num_workers": "1",
        "max_steps": "2",
        "max_samples": "8",
        "seed": "11",
        "output_dir": "saves/tiny-qwen3/lora/tagged",
    }
    found = dict(re.findall(r"--(\w+) (.*?) *\\?$", command, re.MULTILINE))
    assert {key: found.get(key) for key in expected} == expected
    assert "bf16" not in found
    assert "trust_remote_code" not in found


def test_the_chosen_dataset_can_be_previewed_row_by_row(webui: Webui) -> None:
    webui.page.press("预览数据集")
    webui.page.wait(lambda: "history" in webui.page.text)
    assert "root=[" not in webui.page.text
    webui.page.press("关闭")


def test_a_training_started_on_the_page_ends_well_and_is_listed(webui: Webui) -> None:
    webui.page.press(START)
    webui.page.wait(lambda: DONE in webui.page.text or FAILED in webui.page.text, timeout_s=500)
    assert FAILED not in webui.page.text
    folder = webui.folder / "saves/tiny-qwen3/lora/tagged"
    assert (folder / "adapter_model.safetensors").stat().st_size > 0
    (run,) = json.loads(run_lfc(webui.folder, "launch", "runs", "--json"))["runs"]
    assert (run["name"], run["kind"], run["state"]) == ("tiny-qwen3/lora/tagged", "train", "finished")
    assert run["last_loss"] > 0
    assert run["flags"] == ["started in the WebUI"]
    assert [data["name"] for data in run["data"]] == ["tagged"]
    imported = webui.folder / "configs/again.yaml"
    run_lfc(webui.folder, "launch", "config", "import", str(folder / "llamaboard_config.yaml"), "-o", str(imported))
    values = yaml.safe_load(imported.read_text(encoding="utf-8"))
    # The page writes what it runs: our import of its settings says the same, argument by argument.
    ran = yaml.safe_load((folder / "training_args.yaml").read_text(encoding="utf-8"))
    assert values == ran


def test_a_terminal_run_restores_its_settings_without_an_error(webui: Webui) -> None:
    stand_in = webui.folder / "bin" / "llamafactory-cli"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!{sys.executable}\nimport pathlib, sys, yaml\n"
        "folder = pathlib.Path(yaml.safe_load(open(sys.argv[2], encoding='utf-8'))['output_dir'])\n"
        "(folder / 'checkpoint-1').mkdir(parents=True)\n"
        "(folder / 'adapter_model.safetensors').write_bytes(b'0')\n",
        encoding="utf-8",
    )
    stand_in.chmod(0o755)
    output = "output_dir=saves/tiny-qwen3/lora/terminal"
    pairs = (output, *SETTINGS[:3], "learning_rate=0.0007", SETTINGS[4], "weight_decay=0.01")
    # Nothing is trained, so it does not matter that fa2 fails with the pinned transformers.
    named = ("--no-check", "--llamafactory-cli", str(stand_in))
    run_lfc(webui.folder, "launch", "train", "configs/masked.yaml", *pairs, *named)
    webui.page.choose("输出目录", "terminal")
    webui.page.wait(lambda: webui.page.read()["学习率"] == "0.0007")
    shown = webui.page.read()
    assert (shown["数据集"], shown["加速方式"], shown["LoRA 秩"]) == (["masked"], "flashattn2", "12")
    assert json.loads(shown["额外参数"])["weight_decay"] == 0.01
    assert webui.page.count_errors() == 0
    assert shown["输出目录"] == "terminal"


def test_the_masked_policy_reaches_the_page_without_a_click(masked_webui: Webui) -> None:
    shown = masked_webui.page.read()
    expected = {"数据集": ["masked"], "对话模板": "qwen3", "输出目录": "masked"}
    assert {label: shown[label] for label in expected} == expected
    # The check box knows yes and no alone; the extra arguments are merged last.
    assert json.loads(shown["额外参数"])["enable_thinking"] is None
    command = masked_webui.page.preview(PREVIEW)
    assert "--enable_thinking None" in command
    assert "--dataset masked" in command
    assert "--template qwen3" in command
    assert masked_webui.page.count_errors() == 0


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_lets_a_running_training_save_first(masked_webui: Webui) -> None:
    folder = masked_webui.folder / "saves/tiny-qwen3/lora/masked"
    masked_webui.page.press(START)
    log = folder / "trainer_log.jsonl"
    masked_webui.page.wait(
        lambda: log.is_file() and len(log.read_text(encoding="utf-8").splitlines()) > 2, timeout_s=500
    )
    masked_webui.process.send_signal(signal.SIGINT)
    assert masked_webui.process.wait(timeout=300) == 0
    said = (masked_webui.folder / "masked.err.txt").read_text(encoding="utf-8")
    assert "Ending: a running training saves first." in said
    assert said.endswith("The WebUI has ended.\n")
    assert (folder / "adapter_model.safetensors").stat().st_size > 0
    newest = list_webui_runs(masked_webui.folder / "saves")[0]
    assert (newest.name, newest.state) == ("tiny-qwen3/lora/masked", "stopped")


def test_a_dry_run_shows_the_settings_and_starts_nothing(webui: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    work = webui.folder / "elsewhere"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("models", "configs"):
        shutil.copytree(webui.folder / name, work / name)
    data = str(webui.folder / "data")
    argv = ["launch", "webui", "configs/tagged.yaml", "--dataset-dir", data, "--dry-run", "--lang", "zh"]
    result = CliRunner().invoke(lfc, argv, catch_exceptions=False)
    assert result.exit_code == 0
    assert "# llamaboard_config/tagged.yaml" in result.stdout
    assert f"train.dataset_dir: {data}" in result.stdout
    assert "GRADIO_SERVER_NAME=127.0.0.1" in result.stdout
    assert sorted(path.name for path in work.iterdir()) == ["configs", "models"]
