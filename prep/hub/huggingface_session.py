"""The HTTP session that Hugging Face's client is lent: credentials only where they belong, and bounds.

The rules are the guard's, as for every hub; here they are hung on each request and each answer, redirects included.
"""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prep.hub.client import Progress
from prep.hub.endpoint import HUGGINGFACE, PUBLIC_HUBS
from prep.hub.listing import RemoteFile
from prep.hub.snapshot import hash_stream
from prep.hub.transport import MAX_ANSWER_BYTES, MAX_ERROR_BYTES, Guard

if TYPE_CHECKING:
    import httpx
else:
    from huggingface_hub.utils import _http

    # Since 2.0 the client speaks through httpx2, whose classes have httpx's names.
    httpx = getattr(_http, "httpx2", None) or _http.httpx

_CONNECT_TIMEOUT_S = 10.0
_RETRY_WAITS_S = (0.5, 2.0)
_MAX_DAMAGES = 2
_RETRIED = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)


class RefusedError(Exception):
    """What the guard raises while files are fetched; it keeps the reason itself."""


class DamagedFileError(Exception):
    """A file came with other bytes than listed; `what` is size or sha256."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class StoppedError(Exception):
    """The download has ended otherwise: another file failed, or somebody stopped it."""


class FailedFilesError(Exception):
    """Some files failed, each for its own reason."""

    def __init__(self, failed_files: dict[str, BaseException]) -> None:
        super().__init__(f"{len(failed_files)} files failed")
        self.failed_files = failed_files


# What the client raises when a request fails, or cannot be made.
CLIENT_FAULTS = (httpx.HTTPError, httpx.InvalidURL)
# What ends one file; anything else is a fault of ours.
_OF_A_FILE = (*CLIENT_FAULTS, OSError, DamagedFileError, RefusedError, StoppedError)


def make_session(guard: Guard, read_timeout_s: float, headers: Mapping[str, str]) -> httpx.Client:
    """Return a session under the guard's rules; it knows no credentials of its own."""
    timeout = httpx.Timeout(read_timeout_s, connect=_CONNECT_TIMEOUT_S)
    # A proxy would read a token that goes to a plain http address; None is the direct way.
    mounts: dict[str, Any] = {guard.endpoint.origin: None} if guard.endpoint.origin.startswith("http:") else {}

    def prepare(request: httpx.Request) -> None:
        if request.url.path.endswith("/api/agent-harnesses"):
            raise httpx.ConnectError("nothing is told of this machine")
        _bring_home(request, guard)
        guard.check_time()
        guard.check_address(str(request.url))
        guard.set_credentials(str(request.url), request.headers)
        # The client asks some questions without a limit.
        request.extensions = {**request.extensions, "timeout": timeout.as_dict()}

    return httpx.Client(
        follow_redirects=True,
        timeout=timeout,
        headers=headers,
        mounts=mounts if guard.secrets else None,
        event_hooks={"request": [prepare], "response": [lambda response: _take(response, guard)]},
    )


def _bring_home(request: httpx.Request, guard: Guard) -> None:
    """Ask a mirror for the next page that it says is on huggingface.co: it repeats what the hub answered."""
    origin = f"{request.url.scheme}://{request.url.host}"
    if guard.expects_answers and not guard.endpoint.is_public and origin in PUBLIC_HUBS[HUGGINGFACE.key]:
        request.url = httpx.URL(guard.endpoint.address + request.url.raw_path.decode("ascii"))
        request.headers["Host"] = request.url.netloc.decode("ascii")


def _take(response: httpx.Response, guard: Guard) -> None:
    guard.check_encoding(response.headers.get("Content-Encoding", "identity"))
    guard.check_redirect(response.headers.get("Location") if response.has_redirect_location else None)
    is_answer = response.status_code < 300 and guard.expects_answers
    if response.status_code < 300 and not is_answer:
        return
    body = _read(response, guard, MAX_ANSWER_BYTES if is_answer else MAX_ERROR_BYTES)
    if is_answer:
        guard.check_answer(body)
    response.stream = httpx.ByteStream(body if is_answer else body[:MAX_ERROR_BYTES])
    response.read()


def _read(response: httpx.Response, guard: Guard, limit: int) -> bytes:
    """Read at most a little more than the limit, with an eye on the clock, and let the connection go."""
    body = bytearray()
    # An httpx.Client gives no other.
    stream = cast("httpx.SyncByteStream", response.stream)
    try:
        for block in stream:
            guard.check_time()
            body += block
            if len(body) > limit:
                break
    finally:
        stream.close()
    return bytes(body)


