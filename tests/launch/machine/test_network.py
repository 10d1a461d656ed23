"""Ports, proxies and hubs, asked before anything is started."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.machine.network import check_model_is_reachable, choose_port, find_free_port, fix_proxies
from launch.machine.variables import is_enabled
from prep.errors import ConfigError, StackError

HUB_MODEL = "Qwen/Qwen3-4B"


@pytest.fixture
def used_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of an environment without socksio."""
    (tmp_path / "venv/lib/python3.11/site-packages").mkdir(parents=True)
    return tmp_path / "venv" / "bin" / "python"


def test_a_port_in_use_is_refused_with_a_free_one(used_port: int) -> None:
    with pytest.raises(StackError, match=f"port {used_port} on 127.0.0.1 is in use") as refused:
        choose_port("127.0.0.1", used_port)
    assert refused.value.hint is not None
    named = int(refused.value.hint.split()[1].rstrip(","))
    assert choose_port("127.0.0.1", named) == named


def test_without_a_port_the_first_free_one_is_taken() -> None:
    port = choose_port("127.0.0.1", None)
    with socket.socket() as server:
        # As the WebUI itself does: what was closed a moment ago does not stand in the way.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        assert choose_port("127.0.0.1", None) > port


def test_a_host_of_another_machine_is_refused() -> None:
    with pytest.raises(StackError, match=r"192\.0\.2\.1 is not an address of this machine"):
        choose_port("192.0.2.1", 7860)


def test_a_socks_proxy_is_left_out_for_a_local_model(tmp_path: Path, python: Path) -> None:
    notes: list[str] = []
    environ = {"ALL_PROXY": "socks5://127.0.0.1:1080", "http_proxy": "http://127.0.0.1:3128"}
    assert fix_proxies("127.0.0.1", str(tmp_path), environ, python, notes) == {"ALL_PROXY": ""}
    assert notes == [
        "all_proxy is left out for the WebUI: gradio cannot use a SOCKS proxy without the package socksio"
    ]


def test_a_socks_proxy_that_the_model_has_to_come_through_is_refused(python: Path) -> None:
    with pytest.raises(StackError, match="all_proxy: gradio cannot use a SOCKS proxy") as refused:
        fix_proxies("127.0.0.1", HUB_MODEL, {"all_proxy": "socks5://127.0.0.1:1080"}, python, [])
    assert refused.value.hint == "unset all_proxy, or give the model's folder, or pip install socksio"


def test_a_socks_proxy_is_fine_with_socksio(python: Path) -> None:
    (python.parent.parent / "lib/python3.11/site-packages/socksio").mkdir()
    assert fix_proxies("127.0.0.1", HUB_MODEL, {"all_proxy": "socks5://127.0.0.1:1080"}, python, []) == {}


def test_an_http_proxy_is_left_out_when_the_page_has_an_address_of_the_network(
    tmp_path: Path, python: Path
) -> None:
    notes: list[str] = []
    environ = {"http_proxy": "http://127.0.0.1:3128", "HTTP_PROXY": "http://127.0.0.1:3128"}
    assert fix_proxies("10.0.0.5", str(tmp_path), environ, python, notes) == {"http_proxy": "", "HTTP_PROXY": ""}
    assert "gradio would look for its own page on 10.0.0.5 through it" in notes[0]
    assert fix_proxies("127.0.0.1", str(tmp_path), environ, python, []) == {}


def test_a_hub_model_is_refused_when_its_hub_cannot_be_reached(tmp_path: Path, used_port: int) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    environ = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": f"http://127.0.0.1:{port}"}
    with pytest.raises(
        ConfigError, match=f"{HUB_MODEL} is not in the cache, and 127.0.0.1:{port} cannot"
    ) as refused:
        check_model_is_reachable(HUB_MODEL, environ)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("lfc prep download Qwen/Qwen3-4B")
    check_model_is_reachable(HUB_MODEL, {**environ, "HF_ENDPOINT": f"http://127.0.0.1:{used_port}"})


def test_a_hub_model_is_refused_when_the_user_works_offline(tmp_path: Path) -> None:
    environ = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    with pytest.raises(ConfigError, match="and HF_HUB_OFFLINE is set"):
        check_model_is_reachable(HUB_MODEL, environ)


def test_a_hub_model_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub/models--Qwen--Qwen3-4B/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    check_model_is_reachable(HUB_MODEL, {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    modelscope = {"USE_MODELSCOPE_HUB": "1", "MODELSCOPE_CACHE": str(tmp_path / "ms"), "HF_HUB_OFFLINE": "1"}
    (tmp_path / "ms/models/Qwen/Qwen3-4B").mkdir(parents=True)
    (tmp_path / "ms/models/Qwen/Qwen3-4B/config.json").write_text("{}", encoding="utf-8")
    check_model_is_reachable(HUB_MODEL, modelscope)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", find_free_port()))


@pytest.mark.parametrize("value", ["1", "true", "y", "yes", "on", "TRUE", "0", "", "no"])
def test_a_variable_is_on_where_its_reader_takes_it_for_on(value: str) -> None:
    assert is_enabled("USE_RAY", {"USE_RAY": value}) == (value.lower() in {"1", "true", "y"})
    assert is_enabled("HF_HUB_OFFLINE", {"HF_HUB_OFFLINE": value}) == (value.lower() in {"1", "true", "yes", "on"})
    assert not is_enabled("USE_RAY", {})
