"""A ModelScope hub on 127.0.0.1 for the tests: listings, files, revisions, and every way in which they go wrong.

It speaks to the real client. Importing this module sets the client's environment so that it does not wait
between retries; the client reads that when it is imported.
"""

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

CLIENT_ENVIRONMENT = {
    "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
    "MODELSCOPE_DOWNLOAD_RETRY_MAX_DELAY_SECONDS": "1",
    "MODELSCOPE_REPO_TREE_PAGE_RETRY_MAX_DELAY_SECONDS": "1",
    "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "3",
    "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "3",
    "MODELSCOPE_DOWNLOAD_TIMEOUT": "10",
    "NO_PROXY": "127.0.0.1,127.0.0.2,localhost",
    "no_proxy": "127.0.0.1,127.0.0.2,localhost",
}
os.environ.update(CLIENT_ENVIRONMENT)

MEDICAL_REPOSITORY = "krisfu/delicate_medical_r1_data"
FINETOME_REPOSITORY = "AI-ModelScope/FineTome-100k"
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class PatternBody:
    """A file of any size that is never in memory as a whole: 64 KiB blocks that carry their own number."""

    size: int

    def read(self, start: int, count: int) -> bytes:
        number, offset = divmod(start, _BLOCK_BYTES)
        block = (b"%015d\n" % number) * (_BLOCK_BYTES // 16)
        return block[offset : offset + min(count, self.size - start)]

    def sha256(self) -> str:
        digest, done = hashlib.sha256(), 0
        while done < self.size:
            block = self.read(done, _BLOCK_BYTES)
            digest.update(block)
            done += len(block)
        return digest.hexdigest()


@dataclass(frozen=True)
class BytesBody:
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, start: int, count: int) -> bytes:
        return self.content[start : start + count]

    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


Body = PatternBody | BytesBody


@dataclass
class Fault:
    """One thing that goes wrong: on listings ("list"), files ("file") or revisions ("revisions").

    Without `times` it goes wrong forever. `status` answers an error; `payload` answers these bytes with
    200; `cut_after` drops the connection after so many bytes of an answer; `flip` damages one byte;
    `drop_tail` serves so many bytes less, and says so in Content-Length; `redirect` answers 302;
    `answer` writes whatever it likes to the connection.
    """

    on: str
    path: str | None = None
    times: int | None = None
    status: int = 200
    message: str = "made to fail"
    payload: bytes | None = None
    cut_after: int | None = None
    flip: bool = False
    drop_tail: int = 0
    redirect: str | None = None
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None


