"""What stands between a hub's client and the network: credentials only where they belong, and bounds.

The client is given no token at all. It is added here, request by request, when the request goes to the hub that
it was named for; whatever the client does with redirects, cookies, caches and logs, there is nothing to leak.
"""

import io
import json
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from prep.errors import DownloadError
from prep.hub.endpoint import MODELSCOPE, Endpoint

# A page of a listing has 200 or 3,000 entries; this is ten times what the largest needs.
MAX_ANSWER_BYTES = 8 << 20
MAX_LISTING_BYTES = 64 << 20
# Values of one answer: what JSON becomes in memory is bounded by them, not by its bytes.
_MAX_VALUES = 400_000
MAX_ERROR_BYTES = 64 << 10
_MAX_REDIRECTS = 10
_BLOCK_BYTES = 64 << 10
_CREDENTIALS = ("Authorization", "Cookie", "Proxy-Authorization")


class Guard:
    """The rules for all requests to one hub. `fault` is the first breach, which the client may have hidden.

    `final_error` is an error after which the client does not try a file again.
    """

    def __init__(self, endpoint: Endpoint, token: str | None, final_error: type[Exception]) -> None:
        self.endpoint = endpoint
        self.fault: DownloadError | None = None
        self._token = token
        self._final_error = final_error
        self._deadline: float | None = None
        self._timeout_s = 0.0
        self._answer_bytes = 0
        self._redirects = threading.local()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return (self._token,) if self._token else ()

    @property
    def expects_answers(self) -> bool:
        """Whether questions are asked now, whose answers are small, and not files fetched."""
        return self._deadline is not None

    @contextmanager
    def expect_answers(self, timeout_s: float) -> Iterator[None]:
        """Bound the answers to the questions of the block: all of them in that time, and in memory."""
        self._deadline, self._timeout_s, self._answer_bytes = time.monotonic() + timeout_s, timeout_s, 0
        try:
            yield
        finally:
            self._deadline = None

    def repeats_secret(self, text: str) -> bool:
        """Tell whether text that came from elsewhere holds the token."""
        return any(secret in text or secret in unquote(text) for secret in self.secrets)

    def breach(self, message: str, hint: str) -> Exception:
        """Keep the first breach; return what to raise, which the client does not try again."""
        self.fault = self.fault or DownloadError(message, hint=hint)
        return self.fault if self.expects_answers else self._final_error(message)

    def check_time(self) -> None:
        """Raise the breach of the time for all answers together."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise self.breach(*explain_slow_answer(self.endpoint.address, self._timeout_s))

    def count_answer(self, byte_count: int) -> None:
        """Count what was answered; raises the breach of the bound for all answers together."""
        self._answer_bytes += byte_count
        if self._answer_bytes > MAX_LISTING_BYTES:
            raise self.breach(
                f"{self.endpoint.address} lists more than {MAX_LISTING_BYTES >> 20} MiB of file names",
                "report it to the repository's owner: it has too many files, or its listing never ends",
            )

    def is_own(self, url: str | None) -> bool:
        """Tell whether a request goes to the hub itself: the same scheme, host and port, letter by letter."""
        return bool(url and url.startswith(f"{self.endpoint.origin}/"))

    def set_credentials(self, url: str, headers: MutableMapping[str, Any]) -> bool:
        """Take every credential out of a request's headers, and add the token when it goes to the hub itself.

        Returns whether the token could be read on the way, as a proxy would.
        """
        for name in _CREDENTIALS:
            headers.pop(name, None)
        headers["Accept-Encoding"] = "identity"
        if not self._token or not self.is_own(url):
            return False
        headers["Authorization"] = f"Bearer {self._token}"
        if self.endpoint.site is MODELSCOPE:
            headers["Cookie"] = f"m_session_id={self._token}"
        return self.endpoint.origin.startswith("http:")

    def check_address(self, url: str) -> None:
        """Raise the breach of an address of another host that holds the token."""
        if not self.is_own(url) and self.repeats_secret(url):
            raise self.breach(
                f"{self.endpoint.address} redirects to an address that holds the token; it was not followed",
                "tell whoever runs the hub, and make a new token",
            )

    def check_encoding(self, encoding: str) -> None:
        """Raise the breach of a packed answer: what it would become has no bound."""
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity"):
            raise self.breach(
                f"{self.endpoint.address} answers packed ({encoding[:40]}), and was asked not to",
                self.endpoint.site.hint,
            )

    def check_redirect(self, location: str | None) -> None:
        """Raise the breach of a redirect that leads nowhere, or one too many: a client would try both again."""
        in_a_row = getattr(self._redirects, "in_a_row", 0) + 1 if location is not None else 0
        self._redirects.in_a_row = in_a_row
        if location is None:
            return
        address = self.endpoint.address
        if in_a_row > _MAX_REDIRECTS:
            self._redirects.in_a_row = 0
            raise self.breach(f"{address} redirects without end", "check --endpoint, or run again later")
        try:
            parts = urlsplit(location if "://" in location else urljoin(f"{address}/", location))
            is_followable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_followable = False
        if not is_followable:
            raise self.breach(
                f"{address} redirects to what is no web address", "check --endpoint, or run again later"
            )

    def check_answer(self, body: bytes) -> None:
        """Raise the breach of an answer that is more than a page of a listing; count it."""
        address, hint = self.endpoint.address, self.endpoint.site.hint
        if len(body) > MAX_ANSWER_BYTES or _count_values(body) > _MAX_VALUES:
            raise self.breach(f"{address} answers with more than a page of a listing can hold", hint)
        self.count_answer(len(body))
        try:
            json.loads(body)
        except RecursionError:
            raise self.breach(f"{address} answers with JSON of no end of levels", hint) from None
        except ValueError:
            # Its reader says so better.
            pass


def explain_slow_answer(address: str, timeout_s: float) -> tuple[str, str]:
    """Return message and hint for a hub that takes too long."""
    return (
        f"{address} did not answer in full within {timeout_s:g} seconds",
        "run the same command again later, or with a larger --timeout",
    )


class GuardedAdapter(BaseAdapter):
    """Sends a request as the adapter inside would, with the token where it belongs and nowhere else."""

    def __init__(self, inside: BaseAdapter, guard: Guard) -> None:
        super().__init__()
        self._inside = inside
        self._guard = guard

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request; raises the guard's breach when it would carry a secret away, or what came is too much."""
        self._guard.check_time()
        self._refuse_unwanted(request)
        # A copy, so that neither a redirect nor an error takes the token along.
        sent = request.copy()
        if self._guard.set_credentials(sent.url or "", sent.headers):
            options["proxies"] = {}
        response = self._inside.send(sent, *arguments, **options)
        response.request = request
        return self._take(response)

    def close(self) -> None:
        """Close the adapter inside."""
        self._inside.close()

    def _refuse_unwanted(self, request: requests.PreparedRequest) -> None:
        url = request.url or ""
        self._guard.check_address(url)
        if url.endswith("/repos/internalAccelerationInfo") and not self._guard.endpoint.is_public:
            # The client would ask any address that the hub names, and tell the hub what it answered.
            raise requests.ConnectionError("only ModelScope's own cloud has it")

    def _take(self, response: requests.Response) -> requests.Response:
        try:
            self._guard.check_encoding(response.headers.get("Content-Encoding", "identity"))
            self._guard.check_redirect(response.headers.get("Location") if response.is_redirect else None)
        except Exception:
            response.close()
            raise
        if response.status_code >= 300:
            return self._hold(response, self._read(response, MAX_ERROR_BYTES)[:MAX_ERROR_BYTES])
        if not self._guard.expects_answers:
            return response
        body = self._read(response, MAX_ANSWER_BYTES)
        self._guard.check_answer(body)
        return self._hold(response, body)

    def _read(self, response: requests.Response, limit: int) -> bytes:
        """Read at most a little more than the limit, with an eye on the clock."""
        raw = response.raw
        read = getattr(raw, "read1", None)
        body = bytearray()
        while len(body) <= limit:
            self._guard.check_time()
            block = read(_BLOCK_BYTES) if read else raw.read(512)
            if not block:
                break
            body += block
        return bytes(body)

    def _hold(self, response: requests.Response, body: bytes) -> requests.Response:
        """Put a body that was read in the connection's place."""
        response.raw.close()
        response.raw = HTTPResponse(
            io.BytesIO(body), headers=response.raw.headers, status=response.status_code, preload_content=False
        )
        return response


def guard_client(client: Any, guard: Guard) -> None:
    """Put the guard before every session of a client; raises DownloadError when it has none."""
    sessions = [value for value in vars(client).values() if isinstance(value, requests.Session)]
    if not sessions:
        raise DownloadError(
            "the installed modelscope-hub is built otherwise than lfc knows",
            hint="pip install 'modelscope-hub~=0.5.0'",
        )
    for session in sessions:
        # No password of a ~/.netrc either.
        session.auth = _add_nothing
        for prefix, adapter in list(session.adapters.items()):
            session.mount(prefix, GuardedAdapter(adapter, guard))


def _add_nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _count_values(body: bytes) -> int:
    return sum(body.count(mark) for mark in (b",", b"{", b"["))
