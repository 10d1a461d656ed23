"""Let a server that speaks OpenAI's protocol answer held-out rows, many at a time.

Each answer is kept as soon as it is there. Keys come from variables, are sent to the endpoint's own host alone, and
stand in no file.
"""

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from launch.evaluation.answer_cache import AnswerFile, make_key
from prep.errors import ConfigError, InputError
from prep.names import check_name
from prep.rows.thinking import CLOSE_TAG, OPEN_TAG
from prep.secrets import mask_text

KEY_VARIABLE = "LFC_ENDPOINT_KEY"
AT_ONCE = 16
_MAX_ANSWER_BYTES = 16 << 20
_TIMEOUT_S = 600.0
_TRIES = 5
_LONGEST_PAUSE_S = 30.0
_POLL_S = 0.25
# What a server may answer that has too much to do, or is only starting.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
# What OpenAI's own protocol does not know; vLLM and SGLang read it.
_EXTRAS = ("top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "do_sample")


@dataclass(frozen=True)
class Endpoint:
    """One server: its name here, the URL that `/chat/completions` is added to, and its model ("" to ask for it)."""

    name: str
    url: str
    model: str = ""

    @property
    def key(self) -> str:
        """The key that is sent, "" for none: of a variable of the endpoint's own, else the one for all."""
        own = f"{KEY_VARIABLE}_{self.name.upper().replace('-', '_').replace('.', '_')}"
        return os.environ.get(own) or os.environ.get(KEY_VARIABLE) or ""


class _TransientError(Exception):
    """The server may answer later; `pause_s` is what it asked for."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class _RefusedExtraError(Exception):
    """The server does not know a key that is not of OpenAI's own protocol."""


def parse_endpoint(text: str) -> Endpoint:
    """Read `NAME=URL` or `NAME=URL#MODEL`; raises ConfigError when it is none."""
    name, equals, address = text.partition("=")
    url, _, model = address.partition("#")
    if not equals or not name:
        raise ConfigError(f"{mask_text(text)} is no endpoint", hint="--endpoint NAME=http://HOST:PORT/v1")
    check_name(name, "--endpoint")
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_right = False
    if not is_right or any(ord(sign) <= 32 for sign in url):
        raise ConfigError(f"endpoint {name} has no URL of a server", hint="--endpoint NAME=http://HOST:PORT/v1")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"endpoint {name} has a user, a password or a query in its URL, which would be kept in the run's files",
            hint=f"put the key into the variable {KEY_VARIABLE}, and leave it out of the URL",
        )
    return Endpoint(name, url.rstrip("/").removesuffix("/chat/completions"), model)


def find_model(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with its model: the one it serves, where the user names none.

    Raises: ConfigError when it serves none or several, InputError when it does not answer.
    """
    if endpoint.model:
        return endpoint
    content = _retry(lambda: _fetch(endpoint, "/models", None), endpoint)
    entries = content.get("data") if isinstance(content, dict) else None
    names = [entry.get("id") for entry in entries or () if isinstance(entry, dict)]
    models = [name for name in names if isinstance(name, str) and name]
    if len(models) != 1:
        shown = ", ".join(models[:10]) or "none"
        raise ConfigError(
            f"endpoint {endpoint.name} serves {len(models)} models: {shown}",
            hint=f"--endpoint {endpoint.name}={endpoint.url}#MODEL",
        )
    return Endpoint(endpoint.name, endpoint.url, models[0])


def write_sampling(overrides: Mapping[str, Any], sampling: Mapping[str, Any], think: bool | None) -> dict[str, Any]:
    """Return what of LLaMA-Factory's generating keys a request says, in OpenAI's words.

    `think` is what a reasoning model is asked for; None leaves that to the server.
    """
    values = {"max_new_tokens": 2048, **sampling, **overrides}
    named = {"max_new_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
    named |= {"repetition_penalty": "repetition_penalty", "do_sample": "do_sample"}
    request = {theirs: values[ours] for ours, theirs in named.items() if values.get(ours) is not None}
    if values.get("do_sample") is False:
        request = {key: value for key, value in request.items() if key not in ("top_p", "top_k")} | {
            "temperature": 0
        }
    if isinstance(values.get("seed"), int):
        request["seed"] = values["seed"]
    return request if think is None else {**request, "chat_template_kwargs": {"enable_thinking": think}}


def ask_endpoint(
    endpoint: Endpoint,
    requests: Sequence[Mapping[str, Any]],
    answers: AnswerFile,
    on_answer: Callable[[int, int], None] = lambda done, total: None,
    *,
    at_once: int = AT_ONCE,
) -> list[str]:
    """Return the answer to each request, in order; `on_answer` hears (done, total) a few times a second.

    Those that `answers` holds are not asked again.
    Raises: InputError when the server does not answer, or answers something else; what it has answered is kept.
    """
    keys = [make_key(request) for request in requests]
    waiting = {key: request for key, request in zip(keys, requests, strict=True) if key not in answers.known}
    asker = _Asker(endpoint)
    total, done = len(waiting), 0
    on_answer(done, total)
    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(asker.ask, request): key for key, request in waiting.items()}
        try:
            while running:
                ended, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                # All that is there is kept before any failure is told.
                failures = [future for future in ended if future.exception()]
                for future in ended:
                    key = running.pop(future)
                    if future not in failures:
                        answers.add(key, future.result())
                        done += 1
                on_answer(done, total)
                for future in failures:
                    future.result()
        except BaseException:
            asker.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [answers.known[key] for key in keys]


class _Asker:
    """Asks one request; remembers once that a server does not know the keys that are not of OpenAI's protocol."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._is_plain = False
        self._is_stopped = False

    def stop(self) -> None:
        """Let no request be sent any more."""
        self._is_stopped = True

    def ask(self, request: Mapping[str, Any]) -> str:
        if self._is_stopped:
            raise InputError(f"endpoint {self._endpoint.name}: stopped")
        if not self._is_plain:
            try:
                return self._send(request)
            except _RefusedExtraError:
                self._is_plain = True
        return self._send({key: value for key, value in request.items() if key not in _EXTRAS})

    def _send(self, request: Mapping[str, Any]) -> str:
        body = {"model": self._endpoint.model, **request, "stream": False}
        content = _retry(lambda: _fetch(self._endpoint, "/chat/completions", body), self._endpoint)
        try:
            return _read_answer(content["choices"][0]["message"])
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"endpoint {self._endpoint.name} answers something that is no completion") from error


