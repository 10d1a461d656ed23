"""A token goes to the hub that it was named for, and nowhere else: not over a redirect, not unasked, not in text."""

import json
import os
import pickle
import urllib.parse
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.errors import DownloadError
from prep.hub import endpoint as endpoints
from prep.hub.endpoint import Endpoint, choose_token, read_endpoint, read_token
from tests.support.modelscope_server import Hub, serve_hub

TOKEN = "ms-canary-7f3a9c51-0123456789"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_TOKEN", TOKEN)


def invoke(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(lfc, ["prep", "download", "o/set", "--to", str(folder), *arguments], prog_name="lfc")


def find_canary(hub: Hub) -> list[str]:
    """Return the paths of the requests that carried the token, in a header or in the address."""
    return [path for path, query, headers in hub.requests if TOKEN in f"{path} {query} {headers}"]


def written_anywhere(*folders: Path) -> list[Path]:
    places = [*folders, Path(os.environ["MODELSCOPE_HOME"]), Path(os.environ["MODELSCOPE_CACHE"])]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_the_hub_itself_gets_the_token_in_both_forms_that_it_knows(hub: Hub, tmp_path: Path) -> None:
    hub.token = TOKEN
    hub.add("o/set", {"a": b"a"})
    assert invoke(tmp_path, "--token-env", "TEAM_TOKEN").exit_code == 0
    for _, _, headers in hub.requests:
        assert (headers["authorization"], headers["cookie"]) == (f"Bearer {TOKEN}", f"m_session_id={TOKEN}")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
@pytest.mark.parametrize("on", ["list", "file"])
def test_a_redirect_to_another_host_or_port_carries_no_token(hub: Hub, tmp_path: Path, host: str, on: str) -> None:
    hub.token = TOKEN
    hub.add("o/set", {"a": b"body"})
    with serve_hub("127.0.0.2" if host == "127.0.0.2" else "127.0.0.1") as storage:
        storage.repositories = hub.repositories
        port = storage.endpoint.rpartition(":")[2]
        hub.fail(on, redirect=f"http://{host}:{port}")
        result = invoke(tmp_path, "--token-env", "TEAM_TOKEN")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "set/a").read_bytes() == b"body"
        assert storage.requests
        assert find_canary(storage) == []
    assert find_canary(hub)
    assert written_anywhere(tmp_path) == []


def test_a_redirect_back_to_the_hub_gets_the_token_again(hub: Hub, tmp_path: Path) -> None:
    hub.token = TOKEN
    hub.add("o/set", {"a": b"body"})
    with serve_hub() as storage:
        hub.fail("file", redirect=storage.endpoint, times=1)
        storage.fail("file", redirect=hub.endpoint)
        assert invoke(tmp_path, "--token-env", "TEAM_TOKEN").exit_code == 0
        assert find_canary(storage) == []


@pytest.mark.parametrize("spelling", [TOKEN, urllib.parse.quote(TOKEN.replace("-", "%2D"), safe="%")])
@pytest.mark.parametrize("on", ["list", "file"])
def test_an_address_that_holds_the_token_is_not_followed(hub: Hub, tmp_path: Path, spelling: str, on: str) -> None:
    hub.add("o/set", {"a": b"body"})
    with serve_hub() as storage:
        storage.repositories = hub.repositories
        hub.fail(on, redirect=f"{storage.endpoint}/x/{spelling}")
        result = invoke(tmp_path, "--token-env", "TEAM_TOKEN")
        assert storage.requests == []
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"Error: {hub.endpoint} redirects to an address that holds the token; it was not followed\n"
        "  Try: tell whoever runs the hub, and make a new token\n"
    )
    assert TOKEN not in result.output


