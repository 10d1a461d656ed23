"""The WebUI's start: every check before it, what is written, and what happens when it opens, fails or ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import launch.configs.rules
from launch.cli import lfc
from launch.configs.config import write_config
from launch.configs.rules import Machine
from launch.llamaboard.convert import import_settings
from launch.machine.command import Command
from launch.webui import start as webui
from launch.webui.chat import describe_chat, make_chat_values
from launch.webui.serve import Opened, serve_webui
from launch.webui.start import Address, Plan, Request, choose_language, plan_webui, read_request
from prep.errors import ChildFailedError, ConfigError, OutputError, RegistryError, StackError
from tests.launch.llamaboard.test_page import BASE
from tests.launch.webui.test_datasets import describe, write_registry, write_rows

PAGE_PROGRAM = Path(webui.__file__).parents[1] / "guest" / "webui_page.py"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llamafactory-cli beside a Python, in a working folder with a model, data and configs/mine.yaml, no GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(launch.configs.rules, "read_machine", lambda: Machine(gpus=()))
    for name in ("python", "llamafactory-cli"):
        path = tmp_path / "venv" / "bin" / (f"{name}.exe" if os.name == "nt" else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    model = tmp_path / "models" / "tiny-qwen3"
    model.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (model / name).write_text("{}", encoding="utf-8")
    # A whole file of no weights.
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "medical.jsonl")
    write_registry(tmp_path / "data", {"medical": describe("medical.jsonl")})
    write_config(Path("configs/mine.yaml"), BASE, header="a config")
    return path


def plan(cli: Path, *pairs: str, address: Address | None = None, environ: dict[str, str] | None = None) -> Plan:
    config = Path("configs/mine.yaml")
    request = Request(config, read_request(config, pairs, None), language="zh")
    return plan_webui(request, address or Address(), cli, environ or {"PATH": "/usr/bin"})


def test_a_checked_start_is_for_this_machine_alone_and_finds_the_trainer(cli: Path) -> None:
    planned = plan(cli)
    env = planned.command.env
    assert env["PATH"].split(os.pathsep)[0] == str(cli.parent)
    port = planned.url.removeprefix("http://127.0.0.1:").removesuffix("/")
    assert {key: env[key] for key in env if key.startswith(("GRADIO", "HF"))} == {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": port,
        "GRADIO_NUM_PORTS": "1",
        "GRADIO_SHARE": "false",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }
    chat = {
        "infer.temperature": 0.6,
        "infer.top_p": 0.95,
        "infer.max_new_tokens": 8192,
        "infer.enable_thinking": True,
    }
    assert planned.command.argv[-4:] == (
        str(PAGE_PROGRAM),
        str(Path("llamaboard_cache/lfc_webui.json")),
        json.dumps(chat),
        str(Path("llamaboard_config/mine.yaml")),
    )
    assert planned.notes == []
    assert not Path("llamaboard_cache").exists()


def test_the_chat_tab_asks_for_no_thoughts_where_none_were_trained(cli: Path) -> None:
    shown = json.loads(plan(cli, "enable_thinking=false").command.argv[-2])
    assert shown == {
        "infer.temperature": 0.7,
        "infer.top_p": 0.8,
        "infer.max_new_tokens": 2048,
        "infer.enable_thinking": False,
    }


def test_without_a_config_the_folder_of_datasets_works_alone(cli: Path) -> None:
    values = webui.read_request(None, (), Path("mine"))
    planned = webui.plan_webui(Request(None, values), Address(), cli, {})
    assert planned.settings is None
    assert json.loads(planned.command.argv[-1]) == {"train.dataset_dir": "mine", "eval.dataset_dir": "mine"}
    with pytest.raises(ConfigError, match="key=value changes a config, and none is named"):
        webui.read_request(None, ("lora_rank=8",), None)


def test_gradios_own_variables_say_where_the_page_listens(cli: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", "17865")
    cli.chmod(0o755)
    argv = ["launch", "webui", "configs/mine.yaml", "--llamafactory-cli", str(cli), "--dry-run"]
    assert "http://127.0.0.1:17865/" in CliRunner().invoke(lfc, argv, catch_exceptions=False).stdout


def test_what_is_planned_is_written(cli: Path) -> None:
    webui.write_plan(plan(cli))
    settings = yaml.safe_load(Path("llamaboard_config/mine.yaml").read_text(encoding="utf-8"))
    assert (settings["top.lang"], settings["top.model_name"], settings["train.dataset"]) == (
        "zh",
        "tiny-qwen3",
        ["medical"],
    )
    user = yaml.safe_load(Path("llamaboard_cache/user_config.yaml").read_text(encoding="utf-8"))
    assert (user["lang"], user["last_model"], user["path_dict"]["Custom"]) == ("zh", "Custom", "models/tiny-qwen3")


def test_bf16_without_a_gpu_is_refused_with_the_fix(cli: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(cli, "bf16=true")
    assert "bf16: error: needs a GPU, and there is none here  [bf16_is_supported]\n    Try: bf16: false" in str(
        refused.value
    )


def test_a_broken_registry_is_refused_before_the_start(cli: Path) -> None:
    Path("data/dataset_info.json").write_text('{"medical": {"file_name": "medical.jsonl"},}', encoding="utf-8")
    with pytest.raises(RegistryError, match=r"data/dataset_info\.json:1:43: error: a comma stands before"):
        plan(cli)


def test_a_port_in_use_is_refused_before_the_start(cli: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(StackError, match="is in use"):
            plan(cli, address=Address(port=server.getsockname()[1]))


def test_a_socks_proxy_does_not_reach_the_webui(cli: Path) -> None:
    planned = plan(cli, environ={"PATH": "", "ALL_PROXY": "socks5://127.0.0.1:1080"})
    assert planned.command.env["ALL_PROXY"] == ""
    assert planned.notes[0].startswith("all_proxy is left out for the WebUI")


def test_an_open_host_is_named(cli: Path) -> None:
    planned = plan(cli, address=Address(host="0.0.0.0"))
    assert planned.notes == ["--host 0.0.0.0: everybody who reaches this machine can use the page and its files"]


def test_a_public_link_is_said_to_have_no_key(cli: Path) -> None:
    planned = plan(cli, address=Address(share=True))
    told = "--share: everybody who has the public link can use the page and its files, without any key"
    assert told in planned.notes

    assert planned.url.startswith("http://127.0.0.1:")


def test_a_run_that_stands_there_is_not_trained_into(cli: Path) -> None:
    folder = Path(str(BASE["output_dir"]))
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"0")
    planned = plan(cli)
    assert planned.page["train.output_dir"] == "run-2"
    assert planned.notes == [
        "saves/tiny-qwen3/lora/run holds a run already: the page's output folder is saves/tiny-qwen3/lora/run-2"
    ]


def test_a_secret_goes_by_the_environment_and_never_onto_the_page(cli: Path) -> None:
    planned = plan(cli, "hf_hub_token=hf_secret", "swanlab_lark_secret=other")
    assert planned.command.env["HF_TOKEN"] == "hf_secret"
    assert planned.notes == [
        "`hf_hub_token` is a secret and is not saved on the page: it goes by HF_TOKEN",
        "`swanlab_lark_secret` is a secret and is not saved on the page: give it on the page",
    ]
    webui.write_plan(planned)
    assert "secret" not in Path("llamaboard_config/mine.yaml").read_text(encoding="utf-8")


def test_what_the_page_cannot_carry_is_named(cli: Path) -> None:
    planned = plan(cli, "lora_rank=2048", "lora_alpha=8")
    assert planned.notes == ["not on the page: `lora_rank: 2048` cannot be set there: it runs 8"]


def test_other_saved_settings_with_faults_or_secrets_are_named(cli: Path) -> None:
    Path("llamaboard_config").mkdir()
    Path("llamaboard_config/old.yaml").write_text("top.hub_name: x\ntrain.swanlab_api_key: k\n", encoding="utf-8")
    fault, secret = plan(cli).notes
    assert fault.startswith(
        "LlamaBoard cannot load llamaboard_config/old.yaml:\n  llamaboard_config/old.yaml:1:1: error: `top.hub_name`"
    )
    assert secret == "llamaboard_config/old.yaml holds train.swanlab_api_key in clear text: --scrub empties it"


def test_settings_saved_on_the_page_under_the_same_name_stay(cli: Path) -> None:
    Path("llamaboard_config").mkdir()
    Path("llamaboard_config/mine.yaml").write_text("train.lora_rank: 4\n", encoding="utf-8")
    with pytest.raises(OutputError, match="holds settings that were saved on the page"):
        webui.write_plan(plan(cli))


def test_saved_settings_can_be_opened_as_they_are(cli: Path) -> None:
    webui.write_plan(plan(cli, "lora_rank=24"))
    saved = Path("llamaboard_config/mine.yaml")
    before = saved.read_bytes()
    planned = plan_webui(Request(saved, read_request(saved, ("cutoff_len=300",), None)), Address(), cli, {})
    page = planned.page
    assert (page["train.lora_rank"], page["train.cutoff_len"], page["train.output_dir"]) == (24, 300, "run")
    assert planned.settings == Path("llamaboard_config/mine-opened.yaml")
    webui.write_plan(planned)
    assert saved.read_bytes() == before


def test_without_a_config_the_webui_opens_as_it_is(cli: Path) -> None:
    planned = plan_webui(Request(None), Address(), cli, {"LANG": "zh_CN.UTF-8"})
    assert (planned.page, planned.settings, planned.language) == ({}, None, "zh")
    with pytest.raises(ConfigError, match="none is named"):
        read_request(None, ("lora_rank=1",), None)


@pytest.mark.parametrize(
    ("given", "known", "environ", "language"),
    [
        ("ja", "zh", {"LANG": "ko_KR.UTF-8"}, "ja"),
        (None, "zh", {"LANG": "ko_KR.UTF-8"}, "zh"),
        (None, None, {"LANG": "ko_KR.UTF-8"}, "ko"),
        (None, None, {"LC_ALL": "zh_TW", "LANG": "en_US"}, "zh"),
        (None, None, {"LANG": "Chinese (Simplified)_China"}, "zh"),
        (None, None, {"LANG": "C.UTF-8"}, "en"),
        (None, "xx", {"LANG": "de_DE"}, "en"),
    ],
)
def test_the_language_is_the_users(
    given: str | None, known: str | None, environ: dict[str, str], language: str
) -> None:
    assert choose_language(given, known, environ) == language


def test_an_import_without_a_model_path_asks_for_it(cli: Path) -> None:
    path = Path("llamaboard_config/x.yaml")
    path.parent.mkdir()
    path.write_text(
        "top.model_name: Custom\ntrain.dataset: [medical]\ntrain.swanlab_api_key: k\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="names the model Custom without its path") as refused:
        import_settings(path)
    assert refused.value.hint == "add model_name_or_path=PATH"
    imported = import_settings(path, {"model_name_or_path": "models/tiny-qwen3"})
    assert imported.values["output_dir"] == "saves/Custom/lora/x"
    assert "swanlab_api_key" not in imported.values
    assert imported.notes == ["swanlab_api_key is a secret and is left out: it goes by SWANLAB_API_KEY"]
    kept = import_settings(path, {"model_name_or_path": "m"}, keep_secrets=True)
    assert kept.values["swanlab_api_key"] == "k"


def test_the_command_says_what_is_broken_scrubs_when_asked_and_starts_nothing(cli: Path) -> None:
    Path("llamaboard_config").mkdir()
    old = Path("llamaboard_config/old.yaml")
    old.write_text("train.swanlab_api_key: k\n", encoding="utf-8")
    argv = ["launch", "webui", "configs/mine.yaml", "bf16=true", "--llamafactory-cli", str(cli), "--scrub"]
    cli.chmod(0o755)
    result = CliRunner().invoke(lfc, argv, catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr == (
        "llamaboard_config/old.yaml: train.swanlab_api_key emptied\n"
        "Error: configs/mine.yaml cannot be trained here:\n"
        "  bf16: error: needs a GPU, and there is none here  [bf16_is_supported]\n"
        "    Try: bf16: false\n"
    )
    assert old.read_text(encoding="utf-8") == "train.swanlab_api_key: ''\n"
    assert not Path("llamaboard_cache").exists()


# A server in the place of the WebUI: it says how it started, answers, and ends by itself or when it is asked to.
SERVER = """
import http.server, json, pathlib, sys, threading, time
status, port, reason, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", port), Page)
pathlib.Path(status).write_text(json.dumps({"is_filled": not reason, "reason": reason}))
threading.Thread(target=server.serve_forever, daemon=True).start()
try:
    time.sleep(seconds)
