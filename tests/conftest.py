"""What several test files share."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.huggingface_server import HuggingFace, serve_huggingface
from tests.support.modelscope_server import Hub, serve_hub
from tests.support.qwen3 import build_tokenizer_folder
from tests.support.warm_stack import PYTHON_VARIABLE, can_fork, serve_stack


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests start, though a shell that starts the tests with `&` shuts it out."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="Run the long versions too: large files, many rounds.")


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Let no test wait until its files are on the disk itself: no power fails here. What fails is patched by tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this run may take minutes."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Qwen3's tokenizer, as a downloaded model has it, without weights."""
    return build_tokenizer_folder(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="session")
def warm_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a `python` and a `llamafactory-cli` that need not import LLaMA-Factory again where that can be."""
    if not can_fork():
        yield Path(sys.executable).parent
        return
    own = tmp_path_factory.getbasetemp()
    # With several processes at once their folders lie beside each other.
    with serve_stack((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "warm") as folder:
        yield folder


@pytest.fixture(scope="module")
def warm_cli(warm_stack: Path) -> Iterator[None]:
    """Let `lfc` find the llamafactory-cli of `warm_stack`, and `stack_python` its Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LFC_LLAMAFACTORY_CLI", str(warm_stack / "llamafactory-cli"))
        patch.setenv(PYTHON_VARIABLE, str(warm_stack / "python"))
        yield


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A ModelScope hub on 127.0.0.1, which the client takes for the public one; its own folders are temporary."""
    home = tmp_path_factory.mktemp("client")
    for name in ("MODELSCOPE_API_TOKEN", "MODELSCOPE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(home / "cache"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(home / "home"))
    with serve_hub() as running:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def huggingface(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFace]:
    """A Hugging Face hub on 127.0.0.1, as a mirror; the client's own folders are temporary."""
    from huggingface_hub import constants

    home = tmp_path_factory.mktemp("hf")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve_huggingface() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running