def _read_answer(message: Mapping[str, Any]) -> str:
    """Return an answer as a model writes it: its thought in tags, its calls as JSON."""
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    text = message.get("content") or ""
    if not isinstance(text, str) or not isinstance(thought, str):
        raise TypeError("an answer is no text")
    calls = message.get("tool_calls") or ()
    written = [_format_call(call["function"]) for call in calls]
    answer = "\n".join([text, *written] if text else written)
    return f"{OPEN_TAG}\n{thought.strip()}\n{CLOSE_TAG}\n\n{answer.lstrip()}" if thought.strip() else answer


def _format_call(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments") or "{}"
    # What a model wrote wrong is scored as it wrote it.
    with contextlib.suppress(ValueError, RecursionError):
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    call = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def _retry(ask: Callable[[], Any], endpoint: Endpoint) -> Any:
    for number in range(_TRIES):
        try:
            return ask()
        except _TransientError as error:
            if number + 1 == _TRIES:
                raise InputError(
                    f"endpoint {endpoint.name} does not answer: {error}",
                    hint="see that the server runs, then call this again: what it has answered is kept",
                ) from error
            time.sleep(min(_LONGEST_PAUSE_S, error.pause_s or 2.0**number))
    raise AssertionError("unreachable")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Rows and keys go to the host that the user named, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(endpoint: Endpoint, path: str, body: Mapping[str, Any] | None) -> Any:
    """Ask the server once; raises _TransientError, _RefusedExtraError or InputError."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    request = urllib.request.Request(endpoint.url + path, data, headers)  # noqa: S310 - http or https, checked
    try:
        with _open(endpoint.url).open(request, timeout=_TIMEOUT_S) as response:
            content = response.read(_MAX_ANSWER_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise _judge(endpoint, error, body or {}) from error
    except (OSError, EOFError, ValueError) as error:
        # Connections refused or lost, a reading that takes too long, an answer that is cut off.
        raise _TransientError(_tell(str(getattr(error, "reason", error)), endpoint)) from error
    if len(content) > _MAX_ANSWER_BYTES:
        raise InputError(f"endpoint {endpoint.name}: an answer is larger than {_MAX_ANSWER_BYTES >> 20} MiB")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"endpoint {endpoint.name} answers something that is no JSON") from error


def _open(url: str) -> urllib.request.OpenerDirector:
    host = urlsplit(url).hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    # A proxy does not reach a server on this machine.
    proxies = [urllib.request.ProxyHandler({})] if is_here else []
    return urllib.request.build_opener(_NoRedirect, *proxies)


def _judge(endpoint: Endpoint, error: urllib.error.HTTPError, body: Mapping[str, Any]) -> Exception:
    """Return what an answer with an error's status is raised as."""
    said = _tell(error.read(2_000).decode("utf-8", "replace").strip() or str(error.reason), endpoint)
    if error.code in _PASSING:
        return _TransientError(f"{error.code}: {said}", _read_pause(error.headers.get("Retry-After")))
    if error.code in (400, 422) and any(key in body for key in _EXTRAS):
        return _RefusedExtraError(said)
    hints = {
        401: f"put the key into the variable {KEY_VARIABLE}",
        403: f"put the key into the variable {KEY_VARIABLE}",
        404: "the URL ends before /chat/completions, most often with /v1; #MODEL names the model",
    }
    return InputError(f"endpoint {endpoint.name} refuses: {error.code}: {said}", hint=hints.get(error.code))


def _read_pause(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0


def _tell(said: str, endpoint: Endpoint) -> str:
    """Return what a server said, without the key, should it repeat it."""
    return mask_text(said[:500], tuple(secret for secret in (endpoint.key,) if secret))


def refuse_same_names(endpoints: Iterable[Endpoint], taken: Iterable[str]) -> None:
    """Raise ConfigError when two of the models compared would have one name."""
    names = [*taken, *(endpoint.name for endpoint in endpoints)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two of the models compared would be called '{name}'", hint="rename the endpoint")
