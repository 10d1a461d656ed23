"""`hf:owner/name`: what arrives, what is recorded, what is refused, and that a killed download is old or new."""

import functools
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.errors import DownloadError
from prep.hub.catalog import Request, resolve_names
from prep.hub.client import DownloadOptions
from prep.hub.download import download_repositories
from prep.hub.endpoint import HUGGINGFACE, MODELSCOPE
from prep.hub.listing import RemoteFile
from tests.prep.hub.test_download import kill_before_change, read_bodies
from tests.support.huggingface_server import HuggingFace, serve_huggingface
from tests.support.modelscope_server import Hub, PatternBody

SMALL, LARGE = b"# a card\n", b'{"a": 1}\n' * 500
FILES = {"README.md": SMALL, "data/train.jsonl": LARGE, "empty": b""}
AGAIN = "run again later; if it comes again, report it to the repository's owner"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def invoke(folder: Path, *arguments: str, name: str = "hf:o/set") -> Result:
    return CliRunner().invoke(lfc, ["prep", "download", name, "--to", str(folder), *arguments], prog_name="lfc")


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / ".lfc-download.json").read_text(encoding="ascii"))
    return manifest


def test_a_dataset_arrives_with_a_sha256_of_every_file_and_what_it_was_held_to(
    huggingface: HuggingFace, tmp_path: Path
) -> None:
    commit = huggingface.add("o/set", FILES)
    result = invoke(tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert read_bodies(tmp_path / "set") == FILES
    manifest = read_manifest(tmp_path / "set")
    assert set(manifest.pop("clients")) == {"llamafactory-companion", "huggingface-hub"}
    held_to = {"README.md": "git-sha1", "data/train.jsonl": "sha256", "empty": "git-sha1"}
    assert manifest == {
        "manifest_version": 1,
        "hub": "huggingface",
        "endpoint": huggingface.endpoint,
        "repository": "o/set",
        "type": "dataset",
        "revision": "main",
        "commit": commit,
        "files": {
            path: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "verified": held_to[path]}
            for path, body in FILES.items()
        },
    }


def test_files_are_fetched_once_at_the_commit_and_verified_by_a_second_run(
    huggingface: HuggingFace, tmp_path: Path
) -> None:
    commit = huggingface.add("o/set", FILES)
    assert invoke(tmp_path).exit_code == 0
    files = sorted(path for path, _, _ in huggingface.requests if "/resolve/" in path)
    assert files == [f"/datasets/o/set/resolve/{commit}/{path}" for path in ("README.md", "data/train.jsonl")]
    dry = json.loads(invoke(tmp_path, "--dry-run", "--json").stdout)["repositories"][0]
    assert (dry["state"], dry["fetched_bytes"], dry["unhashed"]) == ("planned", 0, [])
    again = json.loads(invoke(tmp_path, "--json").stdout)["repositories"][0]
    assert (again["state"], again["fetched_bytes"]) == ("verified", 0)
    assert huggingface.count_files() == 2
    requests = len(huggingface.requests)
    assert invoke(tmp_path, "--offline").exit_code == 0
    (tmp_path / "set/README.md").write_bytes(SMALL.upper())
    assert invoke(tmp_path, "--offline").stderr.startswith(
        f"Error: {tmp_path / 'set'} is not what was downloaded: 'README.md' changed\n"
    )
    assert len(huggingface.requests) == requests


def test_a_model_arrives_whose_large_files_come_from_a_storage(huggingface: HuggingFace, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 20}
    huggingface.add("Qwen/Tiny", files, repo_type="model")
    with serve_huggingface() as storage:
        storage.sets = huggingface.sets
        huggingface.storage = storage.endpoint
        assert invoke(tmp_path, "--model", name="hf:Qwen/Tiny").exit_code == 0
        assert len(storage.requests) == 1
    assert read_bodies(tmp_path / "Tiny") == files
    assert read_manifest(tmp_path / "Tiny")["type"] == "model"


@pytest.mark.parametrize("of_the_hub_itself", [False, True])
def test_a_listing_of_many_pages_arrives_whole_from_a_mirror_that_names_the_hub_too(
    huggingface: HuggingFace, tmp_path: Path, of_the_hub_itself: bool
) -> None:
    files = {f"part/{number:03}.txt": str(number).encode() for number in range(25)}
    huggingface.add("o/set", files)
    huggingface.page_entries = 10
    huggingface.next_page_origin = "https://huggingface.co" if of_the_hub_itself else None
    assert invoke(tmp_path).exit_code == 0
    assert read_bodies(tmp_path / "set") == files
    assert sum("/tree/" in path for path, _, _ in huggingface.requests) == 3


