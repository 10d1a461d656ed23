"""Inputs in object stores and on web servers: read as files of this machine are, and told by their addresses."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from prep.choices import ThinkPolicy
from prep.convert import objects
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions, ConvertResult
from prep.errors import OutputError, UserError
from prep.inputs.reader import ReadOptions
from prep.storage.manifests import read_manifest

SECRET = "quite-a-secret"


def rows(*numbers: int) -> bytes:
    return b"".join(b'{"question": "q%d", "answer": "a%d"}\n' % (number, number) for number in numbers)


OBJECTS = {
    "team/set/data/train-00000-of-00002.jsonl": rows(1, 2),
    "team/set/data/train-00001-of-00002.jsonl": rows(3),
    "team/set/data/test-00000-of-00001.jsonl": rows(4),
    "team/set/picture.png": b"no rows",
    "team/客户 问题.jsonl": rows(5),
    "team/cot/cot-00000-of-00001.jsonl": rows(6),
    "team/cot/tir-00000-of-00001.jsonl": rows(7),
}
ANSWERS = {
    "/rows.jsonl": (200, rows(8), 0),
    "/short.jsonl": (200, rows(8), 40),
    "/closed.jsonl": (403, b"", 0),
    "/gone.jsonl": (404, b"", 0),
    "/broken.jsonl": (500, b"", 0),
}


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def store() -> Iterator[None]:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, content in OBJECTS.items():
        memory.pipe(f"/{name}", content)
    yield
    memory.store.clear()


class Web(BaseHTTPRequestHandler):
    """Answers by the table above, at any query; `missing` bytes are promised and never sent."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        status, body, missing = ANSWERS[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        if with_body:
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def convert(*addresses: str, split: str = "", cluster: str | None = None) -> ConvertResult:
    options = ConvertOptions(
        policy=ThinkPolicy.TAGGED, reading=ReadOptions(split=split), cluster=cluster, force=True
    )
    return convert_files([Path(address) for address in addresses], Path("out.jsonl"), options)


def read_outputs() -> list[str]:
    lines = Path("out.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["instruction"] for line in lines]


@pytest.mark.parametrize(
    ("addresses", "split", "questions", "named"),
    [
        (["memory://team/客户 问题.jsonl"], "", ["q5"], ["memory:///team/客户 问题.jsonl"]),
        (["memory://team/set"], "", ["q1", "q2", "q3"], [f"memory:///{name}" for name in list(OBJECTS)[:2]]),
        (["memory://team/set"], "test", ["q4"], ["memory:///team/set/data/test-00000-of-00001.jsonl"]),
        (["memory://team/cot"], "cot", ["q6"], ["memory:///team/cot/cot-00000-of-00001.jsonl"]),
        (["memory://team/set/*/test-*.jsonl", "here.jsonl"], "", ["q4", "q9"], None),
    ],
)
def test_what_lies_in_a_store_is_read_as_files_are(
    store: None, addresses: list[str], split: str, questions: list[str], named: list[str] | None
) -> None:
    Path("here.jsonl").write_bytes(rows(9))
    result = convert(*addresses, split=split)
    assert read_outputs() == questions
    manifest = read_manifest(Path("out.jsonl"))
    assert manifest is not None
    assert [entry["path"] for entry in manifest.inputs] == (
        named or ["memory:///team/set/data/test-00000-of-00001.jsonl", "here.jsonl"]
    )
    first = str(manifest.inputs[0]["path"]).removeprefix("memory:///")
    assert manifest.inputs[0]["sha256"] == hashlib.sha256(OBJECTS[first]).hexdigest()
    assert result.notes[0].endswith("copied")
    # Nothing of the copies is left, nor told of.
    assert [path.name for path in Path().glob("lfc-*")] == []
    assert "lfc-" not in json.dumps([result.notes, *map(str, result.left_out)], default=str)


def test_a_web_servers_file_is_read_and_its_query_stays_a_secret(web: str) -> None:
    result = convert(f"{web}/rows.jsonl?token={SECRET}")
    assert read_outputs() == ["q8"]
    told = Path("out.manifest.json").read_text(encoding="utf-8") + str(result.notes)
    assert SECRET not in told
    assert "rows.jsonl?token=***" in told


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://team/none.jsonl", "memory://team/none.jsonl is not there"),
        ("memory://team/none*.jsonl", "is not there"),
        ("memory://team/set/picture.png", "files of type '.png' cannot be read"),
        ("{web}/gone.jsonl", "gone.jsonl is not there"),
        ("{web}/closed.jsonl", "closed.jsonl may not be read"),
        ("{web}/broken.jsonl", "broken.jsonl cannot be read: ClientResponseError: 500"),
        ("{web}/short.jsonl", "short.jsonl (broke off|cannot be read)"),
        ("http://127.0.0.1:1/rows.jsonl", "cannot be read: ClientConnectorError"),
        (f"http://me:{SECRET}@127.0.0.1:1/rows.jsonl", "cannot be read"),
        ("memory://a.zip::memory://b", "addresses inside addresses are not read"),
    ],
)
def test_what_cannot_be_read_is_told_and_leaves_nothing(store: None, web: str, address: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        convert(address.replace("{web}", web))
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert "lfc-" not in str(caught.value)
    assert list(Path().iterdir()) == []


def test_a_store_without_its_package_names_it() -> None:
    with pytest.raises(UserError, match=r"sftp://host/x\.jsonl needs the package paramiko") as caught:
        convert("sftp://host/x.jsonl")
    assert caught.value.hint == "pip install paramiko"


def test_more_than_the_disk_holds_is_refused_before_it_is_copied(
    store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(OutputError, match="free") as caught:
        convert("memory://team/set")
    assert "TMPDIR" in str(caught.value.hint)


def test_a_cluster_reads_shared_storage_alone(store: None) -> None:
    with pytest.raises(UserError, match="a cluster reads storage that its machines share"):
        convert("memory://team/set", cluster="")


def test_a_path_that_is_there_is_no_address() -> None:
    Path("s3:/bucket").mkdir(parents=True)
    Path("s3:/bucket/x.jsonl").write_bytes(rows(1))
    convert("s3://bucket/x.jsonl")
    assert read_outputs() == ["q1"]