except KeyboardInterrupt:
    pathlib.Path("interrupted").write_text("yes")
    sys.exit(0)
sys.exit("OSError: Cannot find empty port in range: 7860-7860.")
"""


def serve(
    planned: Plan, reason: str = "", seconds: float = 60, on_open: Any = None, prelude: str = ""
) -> list[Opened]:
    opened: list[Opened] = []

    def note(page: Opened) -> None:
        opened.append(page)
        if on_open:
            on_open()

    webui.write_plan(planned)
    port = planned.url.rstrip("/").rpartition(":")[2]
    argv = (sys.executable, "-c", prelude + SERVER, str(webui.STATUS), port, reason, str(seconds))
    env = {"GRADIO_SHARE": planned.command.env["GRADIO_SHARE"]}
    served = Plan(**{**planned.__dict__, "command": Command(argv, env)})
    with contextlib.suppress(KeyboardInterrupt):
        serve_webui(served, note, Path("told").touch)
    return opened


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_tells_the_user_and_interrupts_the_webui(cli: Path) -> None:
    planned = plan(cli)
    assert serve(planned, on_open=interrupt) == [Opened(planned.url, is_filled=True)]
    assert Path("told").exists()
    assert Path("interrupted").exists()


def test_a_page_that_cannot_be_filled_in_gets_settings_to_load_by_hand(cli: Path) -> None:
    planned = plan(cli)
    opened = serve(planned, reason="AttributeError: no resume", on_open=interrupt)
    assert opened == [Opened(planned.url, is_filled=False, reason="AttributeError: no resume")]
    settings = yaml.safe_load(Path("llamaboard_config/mine.yaml").read_text(encoding="utf-8"))
    assert settings["top.model_name"] == "Custom"
    assert settings["train.output_dir"] == "saves/tiny-qwen3/lora/run"


def test_a_shared_page_opens_with_its_public_link(cli: Path) -> None:
    said = "print('* Running on public URL: https://abc.gradio.live', flush=True)\n"
    (opened,) = serve(plan(cli, address=Address(share=True)), on_open=interrupt, prelude=said)
    assert opened.public_url == "https://abc.gradio.live"


def test_a_webui_that_ends_by_itself_says_why(cli: Path) -> None:
    with pytest.raises(ChildFailedError, match="OSError: Cannot find empty port in range") as failed:
        serve(plan(cli), seconds=2)
    assert failed.value.exit_code == 1


LLAMABOARD = """
class Engine:
    def __init__(self):
        self.runner = None
