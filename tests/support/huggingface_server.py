"""A Hugging Face hub on 127.0.0.1 for the tests: revisions, trees by pages, files, refs, and how they go wrong.

It speaks to the real client, with the same bodies and faults as the ModelScope hub beside it: "revision", "list"
(a page of the tree), "file" and "refs".
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.support.modelscope_server import Body, BytesBody, Fault, Hub, PatternBody, _Handler, _Server

PAGE_ENTRIES = 1000
LFS_BYTES = 1000


def name_in_git(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


@dataclass
class HuggingFaceRepository:
    """Commits in order, branches and tags; `edit_listing` may falsify what is listed. `gated` wants a token."""

    commits: dict[str, dict[str, Body]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    edit_listing: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list
    gated: bool = False

    def find_commit(self, revision: str) -> str | None:
        if revision == "main":
            return next(reversed(self.commits), None)
        return self.tags.get(revision) or (revision if revision in self.commits else None)

    def list_files(self, commit: str) -> list[dict[str, Any]]:
        """List as the tree API does: large files by their sha256, small ones by git's name alone."""
        folders: dict[str, dict[str, Any]] = {}
        entries: list[dict[str, Any]] = []
        for path, body in self.commits[commit].items():
            for position, character in enumerate(path):
                if character == "/":
                    folder = path[:position]
                    folders[folder] = {"type": "directory", "oid": "d" * 40, "size": 0, "path": folder}
            entry: dict[str, Any] = {"type": "file", "size": body.size, "path": path, "oid": "e" * 40}
            if isinstance(body, PatternBody) or body.size >= LFS_BYTES:
                entry["lfs"] = {"oid": body.sha256(), "size": body.size, "pointerSize": 130}
                entry["xetHash"] = "f" * 64
            else:
                entry["oid"] = name_in_git(body.content)
            entries.append(entry)
        return self.edit_listing([*folders.values(), *entries])


class HuggingFace(Hub):
    """The server's content and faults. With `storage`, large files are redirected there, as the hub does."""

    prefix = "hf:"

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[tuple[str, str], HuggingFaceRepository] = {}
        self.storage: str | None = None
        self.page_entries = PAGE_ENTRIES
        self.next_page_origin: str | None = None

    def add(self, name: str, bodies: Mapping[str, bytes | PatternBody], *, repo_type: str = "dataset") -> str:
        """Commit these files as a repository's new whole content; return the commit."""
        repository = self.sets.setdefault((repo_type, name), HuggingFaceRepository())
        commit = hashlib.sha1(f"{name}{len(repository.commits)}".encode(), usedforsecurity=False).hexdigest()
        repository.commits[commit] = {
            path: BytesBody(body) if isinstance(body, bytes) else body for path, body in bodies.items()
        }
        return commit

    def count_files(self) -> int:
        """Return how many requests were for a file."""
        return sum("/resolve/" in path for path, _, _ in self.requests)


@contextmanager
def serve_huggingface(host: str = "127.0.0.1") -> Iterator[HuggingFace]:
    """Run a hub on a free port of this machine's own address while the block runs."""
    hub = HuggingFace()
    server = _Server((host, 0), type("HuggingFaceHandler", (_HuggingFaceHandler,), {"hub": hub}))
    hub.endpoint = f"http://{host}:{server.server_address[1]}"
    with server.serving():
        yield hub