def test_include_exclude_and_revision_choose_what_comes(huggingface: HuggingFace, tmp_path: Path) -> None:
    commit = huggingface.add("o/set", FILES)
    huggingface.sets["dataset", "o/set"].tags["refs/convert/parquet"] = commit
    huggingface.add("o/set", {"other": b"x"})
    result = invoke(tmp_path, "--revision", "refs/convert/parquet", "--include", "*.jsonl", "--exclude", "empty")
    assert result.exit_code == 0, result.output
    assert read_bodies(tmp_path / "set") == {"data/train.jsonl": LARGE}
    manifest = read_manifest(tmp_path / "set")
    assert (manifest["revision"], manifest["commit"]) == ("refs/convert/parquet", commit)


def test_an_update_brings_the_new_state_and_keeps_the_users_own_files(
    huggingface: HuggingFace, tmp_path: Path
) -> None:
    huggingface.add("o/set", {**FILES, "gone": b"g"})
    assert invoke(tmp_path).exit_code == 0
    (tmp_path / "set/mine").write_bytes(b"mine")
    huggingface.add("o/set", {**FILES, "README.md": b"new"})
    result = json.loads(invoke(tmp_path, "--json").stdout)["repositories"][0]
    assert (result["state"], result["fetched_bytes"], result["removed"]) == ("updated", 3, ["gone"])
    assert read_bodies(tmp_path / "set") == {**FILES, "README.md": b"new", "mine": b"mine"}


# Names


def test_a_prefix_names_the_hub() -> None:
    assert resolve_names(["o/a", "ms:o/b", "hf:o/c", "ms:o/a"], "dataset") == [
        Request("o/a", site=MODELSCOPE),
        Request("o/b", site=MODELSCOPE),
        Request("o/c", site=HUGGINGFACE),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hf:set"], "'hf:set' is no OWNER/NAME: is not an owner and a name with one '/' between them"),
        (["ms:finetome"], "'ms:finetome' is no OWNER/NAME: is not an owner and a name with one '/' between them"),
        (["hf:"], "'hf:' is no OWNER/NAME: is not an owner and a name with one '/' between them"),
        (["o/set", "hf:p/set"], "o/set and hf:p/set would both become the folder set"),
        (["o/set", "hf:o/set"], "o/set and hf:o/set would both become the folder set"),
    ],
)
def test_a_name_that_is_none_is_named(names: list[str], message: str) -> None:
    with pytest.raises(DownloadError) as caught:
        resolve_names(names, "dataset")
    assert str(caught.value) == message


def test_two_hubs_in_one_call_are_refused(huggingface: HuggingFace, tmp_path: Path) -> None:
    result = CliRunner().invoke(lfc, ["prep", "download", "o/a", "hf:o/b", "--to", str(tmp_path)])
    assert result.stderr == "Error: o/a and hf:o/b are of two hubs\n  Try: download them in two calls\n"


def test_the_same_name_on_the_other_hub_is_another_repository(
    hub: Hub, huggingface: HuggingFace, tmp_path: Path
) -> None:
    hub.add("o/set", FILES)
    huggingface.add("o/set", FILES)
    assert invoke(tmp_path, name="ms:o/set").exit_code == 0
    assert invoke(tmp_path).stderr == (
        f"Error: {tmp_path / 'set'} holds the dataset o/set, not the dataset hf:o/set\n  Try: choose another --to\n"
    )


# What goes wrong