"""


def test_a_llamaboard_of_another_build_starts_as_it_is_and_says_so(tmp_path: Path) -> None:
    package = tmp_path / "llamafactory"
    files = {
        "__init__.py": "",
        "extras/__init__.py": "",
        "extras/constants.py": "SUPPORTED_MODELS, DEFAULT_TEMPLATE = {}, {}\nclass DownloadSource:\n    DEFAULT = 'hf'\n",
        "webui/__init__.py": "",
        "webui/engine.py": LLAMABOARD,
        "webui/manager.py": "class Manager:\n    def add_elems(self, tab, elems): pass\n",
        "webui/interface.py": "def run_web_ui():\n    print('started')\n",
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "top.model_name: tiny\ntop.model_path: models/tiny\ntop.template: qwen3\n", encoding="utf-8"
    )
    command = [sys.executable, str(PAGE_PROGRAM), str(tmp_path / "status.json"), "{}", str(settings)]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert result.stdout == "started\n"
    status = json.loads((tmp_path / "status.json").read_text(encoding="utf-8"))
    assert status == {
        "is_filled": False,
        "reason": "AttributeError: type object 'Engine' has no attribute 'resume'",
    }


def test_a_background_start_can_still_be_interrupted(cli: Path) -> None:
    """A shell's script starts what it puts in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        started = time.monotonic()
        serve(plan(cli), on_open=lambda: os.kill(os.getpid(), signal.SIGINT))
        assert time.monotonic() - started < 30
        assert Path("interrupted").exists()
    finally:
        signal.signal(signal.SIGINT, before)