@pytest.mark.parametrize("by", ["--endpoint", "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"])
def test_a_hub_that_is_not_modelscope_gets_no_token_that_was_not_named_for_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Neither that of the environment, nor the stored login, nor a password of ~/.netrc."""
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"default login me password {TOKEN}\n")
    store_login(TOKEN)
    hub.add("o/set", {"a": b"a"})
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    if by != "--endpoint":
        monkeypatch.setenv(by, hub.endpoint)
    result = invoke(tmp_path / "raw", *(["--endpoint", hub.endpoint] if by == "--endpoint" else []))
    assert (result.exit_code, result.stderr) == (0, "")
    assert find_canary(hub) == []
    assert not any("authorization" in headers or "cookie" in headers for _, _, headers in hub.requests)


def store_login(token: str) -> None:
    """Write the client's own login, as `modelscope login` does."""
    from modelscope_hub import HubConfig

    HubConfig(endpoint="https://modelscope.cn", token="").save_token(token)


@pytest.mark.parametrize("kept_in", ["environment", "login"])
def test_modelscope_itself_gets_the_usual_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: str
) -> None:
    monkeypatch.setattr(endpoints, "PUBLIC_HUBS", {"modelscope": (hub.endpoint,)})
    hub.token = TOKEN
    hub.add("o/set", {"a": b"a"})
    if kept_in == "environment":
        monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    else:
        store_login(TOKEN)
    assert invoke(tmp_path).exit_code == 0


def test_a_stored_login_that_is_broken_is_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "PUBLIC_HUBS", {"modelscope": (hub.endpoint,)})
    cookies = Path(os.environ["MODELSCOPE_HOME"]) / "credentials/cookies"
    cookies.parent.mkdir(parents=True)
    for content in (b"", pickle.dumps(7), b"cno_such_module\nname\n."):
        cookies.write_bytes(content)
        result = invoke(tmp_path)
        assert result.exit_code == 1
        assert "Error: the client's own folder cannot be used: " in result.stderr


@pytest.mark.parametrize("name", endpoints.PUBLIC_HUBS["modelscope"])
def test_every_address_of_modelscope_is_public(name: str) -> None:
    assert read_endpoint(name).is_public
    assert read_endpoint(f"{name}/").is_public
    assert not read_endpoint(name.replace("https", "http")).is_public


@pytest.mark.parametrize(
    ("address", "keeps"),
    [
        ("https://hub.example.com", True),
        ("http://127.0.0.1:80", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:8", True),
        ("http://localhost:9", True),
        ("http://hub.example.com", False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("HTTP://Modelscope.CN", False),
    ],
)
def test_a_token_does_not_go_over_plain_http_but_to_this_machine(address: str, keeps: bool) -> None:
    endpoint = read_endpoint(address)
    if keeps:
        assert choose_token(endpoint, TOKEN, None) == TOKEN
        return
    with pytest.raises(
        DownloadError, match=r"is plain http: whoever is on the way could read the token$"
    ) as caught:
        choose_token(endpoint, TOKEN, None)
    assert TOKEN not in str(caught.value)
    assert choose_token(endpoint, None, TOKEN) is None


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("hub.example.com", "https://hub.example.com"),
        ("https://Hub.Example.com:443/", "https://hub.example.com"),
        ("http://h:80/a/b/", "http://h/a/b"),
        (" https://h:8443 ", "https://h:8443"),
    ],
)
def test_an_endpoint_is_brought_to_one_spelling(given: str, address: str) -> None:
    assert read_endpoint(given).address == address


