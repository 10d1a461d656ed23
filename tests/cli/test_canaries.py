"""Canary secrets in YAML, variables, addresses and arguments: one table of commands, in which none may sing.

A canary stands in no output, in no file that others can read, and in no request to another place than its own. Every
request that leaves this machine would go to a proxy of the test's own, which notes it.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.cli.test_secrets import ALL, CONFIG, ENVIRON, SECRETS, VARIABLE_SECRETS, folder  # noqa: F401
from tests.support.huggingface_server import HuggingFace
from tests.support.lfc_process import ROOT, find_leaks, run_lfc
from tests.support.modelscope_server import Hub

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
PAIR = f"hf_hub_token={SECRETS['hf_hub_token']}"


class Trap:
    """A proxy that answers nothing and remembers all that it was told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                connection.settimeout(0.5)
                with connection, suppress(OSError):
                    self.heard.append(connection.recv(1 << 16))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


@pytest.fixture
def project(folder: Path) -> Path:  # noqa: F811
    """The folder of tests/cli/test_secrets.py, with what more commands need."""
    values = {key: value for key, value in CONFIG.items() if key not in ("output_dir", "dataset", "dataset_dir")}
    recipe = {
        "name": "mine",
        "sources": {"a": {"path": "rows.jsonl"}},
        "split": {"test": 2},
        "model": "tiny",
        "config": {"preset": "cpu-smoke", "set": {"hub_token": values["hub_token"], "max_steps": 2}},
    }
    rows = "".join(f'{{"question": "q{number}", "answer": "a{number}"}}\n' for number in range(20))
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "recipe.yaml").chmod(0o600)
    sweep = {
        "config": "configs/mine.yaml",
        "grid": {"lora_rank": [4, 8]},
        "set": {"hub_token": values["hub_token"]},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    (folder / "sweep.yaml").chmod(0o600)
    return folder


# What is called, and the exit code it must have; `None` where that is not what is asked here.
COMMANDS: dict[str, tuple[tuple[str, int | None], ...]] = {
    "train": (("train configs/mine.yaml --no-check", 0), (f"train configs/mine.yaml --no-check {PAIR} --fresh", 0)),
    "train and its page": (("train configs/mine.yaml --no-check --json", 0), ("report mine", 0), ("runs --json", 0), ("logs mine", 0)),
    "two and their difference": (
        ("train configs/mine.yaml --no-check", 0),
        (f"train configs/mine.yaml --no-check {PAIR} output_dir=saves/b --name b", 0),
        ("compare mine b", 0), ("compare mine b --json", 0), ("config diff configs/mine.yaml configs/other.yaml --json", None),
    ),
    "train checked": (("train configs/mine.yaml", None), ("train configs/mine.yaml --dry-run", None)),
    "eval": (
        ("train configs/mine.yaml --no-check", 0),
        (f"eval configs/mine.yaml --eval-dataset held_out --no-check {PAIR}", 0),
        ("eval configs/mine.yaml --eval-dataset held_out --no-check --dry-run", None), ("report mine", 0),
    ),
    "export": (("export configs/export.yaml --no-check --dry-run " + PAIR, 0), ("export configs/mine.yaml --no-check", 1)),
    "batch": (("batch sweep.yaml --no-check --json", 0), ("report sweep", 0), ("batch sweep.yaml --no-check --dry-run --name other", None)),
    "check": (("config check configs/mine.yaml", None), ("config check configs/mine.yaml --json", None)),
    "webui, shown": (("webui configs/mine.yaml --dry-run --no-browser", None),),
    "doctor": (("@doctor --json", None), ("@doctor", None)),
    "recipe": (("@run recipe.yaml --to made", None), ("@run recipe.yaml --to made --dry-run", None)),
    "prove": (("prove qwen3 models/tiny-qwen3 --json", None), (f"prove qwen3 {SECRETS['hub_token']}", None)),
    "a wrong call": ((f"train configs/mine.yaml --nonsense {PAIR}", 2), (f"stop {PAIR}", 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_lets_a_canary_out(name: str, project: Path, trap: Trap) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), trap.address)
    environ = {**ENVIRON, **proxies, "NO_PROXY": "", "no_proxy": ""}
    environ["LFC_LLAMAFACTORY_CLI"] = str(project / "bin/llamafactory-cli")
    for words, code in COMMANDS[name]:
        argv = words[1:].split() if words.startswith("@") else ["launch", *words.split()]
        result = run_lfc(project, *argv, env=environ)
        said = result.stdout + result.stderr
        # What a user typed as a name may be repeated; as a key's value it may not.
        expected = {key: text for key, text in ALL.items() if words != f"prove qwen3 {text}"}
        assert [key for key, text in expected.items() if text.encode() in said] == [], (words, said.decode())
        assert b"Traceback" not in said, said.decode()
        assert code is None or result.returncode == code, said.decode()
    heard = b"".join(trap.heard)
    assert [key for key, text in ALL.items() if text.encode() in heard] == []


def test_errors_are_printed_in_one_way_which_masks_them() -> None:
    past = [
        path.relative_to(ROOT).as_posix()
        for room in ("prep", "launch")
        for path in (ROOT / room / "cli").rglob("*.py")
        if re.search(r"\becho\(f?\"(?:Error|  Try): \{(?:error|hint)", path.read_text(encoding="utf-8"))
    ]
    assert past == []


DOWNLOADS = (
    ("", 0),
    ("--dry-run --json", 0),
    ("--json", 0),
    ("--offline", 0),
    ("--revision nowhere", 1),
    ("--include nothing*", 1),
    ("--force --jobs 1", 0),
)


@pytest.mark.parametrize("kind", ["ms", "hf"])
def test_a_download_sends_the_token_of_its_hub_there_and_nothing_else(
    kind: str, hub: Hub, huggingface: HuggingFace, project: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = VARIABLE_SECRETS["MODELSCOPE_API_TOKEN" if kind == "ms" else "HF_TOKEN"]
    ours, others = (hub, huggingface) if kind == "ms" else (huggingface, hub)
    for server in (hub, huggingface):
        server.add("o/set", {"a.jsonl": b'{"question": "q", "answer": "a"}\n' * 50})
    ours.token = token
    environ = {**ENVIRON, "TEAM_TOKEN": token, "HTTPS_PROXY": trap.address, "ALL_PROXY": trap.address}
    environ |= {"HF_ENDPOINT": huggingface.endpoint, "MODELSCOPE_ENDPOINT": hub.endpoint}
    name = "o/set" if kind == "ms" else "hf:o/set"
    for more, code in DOWNLOADS:
        argv = ["prep", "download", name, "--to", "raw", "--token-env", "TEAM_TOKEN", *more.split()]
        result = run_lfc(project, *argv, env=environ)
        said = result.stdout + result.stderr
        assert result.returncode == code, (more, said.decode())
        assert [key for key, text in ALL.items() if text.encode() in said] == [], (more, said.decode())
    allowed = {key: text for key, text in ALL.items() if text != token}
    asked = "\n".join(map(str, ours.requests))
    assert token in asked
    assert [key for key, text in allowed.items() if text in asked] == []
    assert others.requests == []
    assert [key for key, text in ALL.items() if text.encode() in b"".join(trap.heard)] == []
    homes = [Path(os.environ[variable]) for variable in ("MODELSCOPE_HOME", "MODELSCOPE_CACHE", "HF_HOME")]
    assert [leak for home in homes if home.is_dir() for leak in find_leaks(home, ALL)] == []


@pytest.mark.stack
def test_the_real_webui_shows_no_canary_and_keeps_none_where_others_read(project: Path, full: bool) -> None:
    if not full:
        pytest.skip("starts LLaMA-Factory's WebUI; --full runs it")
    argv = [
        sys.executable,
        "-P",
        "-m",
        "launch",
        "launch",
        "webui",
        "configs/mine.yaml",
        "--no-browser",
        "--lang",
        "en",
    ]
    environ = {**os.environ, **ENVIRON, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    out, err = project / "out.txt", project / "err.txt"
    with out.open("wb") as said, err.open("wb") as told:
        process = subprocess.Popen(argv, cwd=project, env=environ, stdout=said, stderr=told)
    try:
        deadline = time.monotonic() + 300
        while not (found := re.search(r"^WebUI: (\S+)$", out.read_text(encoding="utf-8"), re.MULTILINE)):
            assert process.poll() is None, err.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "the WebUI never answered"
            time.sleep(0.5)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        page = b"".join(opener.open(found[1] + place, timeout=60).read() for place in ("", "config"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    told_all = page + out.read_bytes() + err.read_bytes()
    assert [key for key, text in ALL.items() if text.encode() in told_all] == []