class Trainer:
    """A training in the place of LlamaBoard's child: it ends a moment after it was asked to."""

    asked = 0

    def poll(self) -> int | None:
        return 0 if self.asked > 1 else None


class Runner:
    """LlamaBoard's runner, as far as an end needs it."""

    trainer: Trainer | None = None

    def set_abort(self) -> None:
        assert self.trainer is not None
        self.trainer.asked += 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_webui_asks_its_training_to_save_before_it_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from launch.guest import webui_page

    runner = Runner()
    runner.trainer = Trainer()
    monkeypatch.setattr("launch.guest.webui_page.time.sleep", lambda _: setattr(runner.trainer, "asked", 2))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        webui_page.stop_softly([type("Engine", (), {"runner": runner})])
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), getattr(signal, name))
            signal.sigtimedwait([], 1)
        assert runner.trainer.asked == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


CHAT = {
    "model_name_or_path": "models/tiny-qwen3",
    "adapter_name_or_path": "saves/tiny-qwen3/lora/old",
    "template": "qwen3",
    "infer_dtype": "float32",
    "temperature": 9.0,
    "top_k": 20,
    "default_system": "Be short.",
    "quantization_bit": 4,
}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (
            CHAT,
            {
                "top.model_name": "tiny-qwen3",
                "top.model_path": "models/tiny-qwen3",
                "top.template": "qwen3",
                "top.finetuning_type": "lora",
                "top.checkpoint_path": ["old"],
                "infer.infer_backend": "huggingface",
                "infer.infer_dtype": "float32",
                "infer.extra_args": '{"top_k": 20, "quantization_bit": 4}',
                "infer.system": "Be short.",
                "infer.temperature": 1.5,
                "infer.top_p": 0.95,
                "infer.max_new_tokens": 8192,
                "infer.enable_thinking": True,
            },
        ),
        (
            {**BASE, "output_dir": "saves/tiny-qwen3/lora/mine", "enable_thinking": False},
            {
                "top.checkpoint_path": ["mine"],
                "infer.temperature": 0.7,
                "infer.max_new_tokens": 2048,
                "infer.enable_thinking": False,
            },
        ),
        ({**BASE, "output_dir": "elsewhere/mine"}, {"top.checkpoint_path": ["elsewhere/mine"]}),
        (
            {**BASE, "finetuning_type": "full", "output_dir": "saves/tiny-qwen3/full/mine"},
            {
                "top.model_path": "saves/tiny-qwen3/full/mine",
                "top.finetuning_type": "full",
                "top.checkpoint_path": [],
            },
        ),
    ],
)
def test_the_chat_tab_loads_what_a_chat_config_or_a_training_names(
    values: dict[str, Any], shown: dict[str, Any]
) -> None:
    told = describe_chat(make_chat_values(values))
    assert {key: told[key] for key in shown} == shown