NAME_HINT = "check OWNER/NAME, and --model for a model; a private one needs --token-env"
TOKEN_HINT = "put one into an environment variable and name it: --token-env NAME"
PAGE = "https://huggingface.co/datasets/o/set"
REFUSALS = [
    (401, "GatedRepo:Access", "the repository is gated: its owner gives it to those who accept its terms (401)",
     f"accept them on {PAGE}, then give a token of that account: --token-env NAME"),
    (403, "GatedRepo:Access", "the repository is gated: its owner gives it to those who accept its terms (403)",
     f"accept them on {PAGE}, then give a token of that account: --token-env NAME"),
    (403, ":Access to this resource is disabled.", "the hub has disabled the repository (403)",
     f"see {PAGE} for the reason"),
    (401, "RepoNotFound:Repository not found", "not found on the hub, or private (401)", NAME_HINT),
    (404, "RepoNotFound:Repository not found", "not found on the hub, or private (404)", NAME_HINT),
    (401, ":Invalid credentials in Authorization header", "the hub wants a valid token (401)", TOKEN_HINT),
    (403, ":no", "this account may not read it (403)", "ask its owner for access, or use another token"),
    (404, "EntryNotFound:no", "not found on the hub (404)", NAME_HINT),
    (400, ":no", "the hub finds the request invalid (400)", "check OWNER/NAME and --revision"),
    (429, ":slow", "too many requests (429)", "wait some minutes, then run again with a smaller --jobs"),
    (418, ":tea", "the hub refused the request (418)", "run the same command again: what has arrived is kept"),
    (503, ":busy", "the hub failed (5xx), also when asked again",
     "wait some minutes, then run the same command again: what has arrived is kept"),
]  # fmt: skip