@pytest.mark.parametrize(
    "given",
    [
        f"https://me:{TOKEN}@h",
        f"https://{TOKEN}@h",
        f"https://h/?t={TOKEN}",
        f"https://h/#{TOKEN}",
        f"ftp://{TOKEN}",
        f"https://good\\@evil/{TOKEN}",
        f"https://h\n{TOKEN}",
        f"https:///{TOKEN}",
        f"https://h:99999/{TOKEN}",
        f"https://h:x/{TOKEN}",
        f"https://ħ/{TOKEN}",
        f"https://h/../{TOKEN}\x1b[2J",
    ],
)
def test_an_endpoint_that_is_no_plain_address_is_refused_without_being_repeated(given: str) -> None:
    with pytest.raises(DownloadError) as caught:
        read_endpoint(given)
    assert TOKEN not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "value",
    [
        *(f"{TOKEN}{end}" for end in ("\n", "\r\nX-Evil: 1", " x", "é", "\x7f", ";a=b", "\t", "\u202e", ",b")),
        f" {TOKEN}",
        f'"{TOKEN}"',
        TOKEN * 400,
    ],
)
def test_what_is_no_token_is_refused_without_being_repeated(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ODD_TOKEN", value)
    result = invoke(tmp_path, "--token-env", "ODD_TOKEN")
    assert result.exit_code == 1
    assert result.output == (
        "Error: the environment variable ODD_TOKEN holds something that is no token: "
        "a token is one word of ASCII letters, digits and signs\n"
        "  Try: look for a line end, a space or a quote in it, and copy the token again\n"
    )
    assert hub.requests == []
    with pytest.raises(DownloadError):
        monkeypatch.setenv("MODELSCOPE_API_TOKEN", value)
        choose_token(read_endpoint("https://modelscope.cn"), None, None)
    assert read_token(None) is None


def answer_token(handler: BaseHTTPRequestHandler) -> None:
    body = json.dumps({"Code": 400, "Message": f"{TOKEN} refused", "RequestId": TOKEN, "Data": TOKEN}).encode()
    handler.send_response(400, TOKEN)
    handler.send_header(f"X-{TOKEN}", TOKEN)
    handler.send_header("Set-Cookie", f"a={TOKEN}; Domain=127.0.0.1")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("on", ["list", "file"])
def test_a_token_that_the_hub_repeats_is_not_shown(hub: Hub, tmp_path: Path, on: str) -> None:
    hub.add("o/set", {"a": b"a"})
    hub.fail(on, answer=answer_token)
    result = invoke(tmp_path, "--token-env", "TEAM_TOKEN", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the hub finds the request invalid (400)" in result.stderr
    assert TOKEN not in f"{result.output} {result.exception!r} {result.exc_info!r}"
    assert written_anywhere(tmp_path) == []


@pytest.mark.parametrize("field", ["Path", "Revision", "Size", "Sha256", "Name"])
def test_a_listing_that_repeats_the_token_is_refused(hub: Hub, tmp_path: Path, field: str) -> None:
    hub.add("o/set", {"a": b"a"})
    hub.repositories["dataset", "o/set"].edit_listing = lambda entries: [
        {**entry, field: f"x{TOKEN}"} for entry in entries
    ]
    result = invoke(tmp_path, "--token-env", "TEAM_TOKEN")
    assert result.output == (
        "Error: o/set: the listing repeats the token\n  Try: tell whoever runs the hub, and make a new token\n"
    )
    assert written_anywhere(tmp_path) == []


def test_a_revision_that_repeats_the_token_is_masked(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a"})
    hub.repositories["dataset", "o/set"].tags[TOKEN] = "x"
    result = invoke(tmp_path, "--token-env", "TEAM_TOKEN", "--revision", "v9")
    assert result.stderr.startswith("Error: o/set at v9 lists no files; its revisions are ***, master\n")


def test_a_proxy_does_not_see_the_token_of_a_plain_endpoint(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("o/set", {"a": b"a"})
    with serve_hub() as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        assert invoke(tmp_path, "--token-env", "TEAM_TOKEN").exit_code == 0
        assert proxy.requests == []


def test_the_client_is_never_given_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from prep.hub.client import DownloadOptions
    from prep.hub.modelscope import ModelScopeHub as Client

    client = Client(DownloadOptions(token=TOKEN))
    seen: list[object] = [client._api, client._api.legacy, client._api._config, client._api.downloader]
    assert TOKEN not in " ".join(str(vars(thing)) if hasattr(thing, "__dict__") else repr(thing) for thing in seen)


def test_an_own_hub_is_not_let_ask_other_addresses_through_us(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_INTRA_CLOUD", "true")
    hub.add("o/set", {"a": b"a"})
    assert invoke(tmp_path).exit_code == 0
    assert [path for path, _, _ in hub.requests if "internalAccelerationInfo" in path] == []


def test_an_endpoint_is_a_pair_of_texts() -> None:
    assert Endpoint("https://h/a", "https://h") == read_endpoint("https://h/a")