def test_a_page_to_talk_on_writes_no_settings_and_says_what_to_press(cli: Path) -> None:
    write_config(Path("configs/chat.yaml"), {**CHAT, "quantization_bit": None}, header="a config")
    (Path("saves/tiny-qwen3/lora/old")).mkdir(parents=True)
    Path("saves/tiny-qwen3/lora/old/adapter_config.json").write_text("{}", encoding="utf-8")
    Path("saves/tiny-qwen3/lora/old/adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    values = read_request(Path("configs/chat.yaml"), ("temperature=0.5",), None)
    planned = plan_webui(Request(Path("configs/chat.yaml"), values, language="en"), Address(), cli, {})
    assert (planned.settings, planned.page, planned.chat) == (None, {}, True)
    assert json.loads(planned.command.argv[-1])["infer.temperature"] == 0.5
    with pytest.raises(ConfigError, match=r"chat\.yaml cannot be loaded here"):
        plan_webui(Request(Path("chat.yaml"), {**values, "template": "of_tomorrow"}), Address(), cli, {})


def test_chat_needs_something_that_was_trained(cli: Path) -> None:
    refused = CliRunner().invoke(lfc, ["launch", "webui", "--chat", "--llamafactory-cli", str(cli)])
    assert (refused.exit_code, "--chat needs the CONFIG" in refused.output) == (2, True)
    with pytest.raises(ConfigError, match="there is nothing to talk to"):
        make_chat_values({key: value for key, value in BASE.items() if key != "output_dir"})