@pytest.mark.parametrize("on", ["revision", "list", "file"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_one_line(
    huggingface: HuggingFace, tmp_path: Path, on: str, refusal: tuple[int, str, str, str]
) -> None:
    status, said, message, hint = refusal
    huggingface.add("o/set", FILES)
    huggingface.fail(on, status=status, message=said, path="README.md" if on == "file" else None)
    result = invoke(tmp_path)
    where = "'README.md': " if on == "file" else ""
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: o/set: {where}{message} ({huggingface.endpoint})\n  Try: {hint}\n"
    assert not (tmp_path / "set").exists()


def test_an_unknown_revision_names_the_known_ones(huggingface: HuggingFace, tmp_path: Path) -> None:
    huggingface.add("o/set", FILES)
    huggingface.sets["dataset", "o/set"].tags["v1"] = "x"
    assert invoke(tmp_path, "--revision", "v9").stderr == (
        "Error: o/set has no revision v9; its revisions are main, v1\n  Try: check --revision, or --model\n"
    )


@pytest.mark.parametrize("payload", [b"<html>Welcome</html>", b"[7]", b'"hello"', b"7", b"", b'[{"type": "file"}]'])
@pytest.mark.parametrize("on", ["revision", "list"])
def test_an_answer_that_is_no_hubs_is_one_line(
    huggingface: HuggingFace, tmp_path: Path, payload: bytes, on: str
) -> None:
    huggingface.add("o/set", FILES)
    huggingface.fail(on, payload=payload)
    assert invoke(tmp_path).stderr == (
        f"Error: o/set: {huggingface.endpoint} answers with something else than a hub's JSON\n"
        "  Try: check --endpoint or HF_ENDPOINT: is a Hugging Face hub there?\n"
    )


@pytest.mark.parametrize(
    ("falsify", "message"),
    [
        ({"path": "../evil"}, "the listing names '../evil', a path that could leave its folder; nothing was downloaded"),
        ({"path": "/etc/x"}, "the listing names '/etc/x', an absolute path; nothing was downloaded"),
        ({"path": ""}, "the listing holds a file without a path"),
        ({"path": 7}, "the listing holds a file without a path"),
        ({"size": -1}, "the listing gives 'data/train.jsonl' the size -1, not a number of bytes"),
        ({"size": "9", "lfs": None}, "the listing gives 'data/train.jsonl' the size '9', not a number of bytes"),
        ({"size": 9}, "the listing gives 'data/train.jsonl' two sizes, or no sha256"),
        ({"lfs": {"oid": "", "size": 4500, "pointerSize": 1}}, "the listing gives 'data/train.jsonl' two sizes, or no sha256"),
        ({"lfs": {"oid": "zz", "size": 4500, "pointerSize": 1}}, "the listing gives 'data/train.jsonl' the sha256 'zz', not 64 hex digits"),
        ({"lfs": None, "oid": "zz"}, "the listing gives 'data/train.jsonl' the git name 'zz', not 40 hex digits"),
        ({"lfs": None, "oid": 7}, "the listing gives 'data/train.jsonl' the git name 7, not 40 hex digits"),
        ({"lfs": None, "oid": None}, "the hub states no sha256 for 'data/train.jsonl': damage would go unseen"),
        ({"path": "README.md"}, "the listing names 'README.md' twice"),
        ({"path": ".git/config"}, "'.git/config' is inside a folder that git would obey"),
    ],
)  # fmt: skip
def test_a_listing_that_cannot_be_is_refused_before_a_file_is_fetched(
    huggingface: HuggingFace, tmp_path: Path, falsify: dict[str, Any], message: str
) -> None:
    huggingface.add("o/set", FILES)
    huggingface.sets["dataset", "o/set"].edit_listing = lambda entries: [
        # Two sizes that agree and are wrong.
        {**entry, **falsify, **({"lfs": {**entry["lfs"], "size": -1}} if falsify == {"size": -1} else {})}
        if entry["path"] == "data/train.jsonl"
        else entry
        for entry in entries
    ]
    result = invoke(tmp_path)
    assert (result.exit_code, result.stderr.partition("\n")[0]) == (
        1,
        f"Error: o/set: {message}".replace("  ", " "),
    )
    assert huggingface.count_files() == 0


@pytest.mark.parametrize("path", ["README.md", "data/train.jsonl"])
def test_a_file_with_other_bytes_than_listed_fails_after_it_was_fetched_again(
    huggingface: HuggingFace, tmp_path: Path, path: str
) -> None:
    huggingface.add("o/set", FILES)
    huggingface.fail("file", path=path, flip=True)
    assert invoke(tmp_path).stderr == (
        f"Error: o/set: {path!r}: arrived with another sha256 than listed, also when fetched again "
        f"({huggingface.endpoint})\n  Try: {AGAIN}\n"
    )
    huggingface.faults.clear()
    huggingface.fail("file", path=path, flip=True, times=1)
    assert invoke(tmp_path).exit_code == 0
    assert read_bodies(tmp_path / "set") == FILES


def test_a_file_of_another_size_than_listed_fails(huggingface: HuggingFace, tmp_path: Path) -> None:
    huggingface.add("o/set", FILES)
    huggingface.fail("file", path="data/train.jsonl", drop_tail=3)
    assert invoke(tmp_path).stderr.startswith(
        "Error: o/set: 'data/train.jsonl': arrived with another size than listed, also when fetched again "
    )


@pytest.mark.parametrize("status", [204, 206, 304])
def test_an_answer_without_the_file_is_one_line(huggingface: HuggingFace, tmp_path: Path, status: int) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()

    huggingface.add("o/set", FILES)
    huggingface.fail("file", path="README.md", answer=answer)
    assert invoke(tmp_path).stderr.startswith(
        "Error: o/set: 'README.md': arrived with another size than listed, also when fetched again "
    )


def test_a_broken_variable_of_the_client_is_one_line(huggingface: HuggingFace, tmp_path: Path) -> None:
    with start(tmp_path, HF_HUB_ETAG_TIMEOUT="soon") as process:
        _, stderr = process.communicate(timeout=60)
    assert stderr == (
        "Error: huggingface_hub cannot be loaded: invalid literal for int() with base 10: 'soon'\n"
        "  Try: check the variables HF_… of the environment, and pip install 'huggingface_hub>=1.0'\n"
    )


def test_a_file_of_more_than_50_gb_is_refused(huggingface: HuggingFace, tmp_path: Path) -> None:
    from prep.hub.huggingface import _refuse_large_files

    with pytest.raises(
        DownloadError, match=r"^o/set: 'big' is larger than 50 GB: the hub gives it over xet alone$"
    ):
        _refuse_large_files(Request("o/set"), [RemoteFile("big", 50_000_000_001, "a" * 64)])


def test_an_offline_client_is_not_gone_around(
    huggingface: HuggingFace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert invoke(tmp_path).stderr == (
        "Error: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: Hugging Face is not asked\n"
        "  Try: unset it for the download; --offline verifies what is there\n"
    )
    assert huggingface.requests == []


# Interruptions


def test_a_large_file_that_is_cut_three_times_is_resumed(huggingface: HuggingFace, tmp_path: Path) -> None:
    body = PatternBody(20_000_000)
    huggingface.add("o/set", {"model.safetensors": body})
    huggingface.fail("file", cut_after=body.size // 4, times=3)
    assert invoke(tmp_path).exit_code == 0
    starts = [
        int(headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        for path, _, headers in huggingface.requests
        if "/resolve/" in path
    ]
    assert starts == [0, 5_000_000, 10_000_000, 15_000_000]
    assert read_manifest(tmp_path / "set")["files"]["model.safetensors"]["sha256"] == body.sha256()


def start(folder: Path, **variables: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "launch", "prep", "download", "hf:o/set", "--to", str(folder)]
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@posix_only
@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_stopped_download_goes_on_where_it_stopped(
    huggingface: HuggingFace, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    new = {"a": b"new" * 100_000, "b": b"b"}
    huggingface.add("o/set", new)
    huggingface.bytes_per_s = 50_000
    with start(tmp_path) as process:
        deadline = time.monotonic() + 30
        while huggingface.count_files() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == exit_code
    if number != signal.SIGKILL:
        assert stderr == (
            "Error: interrupted; no folder is half-written\n"
            "  Try: run the same command again: what has arrived is kept\n"
        )
    assert not (tmp_path / "set").exists()
    huggingface.bytes_per_s = None
    huggingface.requests.clear()
    assert invoke(tmp_path).exit_code == 0
    assert read_bodies(tmp_path / "set") == new
    ranges = [headers.get("range", "") for path, _, headers in huggingface.requests if path.endswith("/a")]
    assert len(ranges) == 1
    assert int(ranges[0].removeprefix("bytes=").removesuffix("-")) > 0


@posix_only
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_before_any_change_of_a_name_the_target_is_old_or_new(
    huggingface: HuggingFace, tmp_path: Path, full: bool
) -> None:
    work = functools.partial(
        download_repositories, resolve_names(["hf:o/set"], "dataset"), tmp_path, DownloadOptions(jobs=1)
    )
    old, new = {"a": b"old", "same": b"s", "sub/gone": b"g"}, {"a": b"new", "same": b"s", "b": b"b"}
    huggingface.add("o/set", old)
    work()
    for number in itertools.count(1, 1 if full else 3):
        huggingface.add("o/set", new)
        finished = kill_before_change(work, number)
        assert read_bodies(tmp_path / "set") in (old, new)
        work()
        assert read_bodies(tmp_path / "set") == new
        assert [path.name for path in (tmp_path / ".lfc").iterdir()] == ["set.lock"]
        old, new = new, old
        if finished:
            break
    assert number > 10


def test_the_client_gets_its_own_session_back(huggingface: HuggingFace, tmp_path: Path) -> None:
    from huggingface_hub.utils import _http

    before = _http._GLOBAL_CLIENT_FACTORY
    huggingface.add("o/set", FILES)
    environment = dict(os.environ)
    assert invoke(tmp_path).exit_code == 0
    assert _http._GLOBAL_CLIENT_FACTORY is before
    assert dict(os.environ) == environment


SPLITS = {
    "README.md": SMALL,
    "main/train-00000-of-00001.parquet": b"1",
    "main/test-00000-of-00001.parquet": b"2",
    "hard.jsonl": LARGE,
}


@pytest.mark.parametrize(
    ("split", "data"),
    [
        ("train", ["main/train-00000-of-00001.parquet"]),
        ("test", ["main/test-00000-of-00001.parquet"]),
        ("hard", []),
    ],
)
def test_of_a_split_its_files_and_those_of_none_arrive(
    huggingface: HuggingFace, tmp_path: Path, split: str, data: list[str]
) -> None:
    huggingface.add("o/set", SPLITS)
    result = invoke(tmp_path, "--split", split)
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(read_bodies(tmp_path / "set")) == sorted(["README.md", "hard.jsonl", *data])
    # The next split comes beside it.
    assert invoke(tmp_path, "--split", "test").exit_code == 0
    assert "main/test-00000-of-00001.parquet" in read_bodies(tmp_path / "set")
    assert set(data) <= set(read_bodies(tmp_path / "set"))


def test_a_split_that_is_not_there_is_told_of_with_those_that_are(huggingface: HuggingFace, tmp_path: Path) -> None:
    huggingface.add("o/set", SPLITS)
    result = invoke(tmp_path, "--split", "validation")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: o/set has no split 'validation'; it has test, train\n  Try: --split NAME, or --include GLOB\n"
    )
    assert not (tmp_path / "set").exists()
