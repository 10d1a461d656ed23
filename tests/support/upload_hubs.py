"""Hubs on 127.0.0.1 that take what is published, as ModelScope and Hugging Face do, and go wrong when told to.

Faults are those of the download servers: "create", "batch", "put" (of a large file), "commit" and the listings'.
`loses` are names that a commit takes and then does not have.
"""

import base64
import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from tests.support.huggingface_server import HuggingFace, HuggingFaceRepository, _HuggingFaceHandler
from tests.support.modelscope_server import BytesBody, Hub, Repository, _Handler, _Server


class _Takes(_Handler):
    """What both hubs' uploads have in common."""

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        self._take(self._post)

    def do_PUT(self) -> None:  # noqa: N802 - the name that http.server calls
        self._take(self._put)

    def _take(self, answer: Any) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        url = urlsplit(self.path)
        self.hub.requests.append((url.path, {}, {key.lower(): value for key, value in self.headers.items()}))
        with suppress(BrokenPipeError, ConnectionResetError):
            # A blob's address is signed: no token goes there.
            is_signed = url.path.startswith("/blob/")
            if not is_signed and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                self._fail(401, "Invalid credentials")
            else:
                answer(url.path.strip("/").split("/"))

    @abstractmethod
    def _post(self, parts: list[str]) -> None:
        """Answer what is posted to a path, as that hub does."""

    def _fail(self, status: int, message: str) -> None:
        self._answer(status, json.dumps({"error": message, "Message": message, "Success": False}).encode())

    def _is_refused(self, on: str) -> bool:
        fault = self.hub.take_fault(on)
        if fault is None:
            return False
        if fault.cut_after is not None:
            self.close_connection = True
        else:
            self._fail(fault.status, fault.message)
        return True

    def _put(self, parts: list[str]) -> None:
        if not self._is_refused("put"):
            self.hub.blobs[parts[-1]] = self.body  # type: ignore[attr-defined]
            self._answer(200, b"{}")

    def _answer_batch(self) -> None:
        if self._is_refused("batch"):
            return
        objects = [
            {
                **asked,
                "actions": {"upload": {"href": f"{self.hub.endpoint}/blob/{asked['oid']}"}},
            }
            for asked in json.loads(self.body)["objects"]
        ]
        self._answer(
            200, json.dumps({"transfer": "basic", "objects": objects, "Data": {"objects": objects}}).encode()
        )

    def _commit(self, repository: "Repository | HuggingFaceRepository", files: dict[str, bytes]) -> str:
        loses: set[str] = self.hub.loses  # type: ignore[attr-defined]
        before = dict(next(reversed(repository.commits.values()), {}))
        after = {**before, **{name: BytesBody(body) for name, body in files.items() if name not in loses}}
        commit = hashlib.sha1(
            f"{len(repository.commits)}{sorted(files)}".encode(), usedforsecurity=False
        ).hexdigest()
        repository.commits[commit] = after
        return commit


