"""Servers that answer, that answer late, and that answer wrong things: a small one of our own plays them."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from launch.evaluation import endpoints
from launch.evaluation.answer_cache import AnswerFile
from launch.evaluation.endpoints import Endpoint, ask_endpoint, find_model, parse_endpoint, write_sampling
from prep.errors import ConfigError, InputError

REQUESTS = [{"messages": [{"role": "user", "content": f"question {number}"}]} for number in range(6)]
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


def complete(message: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"role": "assistant", **message}}]}


class Server:
    """Answers as `answer` says; `seen` are the bodies, `headers` those of the last request."""

    def __init__(self) -> None:
        self.answer: Answer = lambda body: complete({"content": "to " + body["messages"][-1]["content"]})
        self.models: Any = {"data": [{"id": "one"}]}
        self.seen: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send(200, server.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                    server.seen.append(body)
                    server.headers = dict(self.headers)
                try:
                    self.send(*server.answer(body))
                finally:
                    with server._lock:
                        server._now -= 1

            def send(self, status: int, value: Any) -> None:
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("mine", f"http://127.0.0.1:{self.http.server_port}/v1", "one")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoints, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.delenv(endpoints.KEY_VARIABLE, raising=False)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def kept(tmp_path: Path) -> AnswerFile:
    return AnswerFile(tmp_path / "answers.jsonl")


def test_answers_come_in_the_order_of_the_rows_many_at_a_time(server: Server, kept: AnswerFile) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        text = body["messages"][-1]["content"]
        time.sleep(0.2 - 0.03 * int(text[-1]))
        return complete({"content": text})

    server.answer = answer
    heard: list[tuple[int, int]] = []
    found = ask_endpoint(
        server.endpoint, REQUESTS, kept, lambda done, total: heard.append((done, total)), at_once=3
    )
    assert found == [f"question {number}" for number in range(6)]
    assert 1 < server.most_at_once <= 3
    assert heard[0] == (0, 6)
    assert heard[-1] == (6, 6)


def test_what_was_answered_is_not_asked_again(server: Server, kept: AnswerFile) -> None:
    ask_endpoint(server.endpoint, REQUESTS[:4], kept)
    server.seen.clear()
    with kept.path.open("a", encoding="utf-8") as stream:
        stream.write('{"key": "half a li')
    again = AnswerFile(kept.path)
    assert len(ask_endpoint(server.endpoint, REQUESTS, again)) == 6
    assert len(server.seen) == 2
    assert len(AnswerFile(kept.path).known) == 6


def test_a_failure_keeps_what_was_answered_before_it(server: Server, kept: AnswerFile) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        is_last = body["messages"][-1]["content"] == "question 5"
        return (404, {"error": "no such model"}) if is_last else complete({"content": "a"})

    server.answer = answer
    with pytest.raises(InputError, match=r"mine refuses: 404: .*no such model") as error:
        ask_endpoint(server.endpoint, REQUESTS, kept, at_once=1)
    assert "/v1" in str(error.value.hint)
    assert len(AnswerFile(kept.path).known) == 5


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_has_too_much_to_do_is_asked_again(server: Server, kept: AnswerFile, status: int) -> None:
    server.answer = lambda body: (status, b"later") if len(server.seen) < 4 else complete({"content": "a"})
    assert ask_endpoint(server.endpoint, REQUESTS[:1], kept) == ["a"]
    assert len(server.seen) == 4


def test_a_server_that_never_answers_is_told_with_what_it_said(server: Server, kept: AnswerFile) -> None:
    server.answer = lambda body: (503, b"still loading")
    with pytest.raises(InputError, match="mine does not answer: 503: still loading"):
        ask_endpoint(server.endpoint, REQUESTS[:1], kept)


def test_a_server_that_knows_openais_protocol_alone_gets_that(server: Server, kept: AnswerFile) -> None:
    server.answer = lambda body: (400, b"unknown top_k") if "top_k" in body else complete({"content": "a"})
    sampling = write_sampling({}, {"temperature": 0.6, "top_k": 20}, True)
    assert ask_endpoint(server.endpoint, [{**REQUESTS[0], **sampling}], kept) == ["a"]
    assert server.seen[0]["chat_template_kwargs"] == {"enable_thinking": True}
    assert set(server.seen[1]) == {"model", "messages", "max_tokens", "temperature", "stream"}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "A"}, "A"),
        ({"content": "A", "reasoning_content": "T"}, "<think>\nT\n</think>\n\nA"),
        ({"content": "\n\nA", "reasoning": "T\n"}, "<think>\nT\n</think>\n\nA"),
        ({"content": None, "reasoning_content": None}, ""),
        (
            {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]},
            '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
        ),
        (
            {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{no"}}]},
            '<tool_call>\n{"name": "f", "arguments": "{no"}\n</tool_call>',
        ),
    ],
)
def test_an_answer_is_what_the_model_itself_would_write(
    server: Server, kept: AnswerFile, message: dict[str, Any], text: str
) -> None:
    server.answer = lambda body: complete(message)
    assert ask_endpoint(server.endpoint, REQUESTS[:1], kept) == [text]


@pytest.mark.parametrize(
    "content",
    [
        *(b"no JSON", b"{}", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": [1]}}]}'),
        *(b"[" * 100_000, b'{"choices": [{"message": {"content": "a", "tool_calls": 7}}]}', b"null"),
    ],
)
def test_an_answer_that_is_no_completion_is_one_error(server: Server, kept: AnswerFile, content: bytes) -> None:
    server.answer = lambda body: (200, content)
    with pytest.raises(InputError, match="mine answers something that is no"):
        ask_endpoint(server.endpoint, REQUESTS[:1], kept)


def test_an_answer_without_end_is_not_read_to_its_end(
    server: Server, kept: AnswerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "_MAX_ANSWER_BYTES", 1 << 20)
    server.answer = lambda body: (200, b" " * (3 << 20))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        ask_endpoint(server.endpoint, REQUESTS[:1], kept)


def test_the_key_goes_to_the_server_and_into_no_message(
    server: Server, kept: AnswerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(endpoints.KEY_VARIABLE, "for-all")
    monkeypatch.setenv(endpoints.KEY_VARIABLE + "_MINE", "canary-0123456789")
    server.answer = lambda body: (403, f"bad key {server.headers['Authorization']}".encode())
    with pytest.raises(InputError, match="403") as error:
        ask_endpoint(server.endpoint, REQUESTS[:1], kept)
    assert server.headers["Authorization"] == "Bearer canary-0123456789"
    assert "canary" not in str(error.value)
    assert endpoints.KEY_VARIABLE in str(error.value.hint)


def test_nothing_is_sent_where_a_server_points_to(server: Server, kept: AnswerFile) -> None:
    server.answer = lambda body: (302, b"")
    with pytest.raises(InputError, match="refuses: 302"):
        ask_endpoint(server.endpoint, REQUESTS[:1], kept)


def test_the_model_is_asked_for_where_there_is_one(server: Server) -> None:
    endpoint = Endpoint("mine", server.endpoint.url)
    assert find_model(endpoint).model == "one"
    server.models = {"data": [{"id": "one"}, {"id": "two"}]}
    with pytest.raises(ConfigError, match="serves 2 models: one, two") as error:
        find_model(endpoint)
    assert str(error.value.hint).endswith("#MODEL")


@pytest.mark.parametrize(
    ("text", "url", "model"),
    [
        ("a=http://h:1/v1", "http://h:1/v1", ""),
        ("a=https://h/v1/", "https://h/v1", ""),
        ("a=http://h/v1/chat/completions#Qwen/Qwen3-4B", "http://h/v1", "Qwen/Qwen3-4B"),
        ("a=http://[::1]:8000/v1", "http://[::1]:8000/v1", ""),
    ],
)
def test_an_endpoint_is_a_name_a_url_and_maybe_a_model(text: str, url: str, model: str) -> None:
    assert parse_endpoint(text) == Endpoint("a", url, model)


@pytest.mark.parametrize(
    "text",
    [
        *("http://h/v1", "=http://h", "a=", "a=h:8000", "a=file:///etc/passwd", "a=http://", "a=http://h:x/v1"),
        *("a=ftp://h", "a=http://u:p@h/v1", "a=http://h/v1?api_key=canary", "../a=http://h/v1", "a=http://h /v1"),
        "a=http://[::1/v1",
    ],
)
def test_what_is_no_endpoint_is_refused_without_showing_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_endpoint(text)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "request_"),
    [
        (
            {"do_sample": False, "top_k": 20, "max_new_tokens": 8},
            {"max_tokens": 8, "do_sample": False, "temperature": 0},
        ),
        ({"temperature": 0.7, "seed": 3}, {"max_tokens": 2048, "temperature": 0.7, "seed": 3}),
    ],
)
def test_generating_keys_are_said_in_openais_words(values: dict[str, Any], request_: dict[str, Any]) -> None:
    assert write_sampling(values, {}, None) == request_
