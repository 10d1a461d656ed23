"""What a hub sends is bounded in memory and time, and what goes wrong is told by its cause."""

import errno
import gzip
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.hub.client_errors import describe_client_error
from tests.support.lfc_runs import measure
from tests.support.modelscope_server import Hub

ROOT = Path(__file__).parents[3]
VARIABLES = {"ms:": "MODELSCOPE_ENDPOINT", "hf:": "HF_ENDPOINT"}


@pytest.fixture(params=["ms:", "hf:"])
def hub(hub: Hub, huggingface: Hub, request: pytest.FixtureRequest) -> Hub:
    """Each hub in turn: what one may not do, the other may not either."""
    return hub if request.param == "ms:" else huggingface


only_modelscope = pytest.mark.parametrize("hub", ["ms:"], indirect=True)


def invoke(hub: Hub, folder: Path, *arguments: str) -> Result:
    command = ["prep", "download", f"{hub.prefix}o/set", "--to", str(folder), *arguments]
    return CliRunner().invoke(lfc, command, prog_name="lfc")


def answer_json(body: bytes, *headers: tuple[str, str], length: int | None = None) -> Callable[..., None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def trickle(*, headers_too: bool) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send one byte now and then, forever."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if headers_too:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    return answer


def make_page(count: int, start: int = 0) -> bytes:
    files = [
        {"Path": f"part/{number:09}.txt", "Type": "blob", "Size": 1, "Sha256": "a" * 64, "Revision": "c" * 40}
        for number in range(start, start + count)
    ]
    return json.dumps({"Code": 200, "Success": True, "Data": {"Files": files}}).encode()


def answer_full_page(handler: BaseHTTPRequestHandler) -> None:
    """Answer each page with files that no page had before: the listing never ends."""
    if "/tree/" in handler.path:
        number = int(handler.path.partition("cursor=")[2].partition("&")[0] or 0)
        entries = [
            {"type": "file", "path": f"{number:09}/{file:06}", "size": 1, "oid": "a" * 40} for file in range(1000)
        ]
        link = f'<http://{handler.headers["Host"]}{handler.path.partition("?")[0]}?cursor={number + 1}>; rel="next"'
        answer_json(json.dumps(entries).encode(), ("Link", link))(handler)
        return
    number = int(handler.path.partition("PageNumber=")[2].partition("&")[0])
    answer_json(make_page(200, number * 200))(handler)


NESTED = b'{"Data":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
BOMB = gzip.compress(b" " * (64 << 20))
TOO_MUCH = "{hub} answers with more than a page of a listing can hold"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (answer_json(b"[" + b"0," * (50 << 20) + b"0]"), TOO_MUCH),
        (answer_json(b'{"Data": {"Files": [' + b"{}," * 800_000 + b"{}]}}"), TOO_MUCH),
        (answer_json(b" " * (9 << 20)), TOO_MUCH),
        (answer_json(NESTED), "{hub} answers with JSON of no end of levels"),
        (answer_json(BOMB, ("Content-Encoding", "gzip")), "{hub} answers packed (gzip), and was asked not to"),
        (
            answer_json(BOMB, ("Content-Encoding", "br, gzip")),
            "{hub} answers packed (br, gzip), and was asked not to",
        ),
        (answer_full_page, "{hub} lists more than 64 MiB of file names"),
    ],
    ids=["100 MB", "many values", "9 MB of spaces", "nested", "gzip", "two encodings", "no last page"],
)
def test_an_answer_without_bounds_is_one_line_in_little_memory_and_time(
    hub: Hub, tmp_path: Path, answer: Callable[[Any], None], message: str
) -> None:
    hub.add("o/set", {"a": b"a"})
    hub.fail("list", answer=answer)
    started = time.monotonic()
    done = measure("download", f"{hub.prefix}o/set", "--to", tmp_path)
    assert done.code == 1
    assert done.said.splitlines()[0] == f"Error: {message.format(hub=hub.endpoint)}"
    assert len(done.said.splitlines()) == 2
    assert done.peak_mib < 400
    assert time.monotonic() - started < 120
    assert list(tmp_path.iterdir()) == []