class _HuggingFaceHandler(_Handler):
    hub: HuggingFace

    def _route(self, parts: list[str], query: dict[str, str]) -> None:
        with suppress(_AnsweredError):
            self._answer_address(parts)

    def _answer_address(self, parts: list[str]) -> None:
        if parts[1] == "storage":
            body = self._find_repository(parts[2], parts[3:5]).commits[parts[5]][unquote("/".join(parts[6:]))]
            self._send_file(body, self.hub.take_fault("storage"))
        elif parts[1] == "api" and len(parts) >= 6:
            kind, name, what = parts[2].removesuffix("s"), parts[3:5], parts[5]
            on = {"revision": "revision", "tree": "list", "refs": "refs"}[what]
            self._answer_api(on, kind, name, [unquote(part) for part in parts[6:]])
        else:
            kind = "dataset" if parts[1] == "datasets" else "model"
            name, rest = (parts[2:4], parts[4:]) if kind == "dataset" else (parts[1:3], parts[3:])
            assert rest[0] == "resolve"
            self._answer_resolve(kind, name, unquote(rest[1]), unquote("/".join(rest[2:])))

    def _find_repository(self, kind: str, name: list[str]) -> HuggingFaceRepository:
        return self.hub.sets[kind, "/".join(name)]

    def _refuse(self, on: str, kind: str, name: list[str], path: str | None = None) -> Fault | None:
        """Answer what goes wrong; returns a fault that is the answer's own affair. Raises _AnsweredError when done."""
        fault = self.hub.take_fault(on, path)
        given = self.headers.get("Authorization")
        repository = self.hub.sets.get((kind, "/".join(name)))
        if fault and fault.status != 200:
            self._answer_refusal(fault.status, *fault.message.partition(":")[::2])
        elif fault and fault.answer is not None:
            self.close_connection = True
            fault.answer(self)
        elif fault and fault.payload is not None:
            self._answer(200, fault.payload)
        elif fault and fault.redirect:
            self._redirect(f"{fault.redirect}{self.path}")
        elif given and given != f"Bearer {self.hub.token}" and self.hub.token:
            self._answer_refusal(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (self.hub.token and given is None and not repository.gated):
            self._answer_refusal(404 if given else 401, "RepoNotFound", "Repository not found")
        elif repository.gated and given is None:
            self._answer_refusal(401, "GatedRepo", "Access to it is restricted. You must be authenticated.")
        else:
            return fault
        raise _AnsweredError

    def _answer_api(self, on: str, kind: str, name: list[str], rest: list[str]) -> None:
        fault = self._refuse(on, kind, name)
        repository = self._find_repository(kind, name)
        if on == "refs":
            branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": "0" * 40}]
            tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": "0" * 40} for tag in repository.tags]
            self._answer(200, json.dumps({"branches": branches, "tags": tags, "converts": []}).encode())
            return
        commit = repository.find_commit(rest[0])
        if commit is None:
            self._answer_refusal(404, "RevisionNotFound", f"Invalid rev id: {rest[0]}")
        elif on == "revision":
            self._answer(200, json.dumps({"id": "/".join(name), "sha": commit}).encode())
        else:
            self._answer_page(repository.list_files(commit), fault)

    def _answer_page(self, entries: list[dict[str, Any]], fault: Fault | None) -> None:
        url = urlsplit(self.path)
        start = int(parse_qs(url.query).get("cursor", ["0"])[0])
        stop = start + self.hub.page_entries
        body = json.dumps(entries[start:stop]).encode()
        self.send_response(200)
        if stop < len(entries):
            origin = self.hub.next_page_origin or self.hub.endpoint
            self.send_header("Link", f'<{origin}{url.path}?recursive=True&cursor={stop}>; rel="next"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: fault.cut_after if fault else None])
        if fault and fault.cut_after is not None:
            self.close_connection = True

    def _answer_resolve(self, kind: str, name: list[str], revision: str, path: str) -> None:
        fault = self._refuse("file", kind, name, path)
        repository = self._find_repository(kind, name)
        commit = repository.find_commit(revision)
        body = repository.commits[commit].get(path) if commit else None
        if body is None or commit is None:
            self._answer_refusal(404, "EntryNotFound", "Entry not found")
        elif self.hub.storage and (isinstance(body, PatternBody) or body.size >= LFS_BYTES):
            self._redirect(f"{self.hub.storage}/storage/{kind}/{'/'.join(name)}/{commit}/{quote(path)}?signed=1")
        else:
            self._send_file(body, fault)

    def _send_file(self, body: Body, fault: Fault | None) -> None:
        size = body.size - (fault.drop_tail if fault else 0)
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{body.sha256()}"')
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self._send_body(body, start, size, fault)

    def _redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer_refusal(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _AnsweredError(Exception):
    """The request has its answer."""