@dataclass
class Repository:
    """Commits in order; `edit_listing` may falsify what is listed."""

    commits: dict[str, dict[str, Body]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    edit_listing: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list

    def find_commit(self, revision: str) -> str | None:
        if revision == "master":
            return next(reversed(self.commits), None)
        return self.tags.get(revision) or (revision if revision in self.commits else None)

    def list_files(self, commit: str) -> list[dict[str, Any]]:
        """List a commit's files, each with the commit that changed it last, and its folders."""
        entries: dict[str, dict[str, Any]] = {}
        folders: dict[str, dict[str, Any]] = {}
        names = list(self.commits)
        for number, name in enumerate(names[: names.index(commit) + 1]):
            bodies = self.commits[name]
            entries = {path: entry for path, entry in entries.items() if path in bodies}
            for path, body in bodies.items():
                if path in entries and entries[path]["Sha256"] == body.sha256():
                    continue
                entries[path] = _make_entry(path, "blob", body.size, body.sha256(), name, number)
                for position, character in enumerate(path):
                    if character == "/":
                        folder = path[:position]
                        folders[folder] = _make_entry(folder, "tree", 0, "", name, number)
        return self.edit_listing([*folders.values(), *entries.values()])


def _make_entry(path: str, kind: str, size: int, sha256: str, commit: str, number: int) -> dict[str, Any]:
    return {
        "Name": path.rpartition("/")[2],
        "Path": path,
        "Type": kind,
        "Size": size,
        "Sha256": sha256,
        "Revision": commit,
        "IsLFS": False,
        "Mode": "33188",
        "CommittedDate": 1_700_000_000 + number,
    }


class Hub:
    """The server's content and faults, and every request that it saw as (path, query, headers)."""

    prefix = "ms:"

    def __init__(self) -> None:
        self.endpoint = ""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.bytes_per_s: float | None = None
        self.token: str | None = None
        self.knows_commits = True
        self._lock = threading.Lock()

    def add(self, name: str, bodies: Mapping[str, bytes | PatternBody], *, repo_type: str = "dataset") -> str:
        """Commit these files as a repository's new whole content; return the commit."""
        repository = self.repositories.setdefault((repo_type, name), Repository())
        commit = hashlib.sha1(f"{name}{len(repository.commits)}".encode(), usedforsecurity=False).hexdigest()
        repository.commits[commit] = {
            path: BytesBody(body) if isinstance(body, bytes) else body for path, body in bodies.items()
        }
        return commit

    def fail(self, on: str, **fault: Any) -> None:
        """Add a fault; see Fault."""
        self.faults.append(Fault(on, **fault))

    def take_fault(self, on: str, path: str | None = None) -> Fault | None:
        """Return the fault that this request meets, and count it."""
        with self._lock:
            for fault in self.faults:
                if fault.on == on and fault.path in (None, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def count_requests(self, ending: str) -> int:
        """Return how many requests had a path with this ending."""
        return sum(path.endswith(ending) for path, _, _ in self.requests)


@contextmanager
def serve_hub(host: str = "127.0.0.1") -> Iterator[Hub]:
    """Run a hub on a free port of this machine's own address while the block runs."""
    hub = Hub()
    handler = type("HubHandler", (_Handler,), {"hub": hub})
    server = _Server((host, 0), handler)
    hub.endpoint = f"http://{host}:{server.server_address[1]}"
    with server.serving():
        yield hub


def serve_samples(hub: Hub) -> None:
    """Serve the bundled sample files as the repositories of the named sets `medical-cot` and `finetome`."""
    samples = files("llamafactory_configs") / "samples"
    medical = (samples / "r1_data_example.jsonl").read_bytes()
    finetome = (samples / "finetome_example.parquet").read_bytes()
    hub.add(MEDICAL_REPOSITORY, {"README.md": b"# medical\n", "r1_data_example.jsonl": medical})
    hub.add(FINETOME_REPOSITORY, {"README.md": b"# chat\n", "data/train-00000-of-00001.parquet": finetome})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *request: Any) -> None:
        """Stay silent when a client was killed; anything else is a fault of this server."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*request)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer in a thread while the block runs."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.hub.requests.append((url.path, query, {key.lower(): value for key, value in self.headers.items()}))
        with suppress(BrokenPipeError, ConnectionResetError):
            self._route(url.path.split("/"), query)

    def log_message(self, *args: Any, **named: Any) -> None:
        """Stay silent."""

    def _route(self, parts: list[str], query: dict[str, str]) -> None:
        # /api/v1/{datasets|models}/{owner}/{name}/…
        if len(parts) < 7 or parts[3] not in ("datasets", "models"):
            self._answer_error(404, "record not found")
            return
        repository = self.hub.repositories.get((parts[3].removesuffix("s"), f"{parts[4]}/{parts[5]}"))
        what = {"tree": "list", "files": "list", "repo": "file", "revisions": "revisions"}[parts[-1]]
        fault = self.hub.take_fault(what, query.get("FilePath"))
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._answer_error(401, "user not logged in")
        elif fault and fault.status != 200:
            self._answer_error(fault.status, fault.message)
        elif fault and fault.answer is not None:
            self.close_connection = True
            fault.answer(self)
        elif fault and fault.payload is not None:
            self._answer(200, fault.payload)
        elif fault and fault.redirect:
            self.send_response(302)
            self.send_header("Location", f"{fault.redirect}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif repository is None:
            self._answer_error(404, "record not found")
        elif what == "file":
            self._answer_file(repository, query, fault)
        elif what == "revisions":
            branches = [{"Revision": "master", "CreatedAt": 1}]
            tags = [{"Revision": tag, "CreatedAt": 1} for tag in repository.tags]
            self._answer_data({"RevisionMap": {"Branches": branches, "Tags": tags}}, fault)
        else:
            self._answer_listing(repository, query, fault)

    def _answer_listing(self, repository: Repository, query: dict[str, str], fault: Fault | None) -> None:
        commit = repository.find_commit(query["Revision"])
        if commit is None:
            self._answer_data({"Files": None, "TotalCount": 0}, fault)
            return
        listed = repository.list_files(commit)
        if "PageNumber" in query:
            start = (int(query["PageNumber"]) - 1) * int(query["PageSize"])
            page = listed[start : start + int(query["PageSize"])]
        else:
            page = listed
        self._answer_data({"Files": page, "TotalCount": len(listed), "LatestCommitter": {"Id": commit}}, fault)

    def _answer_data(self, data: dict[str, Any], fault: Fault | None) -> None:
        body = {"Code": 200, "Success": True, "Message": "success", "RequestId": "x", "Data": data}
        self._answer(200, json.dumps(body).encode(), cut_after=fault.cut_after if fault else None)

    def _answer_error(self, status: int, message: str) -> None:
        body = {"Code": status, "Data": None, "Message": message, "Success": False}
        self._answer(status, json.dumps(body).encode())

    def _answer(self, status: int, body: bytes, *, cut_after: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut_after])
        if cut_after is not None:
            self.close_connection = True

    def _answer_file(self, repository: Repository, query: dict[str, str], fault: Fault | None) -> None:
        by_name = self.hub.knows_commits or query["Revision"] not in repository.commits
        commit = repository.find_commit(query["Revision"]) if by_name else None
        body = repository.commits[commit].get(query["FilePath"]) if commit else None
        if body is None:
            self._answer_error(404, "record not found")
            return
        size = body.size - (fault.drop_tail if fault else 0)
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self._send_body(body, start, size, fault)

    def _send_body(self, body: Body, start: int, size: int, fault: Fault | None) -> None:
        position, stop = start, size
        if fault and fault.cut_after is not None:
            stop = min(size, start + fault.cut_after)
        while position < stop:
            # A test may change it on the way.
            bytes_per_s = self.hub.bytes_per_s
            step = _BLOCK_BYTES if bytes_per_s is None else max(1, int(bytes_per_s * 0.02))
            block = body.read(position, min(step, stop - position))
            if fault and fault.flip and position == start:
                block = bytes([block[0] ^ 1]) + block[1:]
            self.wfile.write(block)
            position += len(block)
            if bytes_per_s is not None:
                time.sleep(len(block) / bytes_per_s)
        if stop < size:
            self.close_connection = True