def goes_by_proxy(address: str) -> bool:
    """Tell whether the environment names a proxy for an address."""
    url = httpx.URL(address)
    return url.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(url.host)


class FileFetcher:
    """Fetches files over one session, several at once, each held to its listing before it counts as there."""

    def __init__(
        self, session: httpx.Client, raise_for_status: Callable[[httpx.Response], None], progress: Progress
    ) -> None:
        self._session = session
        self._progress = progress
        self._stopped = threading.Event()
        self._raise_for_status = raise_for_status

    def fetch_all(self, addresses: Iterable[tuple[RemoteFile, str, Path]], jobs: int) -> None:
        """Fetch each file from its address to its path; after one that failed no other is begun.

        Raises: FailedFilesError; or what is no fault of a file.
        """
        waiting = iter(list(addresses))
        lock = threading.Lock()
        failed: dict[str, BaseException] = {}

        def work() -> None:
            while not failed and not self._stopped.is_set():
                with lock:
                    task = next(waiting, None)
                if task is None:
                    return
                try:
                    self._fetch(*task)
                except BaseException as error:  # noqa: BLE001
                    # Raised by the thread that waits.
                    failed[task[0].path] = error

        # Daemons: one that waits for a hub that never ends its answer must not keep the process.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.05)
        finally:
            self._stopped.set()
        for error in failed.values():
            if not isinstance(error, _OF_A_FILE):
                raise error
        if failed:
            raise FailedFilesError(failed)

    def _fetch(self, file: RemoteFile, address: str, path: Path) -> None:
        """Fetch one file, going on where it broke off; a file that came damaged is fetched anew."""
        attempts, damages, arrived = 0, 0, -1
        try:
            while True:
                try:
                    self._fetch_rest(file, address, path)
                    self._check(file, path)
                    return
                except DamagedFileError:
                    path.unlink(missing_ok=True)
                    damages, arrived = damages + 1, -1
                    if damages == _MAX_DAMAGES:
                        raise
                except httpx.HTTPError as error:
                    if not isinstance(error, _RETRIED) and not _is_passing(error):
                        raise
                    before, arrived = arrived, _measure(path)
                    attempts = 1 if arrived > before >= 0 else attempts + 1
                    if attempts > len(_RETRY_WAITS_S):
                        raise
                    if self._stopped.wait(_RETRY_WAITS_S[attempts - 1]):
                        raise StoppedError from error
        finally:
            self._progress.show(lambda view: view.finish(file.path))

    def _fetch_rest(self, file: RemoteFile, address: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        offset = _measure(path)
        if offset > file.size:
            path.unlink()
            offset = 0
        self._progress.restart(file.path, file.size)
        if file.size == offset:
            path.touch()
            return
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._session.stream("GET", address, headers=headers) as response:
            self._raise_for_status(response)
            if response.status_code not in (200, 206):
                raise DamagedFileError("size")
            if offset and response.status_code != 206:
                offset = 0
            with path.open("r+b" if offset else "wb") as out:
                out.seek(offset)
                self._progress.advance(file.path, file.size, offset, received=0)
                for block in response.iter_raw():
                    if self._stopped.is_set():
                        raise StoppedError
                    offset += len(block)
                    if offset > file.size:
                        raise DamagedFileError("size")
                    out.write(block)
                    out.flush()
                    self._progress.advance(file.path, file.size, len(block), received=len(block))
        if offset < file.size:
            raise DamagedFileError("size")

    def _check(self, file: RemoteFile, path: Path) -> None:
        """Raise DamagedFileError unless the file on the disk is the listed one."""
        with path.open("rb") as stream:
            if not hash_stream(stream, file).fits(file):
                raise DamagedFileError("sha256")


def ask_again(question: Callable[[], Any]) -> Any:
    """Return the answer to a question, asked again when the hub fails or breaks off."""
    for wait_s in _RETRY_WAITS_S:
        try:
            return question()
        except httpx.HTTPError as error:
            if not isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) and not _is_passing(error):
                raise
        time.sleep(wait_s)
    return question()


def _is_passing(error: httpx.HTTPError) -> bool:
    """Tell whether a hub's refusal is its own failure, which may be over when it is asked again."""
    response = getattr(error, "response", None)
    return response is not None and (response.status_code >= 500 or response.status_code == 408)


def _measure(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
