"""A token of Hugging Face goes to the hub that it was named for: not to its storage, a mirror, a proxy or a page."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.hub import endpoint as endpoints
from prep.hub.endpoint import HUGGINGFACE, read_endpoint
from tests.support.huggingface_server import HuggingFace, serve_huggingface

TOKEN = "hf_canary7f3a9c510123456789"
FILES = {"small": b"s", "large": b"l" * 2000}


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_TOKEN", TOKEN)


def invoke(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        lfc, ["prep", "download", "hf:o/set", "--to", str(folder), *arguments], prog_name="lfc"
    )


def find_canary(hub: HuggingFace) -> list[str]:
    """Return the paths of the requests that carried the token, in a header or in the address."""
    return [path for path, query, headers in hub.requests if TOKEN in f"{path} {query} {headers}"]


def written_anywhere(*folders: Path) -> list[Path]:
    files = [
        path for place in (*folders, Path(os.environ["HF_HOME"])) for path in place.rglob("*") if path.is_file()
    ]
    return [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_the_hub_itself_gets_the_token_with_every_request_and_no_cookie(
    huggingface: HuggingFace, tmp_path: Path
) -> None:
    huggingface.token = TOKEN
    huggingface.add("o/set", FILES)
    assert invoke(tmp_path).stderr.startswith("Error: o/set: not found on the hub, or private (401) ")
    huggingface.requests.clear()
    assert invoke(tmp_path, "--token-env", "TEAM_TOKEN").exit_code == 0
    assert len(huggingface.requests) == 4
    for _, _, headers in huggingface.requests:
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert "cookie" not in headers
    assert written_anywhere(tmp_path) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
@pytest.mark.parametrize("on", ["revision", "list", "file", "storage"])
def test_a_redirect_to_another_host_or_port_carries_no_token(
    huggingface: HuggingFace, tmp_path: Path, host: str, on: str
) -> None:
    huggingface.token = TOKEN
    huggingface.add("o/set", FILES)
    with serve_huggingface("127.0.0.2" if host == "127.0.0.2" else "127.0.0.1") as other:
        other.sets = huggingface.sets
        address = f"http://{host}:{other.endpoint.rpartition(':')[2]}"
        if on == "storage":
            huggingface.storage = address
        else:
            huggingface.fail(on, redirect=address)
        result = invoke(tmp_path, "--token-env", "TEAM_TOKEN")
        assert result.exit_code == 0, result.output
        assert other.requests
        assert find_canary(other) == []
    assert find_canary(huggingface)


def test_a_page_of_the_listing_on_another_host_gets_no_token(huggingface: HuggingFace, tmp_path: Path) -> None:
    huggingface.token = TOKEN
    huggingface.add("o/set", FILES)
    huggingface.page_entries = 1
    with serve_huggingface() as other:
        other.sets = huggingface.sets
        huggingface.next_page_origin = other.endpoint
        other.next_page_origin = huggingface.endpoint
        assert invoke(tmp_path, "--token-env", "TEAM_TOKEN").exit_code == 0
        assert len(other.requests) == 1
        assert find_canary(other) == []


def test_a_redirect_back_to_the_hub_gets_the_token_again(huggingface: HuggingFace, tmp_path: Path) -> None:
    huggingface.token = TOKEN
    huggingface.add("o/set", FILES)
    with serve_huggingface() as other:
        huggingface.fail("file", redirect=other.endpoint, times=1)
        other.fail("file", redirect=huggingface.endpoint)
        assert invoke(tmp_path, "--token-env", "TEAM_TOKEN").exit_code == 0
        assert find_canary(other) == []


@pytest.mark.parametrize("on", ["revision", "list", "file"])
def test_an_address_that_holds_the_token_is_not_followed(huggingface: HuggingFace, tmp_path: Path, on: str) -> None:
    huggingface.add("o/set", FILES)
    with serve_huggingface() as other:
        huggingface.fail(on, redirect=f"{other.endpoint}/x/{TOKEN}")
        result = invoke(tmp_path, "--token-env", "TEAM_TOKEN")
        assert other.requests == []
    assert result.stderr == (
        f"Error: {huggingface.endpoint} redirects to an address that holds the token; it was not followed\n"
        "  Try: tell whoever runs the hub, and make a new token\n"
    )


@pytest.mark.parametrize("by", ["--endpoint", "HF_ENDPOINT"])
def test_a_mirror_gets_no_token_that_was_not_named_for_it(
    huggingface: HuggingFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Neither that of the environment, nor the stored login, nor a password of ~/.netrc."""
    for name in HUGGINGFACE.token_variables:
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"default login me password {TOKEN}\n")
    (Path(os.environ["HF_HOME"]) / "token").write_text(TOKEN)
    huggingface.add("o/set", FILES)
    if by == "--endpoint":
        monkeypatch.delenv("HF_ENDPOINT")
    result = invoke(tmp_path / "raw", *(["--endpoint", huggingface.endpoint] if by == "--endpoint" else []))
    assert (result.exit_code, result.stderr) == (0, "")
    assert not any("authorization" in headers or "cookie" in headers for _, _, headers in huggingface.requests)
    assert find_canary(huggingface) == []