@only_modelscope
def test_a_page_that_comes_again_and_again_is_no_listing(hub: Hub, tmp_path: Path) -> None:
    hub.fail("list", answer=answer_json(make_page(200)), times=2)
    hub.fail("list", answer=answer_json(make_page(199)), times=1)
    result = invoke(hub, tmp_path)
    assert result.stderr.startswith("Error: o/set: the listing names 'part/000000000.txt' twice\n")


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="signals of POSIX")
@pytest.mark.parametrize("headers_too", [False, True], ids=["body", "headers"])
@pytest.mark.parametrize("on", ["list", "revisions"])
def test_a_hub_that_trickles_an_answer_is_left_in_time(
    hub: Hub, tmp_path: Path, headers_too: bool, on: str
) -> None:
    hub.add("o/set", {"a": b"a"} if on == "list" else {})
    arguments = []
    if on == "revisions" and hub.prefix == "hf:":
        on, arguments = "refs", ["--revision", "v9"]
    hub.fail(on, answer=trickle(headers_too=headers_too))
    started = time.monotonic()
    result = invoke(hub, tmp_path, "--timeout", "2", *arguments)
    assert result.stderr.endswith(
        f"Error: {hub.endpoint} did not answer in full within 2 seconds\n"
        "  Try: run the same command again later, or with a larger --timeout\n"
    )
    assert (result.exit_code, time.monotonic() - started < 8) == (1, True)


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="signals of POSIX")
@pytest.mark.parametrize("headers_too", [False, True], ids=["body", "headers"])
def test_a_hub_that_trickles_a_file_is_left_in_time(hub: Hub, tmp_path: Path, headers_too: bool) -> None:
    hub.add("o/set", {"a": b"a" * 100_000})
    hub.fail("file", answer=trickle(headers_too=headers_too))
    started = time.monotonic()
    result = invoke(hub, tmp_path, "--timeout", "2")
    assert result.stderr.endswith(
        f"Error: {hub.endpoint} has sent next to nothing for 2 seconds\n"
        "  Try: run the same command again: what has arrived is kept; --timeout waits longer\n"
    )
    assert (result.exit_code, time.monotonic() - started < 8) == (1, True)
    hub.faults.clear()
    assert invoke(hub, tmp_path).exit_code == 0


def test_a_slow_but_steady_hub_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a" * 30_000})
    hub.bytes_per_s = 8_000
    assert invoke(hub, tmp_path, "--timeout", "1").exit_code == 0