class _TakingHuggingFace(_Takes, _HuggingFaceHandler):
    hub: HuggingFace

    def _route(self, parts: list[str], query: dict[str, str]) -> None:
        if parts[1] == "api" and len(parts) == 5:
            name = "/".join(parts[3:5])
            kind = parts[2].removesuffix("s")
            if (kind, name) not in self.hub.sets:
                self._answer_refusal(404, "RepoNotFound", "Repository not found")
                return
            told = {"id": name, "private": name not in self.hub.public, "sha": "0" * 40}  # type: ignore[attr-defined]
            self._answer(200, json.dumps(told).encode())
            return
        super()._route(parts, query)

    def _post(self, parts: list[str]) -> None:
        if parts[:2] == ["api", "repos"]:
            self._create()
        elif parts[-1] == "validate-yaml":
            self._answer(200, b'{"errors": [], "warnings": []}')
        elif parts[-1] == "batch":
            self._answer_batch()
        elif parts[-2] == "preupload":
            asked = json.loads(self.body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in asked
            ]
            self._answer(200, json.dumps({"files": modes}).encode())
        else:
            self._take_commit(parts)

    def _create(self) -> None:
        if self._is_refused("create"):
            return
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        key = (asked.get("type") or "model", name)
        self.hub.created.append(asked)  # type: ignore[attr-defined]
        status = 409 if key in self.hub.sets else 200
        self.hub.sets.setdefault(key, HuggingFaceRepository(commits={"0" * 40: {}}))
        self._answer(status, json.dumps({"url": f"{self.hub.endpoint}/{name}", "name": name}).encode())

    def _take_commit(self, parts: list[str]) -> None:
        if self._is_refused("commit"):
            return
        files: dict[str, bytes] = {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]  # type: ignore[attr-defined]
        repository = self.hub.sets[parts[1].removesuffix("s"), "/".join(parts[2:4])]
        commit = self._commit(repository, files)
        told = {
            "success": True,
            "commitOid": commit,
            "commitUrl": f"{self.hub.endpoint}/me/x/commit/{commit}",
            "hookOutput": "",
        }
        self._answer(200, json.dumps(told).encode())


class _TakingModelScope(_Takes):
    def _route(self, parts: list[str], query: dict[str, str]) -> None:
        named = parts[-2:] if parts[-1] else parts[-3:-1]
        kind = next((part.removesuffix("s") for part in parts if part in ("models", "datasets")), "model")
        if len(parts) <= 6 and parts[-1] not in ("tree", "files"):
            name = "/".join(named)
            if (kind, name) not in self.hub.repositories:
                self._answer_error(404, "record not found")
                return
            visibility = 5 if name in self.hub.public else 1  # type: ignore[attr-defined]
            told = {"Path": named[0], "Name": named[1], "Visibility": visibility, "visibility": visibility}
            self._answer_data(told, None)
            return
        super()._route(parts, query)

    def _post(self, parts: list[str]) -> None:
        if parts[-1] == "batch":
            self._answer_batch()
        elif "commit" in parts:
            self._take_commit(parts)
        elif not self._is_refused("create"):
            try:
                asked = json.loads(self.body)
            except ValueError:
                asked = _read_form(self.body)
            self.hub.created.append(asked)  # type: ignore[attr-defined]
            name = f"{asked.get('Path') or asked.get('Owner')}/{asked['Name']}"
            self.hub.repositories.setdefault((parts[-1].removesuffix("s"), name), Repository())
            self._answer_data({"Id": 1, "Path": name}, None)

    def _take_commit(self, parts: list[str]) -> None:
        if self._is_refused("commit"):
            return
        at = parts.index("commit")
        kind, name = parts[at - 3].removesuffix("s"), "/".join(parts[at - 2 : at])
        files = {
            action["path"]: base64.b64decode(action["content"])
            if action["type"] == "normal"
            else self.hub.blobs[action["sha256"]]  # type: ignore[attr-defined]
            for action in json.loads(self.body)["actions"]
        }
        self._answer_data({"oid": self._commit(self.hub.repositories[kind, name], files)}, None)


def _read_form(body: bytes) -> dict[str, str]:
    """Return the fields of a multipart form of texts."""
    boundary = body.partition(b"\r\n")[0]
    fields = {}
    for part in body.split(boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        fields[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value.strip().decode()
    return fields


@contextmanager
def serve_uploads(site: str) -> Iterator[Any]:
    """Run a hub that takes uploads with the token `hub.token` while the block runs."""
    hub: Any = HuggingFace() if site == "huggingface" else Hub()
    hub.token, hub.blobs, hub.created, hub.loses, hub.public = "upload-t0ken", {}, [], set(), set()
    handler = _TakingHuggingFace if site == "huggingface" else _TakingModelScope
    server = _Server(("127.0.0.1", 0), type("TakingHandler", (handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    with server.serving():
        yield hub