@pytest.mark.parametrize("kept_in", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "login"])
def test_hugging_face_itself_gets_the_usual_token(
    huggingface: HuggingFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: str
) -> None:
    monkeypatch.setitem(endpoints.PUBLIC_HUBS, "huggingface", (huggingface.endpoint,))
    huggingface.token = TOKEN
    huggingface.add("o/set", FILES)
    if kept_in == "login":
        (Path(os.environ["HF_HOME"]) / "token").write_text(f"{TOKEN}\n")
    else:
        monkeypatch.setenv(kept_in, TOKEN)
    assert invoke(tmp_path).exit_code == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    huggingface.requests.clear()
    assert invoke(tmp_path / "again").exit_code == 1
    assert find_canary(huggingface) == []


def test_the_token_of_the_other_hub_stays_away(
    huggingface: HuggingFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(endpoints.PUBLIC_HUBS, "huggingface", (huggingface.endpoint,))
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    huggingface.add("o/set", FILES)
    assert invoke(tmp_path).exit_code == 0
    assert find_canary(huggingface) == []


def test_only_huggingface_co_by_https_is_public() -> None:
    assert read_endpoint("https://huggingface.co/", HUGGINGFACE).is_public
    for address in ("http://huggingface.co", "https://hf-mirror.com", "https://huggingface.co.example.com"):
        assert not read_endpoint(address, HUGGINGFACE).is_public
    assert not read_endpoint("https://modelscope.cn", HUGGINGFACE).is_public


@pytest.mark.parametrize("content", [b"\xff\xfe", f"{TOKEN} two words".encode()])
def test_a_stored_login_that_is_none_is_one_line_without_it(
    huggingface: HuggingFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setitem(endpoints.PUBLIC_HUBS, "huggingface", (huggingface.endpoint,))
    (Path(os.environ["HF_HOME"]) / "token").write_bytes(content)
    result = invoke(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the stored login ")
    assert TOKEN not in result.output


@pytest.mark.parametrize("on", ["revision", "list", "file"])
def test_a_token_that_the_hub_repeats_is_not_shown(huggingface: HuggingFace, tmp_path: Path, on: str) -> None:
    huggingface.add("o/set", FILES)
    huggingface.fail(on, status=400, message=f"{TOKEN}:{TOKEN} refused")
    result = invoke(tmp_path, "--token-env", "TEAM_TOKEN", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the hub finds the request invalid (400)" in result.stderr
    assert TOKEN not in f"{result.output} {result.exception!r} {result.exc_info!r}"


@pytest.mark.parametrize("field", ["path", "size", "oid"])
def test_a_listing_that_repeats_the_token_is_refused(huggingface: HuggingFace, tmp_path: Path, field: str) -> None:
    huggingface.add("o/set", {"small": b"s"})
    huggingface.sets["dataset", "o/set"].edit_listing = lambda entries: [
        {**entry, field: f"x{TOKEN}"} for entry in entries
    ]
    result = invoke(tmp_path, "--token-env", "TEAM_TOKEN")
    assert result.output == (
        "Error: o/set: the listing repeats the token\n  Try: tell whoever runs the hub, and make a new token\n"
    )
    assert written_anywhere(tmp_path) == []


def test_a_proxy_does_not_see_the_token_of_a_plain_endpoint(
    huggingface: HuggingFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface.add("o/set", FILES)
    with serve_huggingface() as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        assert invoke(tmp_path, "--token-env", "TEAM_TOKEN").exit_code == 0
        assert proxy.requests == []


def test_the_client_is_never_given_the_token(huggingface: HuggingFace) -> None:
    from prep.hub.client import DownloadOptions
    from prep.hub.huggingface import HuggingFaceHub

    client = HuggingFaceHub(DownloadOptions(token=TOKEN))
    assert TOKEN not in f"{vars(client._api)}"


def test_nothing_is_told_of_the_machine(huggingface: HuggingFace, tmp_path: Path) -> None:
    huggingface.add("o/set", FILES)
    assert invoke(tmp_path).exit_code == 0
    assert [path for path, _, _ in huggingface.requests if "agent" in path or "telemetry" in path] == []