def redirect_to(location: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", location or handler.path)
        handler.send_header("Connection", "close")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("", "redirects without end"),
        ("file:///etc/passwd", "redirects to what is no web address"),
        ("http://[::1", "redirects to what is no web address"),
        ("http://", "redirects to what is no web address"),
        ("http://a:99999/", "redirects to what is no web address"),
    ],
)
@pytest.mark.parametrize("on", ["list", "file"])
def test_a_redirect_that_leads_nowhere_is_one_line(
    hub: Hub, tmp_path: Path, location: str, message: str, on: str
) -> None:
    hub.add("o/set", {"a": b"a"})
    hub.fail(on, answer=redirect_to(location))
    result = invoke(hub, tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {hub.endpoint} {message}\n  Try: check --endpoint, or run again later\n"


@pytest.mark.parametrize(("length", "body"), [(10, b"0123456789more"), (20, b"short"), (-1, b"x"), (0, b"xxxxx")])
def test_a_length_that_lies_is_never_a_file(hub: Hub, tmp_path: Path, length: int, body: bytes) -> None:
    hub.add("o/set", {"a": b"right body"})
    hub.fail("file", answer=answer_json(body, length=length))
    result = invoke(hub, tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: o/set: 'a': ")
    assert not (tmp_path / "set").exists()


def test_a_packed_file_is_not_unpacked(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a"})
    hub.fail("file", answer=answer_json(BOMB, ("Content-Encoding", "gzip")))
    result = invoke(hub, tmp_path)
    assert result.stderr.startswith(f"Error: {hub.endpoint} answers packed (gzip), and was asked not to\n")


# Causes


def test_a_proxy_that_is_not_there_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", f"http://me:secret-word@127.0.0.1:{find_closed_port()}")
    result = invoke(hub, tmp_path)
    assert result.output == (
        f"Error: o/set: the proxy cannot be reached, or refuses ({hub.endpoint})\n"
        "  Try: check HTTPS_PROXY and HTTP_PROXY; NO_PROXY=HOST goes around it\n"
    )


def test_a_server_without_tls_is_named(hub: Hub, tmp_path: Path) -> None:
    address = hub.endpoint.replace("http:", "https:")
    result = invoke(hub, tmp_path, "--endpoint", address)
    assert result.stderr.startswith(f"Error: o/set: the hub's certificate cannot be trusted (TLS) ({address})\n")


def test_a_host_that_no_name_server_knows_is_named(hub: Hub, tmp_path: Path) -> None:
    result = invoke(hub, tmp_path, "--endpoint", "https://no-such-host.invalid")
    assert result.stderr == (
        "Error: o/set: the hub's name is unknown (DNS) (https://no-such-host.invalid)\n"
        f"  Try: check the network and the host in --endpoint or {VARIABLES[hub.prefix]}\n"
    )


def find_closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_without_room_is_told_from_one_without_permission(number: int) -> None:
    what, hint = describe_client_error(OSError(number, os.strerror(number)))
    assert what == f"cannot be written: {os.strerror(number).lower()}"
    assert hint == "free some disk space or choose another --to; what has arrived is kept"
    what, hint = describe_client_error(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/a"))
    assert (what, hint) == (
        "cannot be written: permission denied",
        "choose a --to that you may write to; what has arrived is kept",
    )


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="limits of POSIX")
def test_a_real_limit_of_the_disk_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a" * 3_000_000})
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "from launch.cli import lfc; lfc(['prep', 'download', sys.argv[2], '--to', sys.argv[1]])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), f"{hub.prefix}o/set"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (
        1,
        f"Error: o/set: 'a': cannot be written: file too large ({hub.endpoint})\n"
        "  Try: free some disk space or choose another --to; what has arrived is kept\n",
    )


# Progress


def test_a_view_that_fails_is_a_fault_of_ours_and_fetches_nothing_twice(hub: Hub, tmp_path: Path) -> None:
    from prep.hub.catalog import resolve_names
    from prep.hub.client import DownloadOptions, NoProgress
    from prep.hub.download import download_repositories

    class BrokenView(NoProgress):
        def advance(self, path: str, size: int, byte_count: int) -> None:
            raise ZeroDivisionError

    hub.add("o/set", {"a": b"a", "b": b"b"})
    with pytest.raises(ZeroDivisionError):
        download_repositories(
            resolve_names([f"{hub.prefix}o/set"], "dataset"), tmp_path, DownloadOptions(), BrokenView()
        )
    assert sum("resolve" in path or path.endswith("/repo") for path, _, _ in hub.requests) == 2
    assert not (tmp_path / "set").exists()


@only_modelscope
def test_a_client_that_says_done_without_the_file_is_not_believed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelscope_hub import HubApi

    hub.add("o/set", {"a": b"a"})
    monkeypatch.setattr(HubApi, "download_repo", lambda *arguments, **named: tmp_path)
    result = invoke(hub, tmp_path)
    assert result.exit_code == 1
    assert "/files/a was not written\n" in result.stderr
    assert not (tmp_path / "set").exists()
