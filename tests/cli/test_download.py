"""`lfc prep download` and `lfc prep sources`, with the real client against a hub on 127.0.0.1."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.storage.manifests import describe_input, find_download_manifest
from tests.support.modelscope_server import FINETOME_REPOSITORY, MEDICAL_REPOSITORY, Hub, serve_hub, serve_samples

OLD = {"train.jsonl": b'{"a": 1}\n' * 500, "docs/deep/notes.txt": b"old", "gone.txt": b"gone"}
NEW = {"train.jsonl": b'{"a": 2}\n' * 700, "docs/deep/notes.txt": b"old", "added.bin": bytes(range(256))}
AGAIN = "run again later; if it comes again, report it to the repository's owner"


@pytest.fixture(autouse=True)
def _hurry(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import modelscope_hub._download as client

    monkeypatch.setattr(client, "DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lfc, ["prep", "download", *arguments], prog_name="lfc")


def download(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    result = invoke(*arguments, "--to", str(folder), "--json")
    assert result.exit_code == 0, result.output
    repositories: list[dict[str, Any]] = json.loads(result.stdout)["repositories"]
    return repositories


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder except the working folder and the manifest; links by where they lead."""
    tree = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            tree[name] = b"-> " + os.fsencode(path.readlink())
        elif path.is_file() and ".lfc" not in path.parts and path.name != ".lfc-download.json":
            tree[name] = path.read_bytes()
    return tree


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / ".lfc-download.json").read_text(encoding="ascii"))
    return manifest


def under(prefix: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{prefix}/{path}": body for path, body in files.items()}


# What a user gets


def test_a_dataset_arrives_with_nested_folders_an_empty_file_and_a_manifest(hub: Hub, tmp_path: Path) -> None:
    files = {"a.jsonl": b"{}\n", "data/deep/b.txt": b"b", "empty": b""}
    commit = hub.add("o/set", files)
    (result,) = download(tmp_path / "raw", "o/set")
    assert read_tree(tmp_path) == under("raw/set", files)
    assert (result["state"], result["commit"], result["fetched_bytes"]) == ("downloaded", commit, 4)
    manifest = read_manifest(tmp_path / "raw/set")
    clients = manifest.pop("clients")
    assert set(clients) >= {"llamafactory-companion", "modelscope-hub"}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert manifest["files"].pop("empty") == {"bytes": 0, "sha256": empty, "verified": "sha256"}
    assert {path: entry["bytes"] for path, entry in manifest.pop("files").items()} == {
        "a.jsonl": 3,
        "data/deep/b.txt": 1,
    }
    assert manifest == {
        "manifest_version": 1,
        "hub": "modelscope",
        "endpoint": hub.endpoint,
        "repository": "o/set",
        "type": "dataset",
        "revision": "master",
        "commit": commit,
    }


def test_files_are_fetched_at_the_listed_commit(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("o/set", OLD)
    download(tmp_path, "o/set")
    revisions = {query["Revision"] for path, query, _ in hub.requests if path.endswith("/repo")}
    assert revisions == {commit}


def test_a_hub_that_does_not_know_commits_by_name_is_asked_for_the_branch(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("o/set", OLD)
    hub.knows_commits = False
    (result,) = download(tmp_path, "o/set")
    assert read_tree(tmp_path) == under("set", OLD)
    assert result["commit"] == commit
    assert {query["Revision"] for path, query, _ in hub.requests if path.endswith("/repo")} == {commit, "master"}


def test_a_model_arrives_under_its_own_name(hub: Hub, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "tokenizer/vocab.txt": b"v"}
    hub.add("Qwen/Tiny", files, repo_type="model")
    (result,) = download(tmp_path / "models", "--model", "Qwen/Tiny")
    assert read_tree(tmp_path) == under("models/Tiny", files)
    assert result["folder"] == (tmp_path / "models/Tiny").as_posix()
    assert read_manifest(tmp_path / "models/Tiny")["type"] == "model"


def test_a_dataset_of_two_listing_pages_arrives_whole(hub: Hub, tmp_path: Path) -> None:
    files = {f"part/{number:03}.txt": str(number).encode() for number in range(250)}
    hub.add("o/many", files)
    download(tmp_path, "o/many", "--jobs", "8")
    assert read_tree(tmp_path) == under("many", files)
    assert hub.count_requests("/repo/tree") == 2


def test_several_named_sets_arrive_in_one_call_without_their_cards(hub: Hub, tmp_path: Path) -> None:
    serve_samples(hub)
    results = download(tmp_path, "medical-cot", "finetome")
    assert [result["repository"] for result in results] == [MEDICAL_REPOSITORY, FINETOME_REPOSITORY]
    samples = Path(__file__).parents[2] / "llamafactory_configs" / "samples"
    assert read_tree(tmp_path) == {
        "delicate_medical_r1_data/r1_data_example.jsonl": (samples / "r1_data_example.jsonl").read_bytes(),
        "FineTome-100k/data/train-00000-of-00001.parquet": (samples / "finetome_example.parquet").read_bytes(),
    }


def test_without_to_datasets_go_to_data_raw_and_models_to_models(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("o/set", {"a": b"a"})
    hub.add("o/m", {"b": b"b"}, repo_type="model")
    monkeypatch.chdir(tmp_path)
    assert invoke("o/set").exit_code == invoke("--model", "o/m").exit_code == 0
    assert read_tree(tmp_path) == {"data/raw/set/a": b"a", "models/m/b": b"b"}


def test_the_summary_says_what_came_and_a_second_run_that_there_is_nothing_to_do(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("o/set", {"a.jsonl": b"x" * 1234})
    first = invoke("o/set", "--to", str(tmp_path))
    assert first.stdout.split("\n")[1].split("  ") == [
        str(tmp_path / "set"),
        "1 file, 1,234 bytes",
        f"commit {commit[:12]}",
        "downloaded and verified",
    ]
    requests = len(hub.requests)
    second = invoke("o/set", "--to", str(tmp_path))
    assert second.stdout.split("\n")[1].endswith("nothing to do: every file has the recorded sha256")
    assert [path for path, _, _ in hub.requests[requests:]] == ["/api/v1/datasets/o/set/repo/tree"]
    assert (first.stderr, second.stderr) == ("", "")


def test_a_dry_run_lists_files_sizes_and_free_disk_and_writes_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a.jsonl": b"x" * 1234, "b/c.txt": b"y"})
    result = invoke("o/set", "--to", str(tmp_path / "raw"), "--dry-run")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == [str(tmp_path / "raw/set/a.jsonl"), "1,234", "bytes"]
    assert lines[2] == [str(tmp_path / "raw/set/b/c.txt"), "1", "bytes"]
    assert lines[3][-4:] == ["1,235", "bytes", "to", "fetch"]
    assert lines[4][:2] == ["free", "disk"]
    assert list(tmp_path.iterdir()) == []
    assert hub.count_requests("/repo") == 0


def test_include_exclude_and_revision_choose_what_comes(hub: Hub, tmp_path: Path) -> None:
    first = hub.add("o/set", {"a.jsonl": b"1", "b.jsonl": b"1", "c.txt": b"1"})
    hub.add("o/set", {"a.jsonl": b"2", "b.jsonl": b"2", "c.txt": b"2"})
    hub.repositories["dataset", "o/set"].tags["v1"] = first
    (result,) = download(tmp_path, "o/set", "--include", "*.jsonl", "--exclude", "b*", "--revision", "v1")
    assert read_tree(tmp_path) == {"set/a.jsonl": b"1"}
    assert (result["revision"], result["commit"]) == ("v1", first)


def test_files_of_an_earlier_call_stay_in_the_folder_and_follow_its_commit(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"1", "b": b"1", "c": b"1"})
    download(tmp_path, "o/set", "--include", "a")
    hub.add("o/set", {"a": b"2", "b": b"2", "c": b"2"})
    download(tmp_path, "o/set", "--include", "b")
    assert read_tree(tmp_path) == {"set/a": b"2", "set/b": b"2"}


def test_an_update_brings_the_new_state_and_keeps_the_users_own_files(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", OLD)
    download(tmp_path, "o/set")
    mine = {"mine.txt": b"mine", "docs/mine too.txt": b"mine", "own/folder/x": b"x"}
    for path, body in mine.items():
        (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / path).write_bytes(body)
    (tmp_path / "set/empty folder").mkdir()
    (tmp_path / "set/link").symlink_to("mine.txt")
    commit = hub.add("o/set", NEW)
    (result,) = download(tmp_path, "o/set")
    assert read_tree(tmp_path) == under("set", {**NEW, **mine, "link": b"-> mine.txt"})
    assert (tmp_path / "set/empty folder").is_dir()
    assert (result["state"], result["removed"], result["commit"]) == ("updated", ["gone.txt"], commit)
    assert result["fetched_bytes"] == len(NEW["train.jsonl"]) + len(NEW["added.bin"])
    assert [path.name for path in (tmp_path / ".lfc").iterdir()] == ["set.lock"]


def test_an_update_that_only_removes_a_file_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a", "sub/b": b"b"})
    download(tmp_path, "o/set")
    requests = hub.count_requests("/repo")
    hub.add("o/set", {"a": b"a"})
    (result,) = download(tmp_path, "o/set")
    assert (result["state"], result["removed"], result["fetched_bytes"]) == ("updated", ["sub/b"], 0)
    assert read_tree(tmp_path) == {"set/a": b"a"}
    assert not (tmp_path / "set/sub").exists()
    assert hub.count_requests("/repo") == requests


def test_a_file_that_is_gone_upstream_but_was_changed_here_stays(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", OLD)
    download(tmp_path, "o/set")
    (tmp_path / "set/gone.txt").write_bytes(b"now mine")
    hub.add("o/set", NEW)
    (result,) = download(tmp_path, "o/set")
    assert result["removed"] == []
    assert read_tree(tmp_path)["set/gone.txt"] == b"now mine"


def test_a_commit_that_changes_no_file_here_only_renews_the_manifest(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", {"a": b"a", "other": b"1"})
    download(tmp_path, "o/set", "--include", "a")
    commit = hub.add("o/set", {"a": b"a", "other": b"2"})
    (result,) = download(tmp_path, "o/set", "--include", "a")
    assert (result["state"], result["commit"]) == ("verified", commit)
    assert read_manifest(tmp_path / "set")["commit"] == commit
    assert hub.count_requests("/repo") == 1


def test_files_that_another_tool_downloaded_rightly_are_taken_over(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", OLD)
    for path, body in OLD.items():
        (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / path).write_bytes(body)
    (result,) = download(tmp_path, "o/set")
    assert result["state"] == "verified"
    assert set(read_manifest(tmp_path / "set")["files"]) == set(OLD)
    assert hub.count_requests("/repo") == 0


def test_a_missing_file_is_restored(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", OLD)
    download(tmp_path, "o/set")
    (tmp_path / "set/train.jsonl").unlink()
    (result,) = download(tmp_path, "o/set")
    assert (result["state"], result["fetched_bytes"]) == ("updated", len(OLD["train.jsonl"]))
    assert read_tree(tmp_path) == under("set", OLD)


def test_the_origin_of_a_data_file_can_be_traced(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("o/set", {"data/a.jsonl": b"{}\n"})
    download(tmp_path, "o/set")
    (tmp_path / "set/data/mine.jsonl").write_bytes(b"{}\n")
    assert find_download_manifest(tmp_path / "set/data/a.jsonl") == {
        "endpoint": hub.endpoint,
        "repository": "o/set",
        "type": "dataset",
        "revision": "master",
        "commit": commit,
        "file": "data/a.jsonl",
        "bytes": 3,
        "sha256": "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
    }
    assert find_download_manifest(tmp_path / "set/data/mine.jsonl") is None
    assert find_download_manifest(tmp_path / "elsewhere.jsonl") is None


def test_convert_records_the_commit_of_its_input(hub: Hub, tmp_path: Path) -> None:
    serve_samples(hub)
    (result,) = download(tmp_path, "medical-cot")
    source = tmp_path / "delicate_medical_r1_data/r1_data_example.jsonl"
    converted = CliRunner().invoke(lfc, ["prep", "convert", str(source), "-o", str(tmp_path / "data/m.jsonl")])
    assert converted.exit_code == 0, converted.output
    manifest = json.loads((tmp_path / "data/m.manifest.json").read_text(encoding="ascii"))
    (origin,) = [entry["download"] for entry in manifest["inputs"]]
    assert (origin["repository"], origin["commit"]) == (MEDICAL_REPOSITORY, result["commit"])
    assert origin["changed_since"] is False
    source.write_bytes(source.read_bytes() + b"\n")
    assert describe_input(source)["download"]["changed_since"] is True


def test_sources_lists_the_named_sets() -> None:
    result = CliRunner().invoke(lfc, ["prep", "sources"])
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
        ["medical-cot", "krisfu/delicate_medical_r1_data", "medical-cot"],
        ["finetome", "AI-ModelScope/FineTome-100k", "sharegpt"],
        ["openmath-mini", "unsloth/OpenMathReasoning-mini", "openmath"],
    ]
    as_json = json.loads(CliRunner().invoke(lfc, ["prep", "sources", "--json"]).stdout)
    assert as_json["finetome"]["include"] == ["*.parquet"]


# What goes wrong


@pytest.fixture
def old_state(hub: Hub, tmp_path: Path) -> dict[str, bytes]:
    """An older download with a file of the user's in it; the hub has moved on."""
    hub.add("o/set", OLD)
    download(tmp_path / "raw", "o/set")
    (tmp_path / "raw/set/mine.txt").write_bytes(b"mine")
    hub.add("o/set", NEW)
    return read_tree(tmp_path)


def expect_failure(tmp_path: Path, message: str, hint: str, *arguments: str, name: str = "o/set") -> None:
    """The download fails in one line, over an old state as well as into a new folder, and both stay as they are."""
    before = read_tree(tmp_path)
    for folder in ("raw", "fresh"):
        result = invoke(name, "--to", str(tmp_path / folder), *arguments)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        assert result.stderr.endswith(f"Error: {message}\n  Try: {hint}\n"), result.stderr
        assert read_tree(tmp_path) == before
        assert not (tmp_path / "fresh/set").exists()


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (
            401,
            "the hub wants a valid token (401)",
            "put one into an environment variable and name it: --token-env NAME",
        ),
        (403, "this account may not read it (403)", "ask its owner for access, or use another token"),
        (
            404,
            "not found on the hub (404)",
            "check OWNER/NAME, and --model for a model; a private one needs --token-env",
        ),
        (400, "the hub finds the request invalid (400)", "check OWNER/NAME and --revision"),
    ],
)
def test_a_refused_listing_is_one_line(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], status: int, message: str, hint: str
) -> None:
    hub.fail("list", status=status)
    expect_failure(tmp_path, f"o/set: {message} ({hub.endpoint})", hint)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_file_is_one_line(hub: Hub, tmp_path: Path, old_state: dict[str, bytes], status: int) -> None:
    hub.fail("file", path="train.jsonl", status=status)
    what, hint = {
        401: (
            "the hub wants a valid token (401)",
            "put one into an environment variable and name it: --token-env NAME",
        ),
        403: ("this account may not read it (403)", "ask its owner for access, or use another token"),
        404: (
            "not found on the hub (404)",
            "check OWNER/NAME, and --model for a model; a private one needs --token-env",
        ),
    }[status]
    expect_failure(tmp_path, f"o/set: 'train.jsonl': {what} ({hub.endpoint})", hint)


def test_two_server_errors_are_waited_out(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    hub.fail("list", status=500, times=2)
    hub.fail("file", path="train.jsonl", status=500, times=2)
    download(tmp_path / "raw", "o/set")
    assert read_tree(tmp_path / "raw") == under("set", {**NEW, "mine.txt": b"mine"})


@pytest.mark.parametrize("on", ["list", "file"])
def test_a_server_that_fails_for_ever_is_one_line(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], on: str
) -> None:
    hub.fail(on, status=500, path="train.jsonl" if on == "file" else None)
    where = "'train.jsonl': " if on == "file" else ""
    expect_failure(
        tmp_path,
        f"o/set: {where}the hub failed (5xx), also when asked again ({hub.endpoint})",
        "wait some minutes, then run the same command again: what has arrived is kept",
    )


@pytest.mark.parametrize("payload", [b"<html>Welcome</html>", b"[]", b'"hello"', b"7", b""])
def test_an_answer_that_is_no_listing_is_one_line(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], payload: bytes
) -> None:
    hub.fail("list", payload=payload)
    expect_failure(
        tmp_path,
        f"o/set: {hub.endpoint} answers with something else than a hub's JSON",
        "check --endpoint or MODELSCOPE_ENDPOINT: is a ModelScope hub there?",
    )


@pytest.mark.parametrize(
    "payload", [b'{"Code": 500, "Success": false, "Message": "busy", "Data": null}', b'{"Data": 7}', b"{}"]
)
def test_a_business_failure_with_status_200_is_no_success(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], payload: bytes
) -> None:
    hub.fail("list", payload=payload)
    expect_failure(
        tmp_path, "o/set at master lists no files; its revisions are master", "check --revision, or --model"
    )


@pytest.mark.parametrize("payload", [b"<html>Welcome</html>", b'{"Data": ["master"]}'])
def test_an_empty_listing_with_no_revisions_to_name_is_one_line(hub: Hub, tmp_path: Path, payload: bytes) -> None:
    hub.add("o/set", {})
    hub.fail("revisions", payload=payload)
    result = invoke("o/set", "--to", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"Error: o/set: {hub.endpoint} answers with something else than a hub's JSON\n"
        "  Try: check --endpoint or MODELSCOPE_ENDPOINT: is a ModelScope hub there?\n"
    )


def test_a_model_listing_that_the_hub_cuts_short_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/big", {f"{number}.txt": b"x" for number in range(3000)}, repo_type="model")
    result = invoke("--model", "o/big", "--to", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "Error: o/big: the hub cannot list all its files: a folder has 3,000 or more\n"
        "  Try: ask the repository's owner to split the folder\n"
    )


def test_an_unknown_revision_names_the_known_ones(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    hub.repositories["dataset", "o/set"].tags["v1"] = "x"
    expect_failure(
        tmp_path,
        "o/set at v9 lists no files; its revisions are v1, master",
        "check --revision, or --model",
        "--revision",
        "v9",
    )


def test_an_include_that_takes_nothing_names_what_is_there(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes]
) -> None:
    expect_failure(
        tmp_path,
        "o/set: no file is taken by --include '*.parquet'; "
        "there are 'train.jsonl', 'docs/deep/notes.txt', 'added.bin'",
        "quote the patterns; * also stands for /",
        "--include",
        "*.parquet",
    )


@pytest.mark.parametrize("path", ["../evil.txt", "a/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt"])
def test_a_path_that_leaves_the_folder_is_refused_before_any_file_is_fetched(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], path: str
) -> None:
    requests = hub.count_requests("/repo")
    hub.add("o/set", {**NEW, path: b"evil"})
    result = invoke("o/set", "--to", str(tmp_path / "raw"))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: o/set: the listing names {path!r}, ")
    assert read_tree(tmp_path) == old_state
    assert hub.count_requests("/repo") == requests
    assert not Path("/tmp/evil.txt").exists()


def edit_train(**fields: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Falsify what is listed for train.jsonl; a field of None is left out."""

    def edit(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        changed = [{**entry, **fields} if entry["Path"] == "train.jsonl" else entry for entry in entries]
        return [{key: value for key, value in entry.items() if value is not None} for entry in changed]

    return edit


def test_a_file_listed_without_a_size_is_refused(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    hub.repositories["dataset", "o/set"].edit_listing = edit_train(Size=None)
    result = invoke("o/set", "--to", str(tmp_path / "raw"))
    assert result.exit_code == 1
    assert "the listing gives 'train.jsonl' the size None, not a number of bytes" in result.stderr
    assert read_tree(tmp_path) == old_state


def test_a_file_listed_without_a_hash_is_refused_or_taken_on_its_size_when_allowed(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes]
) -> None:
    hub.repositories["dataset", "o/set"].edit_listing = edit_train(Sha256=None)
    expect_failure(
        tmp_path,
        "o/set: the hub states no sha256 for 'train.jsonl': damage would go unseen",
        "--exclude it, or --allow-unhashed to take it on its size alone",
    )
    (result,) = download(tmp_path / "raw", "o/set", "--allow-unhashed")
    assert (result["state"], result["unhashed"]) == ("updated", ["train.jsonl"])
    assert read_manifest(tmp_path / "raw/set")["files"]["train.jsonl"]["verified"] == "size"
    requests = hub.count_requests("/repo")
    (again,) = download(tmp_path / "raw", "o/set", "--allow-unhashed")
    assert again["state"] == "verified"
    assert hub.count_requests("/repo") == requests
    assert download(tmp_path / "raw", "o/set", "--offline")[0]["state"] == "verified"


def test_an_upper_case_hash_is_understood(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", NEW)
    hub.repositories["dataset", "o/set"].edit_listing = lambda entries: [
        {**entry, "Sha256": entry["Sha256"].upper()} for entry in entries
    ]
    download(tmp_path, "o/set")
    assert read_tree(tmp_path) == under("set", NEW)


def test_a_wrong_hash_fails_after_it_was_fetched_again(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes]
) -> None:
    hub.fail("file", path="train.jsonl", flip=True)
    expect_failure(
        tmp_path,
        f"o/set: 'train.jsonl': arrived with another sha256 than listed, also when fetched again ({hub.endpoint})",
        AGAIN,
    )


def test_a_file_that_is_damaged_once_is_fetched_again(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes]
) -> None:
    hub.fail("file", path="train.jsonl", flip=True, times=1)
    download(tmp_path / "raw", "o/set")
    assert read_tree(tmp_path / "raw") == under("set", {**NEW, "mine.txt": b"mine"})


def test_a_file_of_another_size_than_listed_fails(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    hub.fail("file", path="train.jsonl", drop_tail=10)
    expect_failure(
        tmp_path,
        f"o/set: 'train.jsonl': arrived with another size than listed, also when fetched again ({hub.endpoint})",
        AGAIN,
    )


def test_a_login_page_instead_of_a_file_fails(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    hub.fail("file", path="train.jsonl", payload=b"<html>log in</html>")
    expect_failure(
        tmp_path,
        f"o/set: 'train.jsonl': arrived with another size than listed, also when fetched again ({hub.endpoint})",
        AGAIN,
    )


def test_a_hub_that_cannot_be_reached_is_one_line(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    with serve_hub() as other:
        nowhere = other.endpoint
    expect_failure(
        tmp_path,
        f"o/set: the hub cannot be reached ({nowhere})",
        "check the network and --endpoint, then run the same command again: what has arrived is kept",
        "--endpoint",
        nowhere,
    )


def test_a_cut_connection_is_resumed_with_a_range(hub: Hub, tmp_path: Path) -> None:
    body = bytes(range(256)) * 4000
    hub.add("o/set", {"a.bin": body})
    hub.fail("file", cut_after=300_000, times=3)
    download(tmp_path, "o/set")
    assert read_tree(tmp_path) == {"set/a.bin": body}
    ranges = [headers.get("range") for path, _, headers in hub.requests if path.endswith("/repo")]
    assert ranges[0] is None
    assert len(ranges) == 4
    assert all(asked is not None and asked.startswith("bytes=") for asked in ranges[1:])


def test_what_arrived_before_a_failure_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", NEW)
    hub.fail("file", path="train.jsonl", status=404)
    assert invoke("o/set", "--to", str(tmp_path)).exit_code == 1
    hub.faults.clear()
    hub.requests.clear()
    (result,) = download(tmp_path, "o/set")
    fetched = [query["FilePath"] for path, query, _ in hub.requests if path.endswith("/repo")]
    assert fetched == ["train.jsonl"]
    assert result["fetched_bytes"] == len(NEW["train.jsonl"])
    assert read_tree(tmp_path) == under("set", NEW)


def test_files_of_an_interrupted_other_commit_do_not_come_along(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", OLD)
    hub.fail("file", path="train.jsonl", status=404)
    assert invoke("o/set", "--to", str(tmp_path)).exit_code == 1
    hub.faults.clear()
    hub.add("o/set", NEW)
    download(tmp_path, "o/set")
    assert read_tree(tmp_path) == under("set", NEW)


def test_a_full_disk_is_seen_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = hub.count_requests("/repo")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 12))
    result = invoke("o/set", "--to", str(tmp_path / "raw"))
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"Error: {tmp_path / 'raw'} has 12 bytes of free disk, and 6,556 are needed\n"
        "  Try: free some disk space, choose another --to, or take fewer files with --include\n"
    )
    assert hub.count_requests("/repo") == requests
    assert read_tree(tmp_path) == old_state


def test_a_disk_that_fills_up_on_the_way_is_one_line(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import modelscope_hub._download as client

    def open_on_full_disk(path: Any, mode: str = "r") -> Any:
        if str(path).endswith("train.jsonl.incomplete"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return Path(path).open(mode)

    monkeypatch.setattr(client, "open", open_on_full_disk, raising=False)
    expect_failure(
        tmp_path,
        f"o/set: 'train.jsonl': cannot be written: no space left on device ({hub.endpoint})",
        "free some disk space or choose another --to; what has arrived is kept",
    )


def test_a_target_that_cannot_be_written_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", NEW)
    (tmp_path / "file").write_bytes(b"x")
    result = invoke("o/set", "--to", str(tmp_path / "file/raw"))
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'file/raw'} cannot be written: not a directory\n"
    assert read_tree(tmp_path) == {"file": b"x"}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_target_without_permission_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", NEW)
    # Root may write everywhere, until it gives that right away.
    as_anyone = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if is_root() else []
    command = [
        *as_anyone,
        sys.executable,
        "-m",
        "launch",
        "prep",
        "download",
        "o/set",
        "--to",
        str(tmp_path / "raw"),
    ]
    tmp_path.chmod(0o555)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert result.returncode == 1
    assert result.stderr.endswith(
        f"Error: {tmp_path / 'raw'} cannot be written: permission denied\n"
        "  Try: choose an output folder that you may write to\n"
    )


def test_a_link_in_the_target_is_never_followed(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(tmp_path / "raw/set/docs", outside)
    shutil.rmtree(tmp_path / "raw/set/docs")
    (tmp_path / "raw/set/docs").symlink_to(outside, target_is_directory=True)
    before = read_tree(tmp_path)
    result = invoke("o/set", "--to", str(tmp_path / "raw"), "--force")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"Error: {tmp_path / 'raw/set/docs'} is a symbolic link where the repository has 'docs/deep/notes.txt'\n"
        "  Try: a download never follows a link: remove it, or choose another --to\n"
    )
    assert read_tree(tmp_path) == before


def test_a_target_that_is_itself_a_link_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", NEW)
    (tmp_path / "real").mkdir()
    (tmp_path / "set").symlink_to("real", target_is_directory=True)
    result = invoke("o/set", "--to", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"Error: {tmp_path / 'set'} is a symbolic link\n  Try: --to the folder that the link leads to\n"
    )
    assert read_tree(tmp_path) == {"set": b"-> real"}


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        ("docs", "{target}/docs is a file, and would become a folder"),
        ("train.jsonl/x", "{target}/train.jsonl is a folder, not a file"),
        ("", "{target} is a file, and would become a folder"),
    ],
)
def test_a_file_where_a_folder_belongs_is_refused(hub: Hub, tmp_path: Path, mine: str, message: str) -> None:
    hub.add("o/set", NEW)
    path = tmp_path / "set" / mine if mine else tmp_path / "set"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    before = read_tree(tmp_path)
    result = invoke("o/set", "--to", str(tmp_path), "--force")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"Error: {message.format(target=tmp_path / 'set')}\n  Try: move it away, or choose another --to\n"
    )
    assert read_tree(tmp_path) == before


def test_a_listing_with_a_file_and_a_folder_of_one_name_is_refused(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes]
) -> None:
    hub.add("o/set", {"train.jsonl": b"x", "train.jsonl/part": b"y"})
    expect_failure(
        tmp_path,
        "o/set: 'train.jsonl' is listed as a file, and as the folder of 'train.jsonl/part'",
        "leave it out with --exclude",
    )


def test_a_file_that_the_user_changed_is_set_aside_only_by_force(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes]
) -> None:
    (tmp_path / "raw/set/train.jsonl").write_bytes(b"edited")
    before = read_tree(tmp_path)
    result = invoke("o/set", "--to", str(tmp_path / "raw"))
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"Error: {tmp_path / 'raw/set'}: 'train.jsonl' would be replaced, and no download left it so\n"
        "  Try: --force to set it aside and go on, or another --to\n"
    )
    assert read_tree(tmp_path) == before
    download(tmp_path / "raw", "o/set", "--force")
    assert read_tree(tmp_path / "raw") == under(
        "set", {**NEW, "mine.txt": b"mine", "train.jsonl.set-aside": b"edited"}
    )


def test_another_repository_in_the_folder_is_refused(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    hub.add("p/set", NEW)
    result = invoke("p/set", "--to", str(tmp_path / "raw"), "--force")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / 'raw/set'} holds the dataset o/set, not the dataset p/set\n"
        "  Try: choose another --to\n"
    )
    assert read_tree(tmp_path) == old_state


def test_a_broken_manifest_is_named(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    manifest = tmp_path / "raw/set/.lfc-download.json"
    manifest.write_text('{"manifest_version": 1}', encoding="utf-8")
    result = invoke("o/set", "--to", str(tmp_path / "raw"))
    assert result.exit_code == 1
    assert f"Error: {manifest} cannot be read: " in result.stderr
    assert f"  Try: remove {manifest}, then download again: files that are whole stay\n" in result.stderr


def test_when_one_of_several_cannot_be_listed_none_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", NEW)
    result = invoke("o/set", "o/none", "--to", str(tmp_path))
    assert result.exit_code == 1
    assert hub.count_requests("/repo") == 0
    assert list(tmp_path.iterdir()) == []


def test_wrong_calls_end_with_exit_code_2(tmp_path: Path) -> None:
    assert invoke("--to", str(tmp_path)).exit_code == 2
    assert invoke("o/set", "--jobs", "0").exit_code == 2
    both = invoke("o/set", "--dry-run", "--offline")
    assert both.exit_code == 2
    assert both.stderr.endswith("Error: --dry-run asks the hub, --offline does not: use one of them\n")


# Offline


def test_offline_verifies_without_a_request(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    hub.requests.clear()
    (result,) = download(tmp_path / "raw", "o/set", "--offline")
    assert (result["state"], sorted(result["files"])) == ("verified", sorted(OLD))
    assert hub.requests == []


def _flip_a_byte(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(OLD["train.jsonl"].replace(b"1", b"7", 1))


def _remove_a_file(folder: Path) -> None:
    (folder / "gone.txt").unlink()


def _link_a_folder(folder: Path) -> None:
    (folder / "docs").rename(folder.parent / "docs")
    (folder / "docs").symlink_to(folder.parent / "docs", target_is_directory=True)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_flip_a_byte, "'train.jsonl' changed"),
        (_remove_a_file, "'gone.txt' missing"),
        (_link_a_folder, "'docs/deep/notes.txt' changed"),
    ],
)
def test_offline_refuses_a_folder_that_was_tampered_with(
    hub: Hub, tmp_path: Path, old_state: dict[str, bytes], tamper: Callable[[Path], None], message: str
) -> None:
    tamper(tmp_path / "raw/set")
    result = invoke("o/set", "--to", str(tmp_path / "raw"), "--offline")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / 'raw/set'} is not what was downloaded: {message}\n"
        "  Try: download it again without --offline; --force sets changed files aside\n"
    )


def test_offline_refuses_what_was_never_downloaded(hub: Hub, tmp_path: Path, old_state: dict[str, bytes]) -> None:
    never = invoke("o/other", "--to", str(tmp_path / "raw"), "--offline")
    assert never.stderr.startswith(f"Error: {tmp_path / 'raw/other'} holds no download of o/other\n")
    revision = invoke("o/set", "--to", str(tmp_path / "raw"), "--offline", "--revision", "v2")
    assert revision.stderr.startswith(f"Error: {tmp_path / 'raw/set'} holds revision master, not v2\n")
    files = invoke("o/set", "--to", str(tmp_path / "raw"), "--offline", "--include", "*.parquet")
    assert files.stderr.startswith(f"Error: {tmp_path / 'raw/set'} holds none of the files asked for\n")
    assert [result.exit_code for result in (never, revision, files)] == [1, 1, 1]


# The token


def test_a_token_opens_a_private_repository_and_is_written_nowhere(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "ms-very-secret-0123456789"
    hub.add("o/set", NEW)
    monkeypatch.setenv("TEAM_TOKEN", hub.token)
    without = invoke("o/set", "--to", str(tmp_path / "raw"))
    assert without.exit_code == 1
    assert "the hub wants a valid token (401)" in without.stderr
    outputs = [invoke("o/set", "--to", str(tmp_path / "raw"), "--token-env", "TEAM_TOKEN", "--json").output]
    # Also when the hub repeats it in an error.
    hub.fail("list", status=403, message=f"{hub.token} is not welcome")
    outputs.append(invoke("o/set", "--to", str(tmp_path / "raw"), "--token-env", "TEAM_TOKEN").output)
    assert "this account may not read it (403)" in outputs[1]
    assert not any(hub.token in output for output in outputs)
    assert read_tree(tmp_path) == under("raw/set", NEW)
    for place in (tmp_path, Path(os.environ["MODELSCOPE_HOME"]), Path(os.environ["MODELSCOPE_CACHE"])):
        written = [path for path in place.rglob("*") if path.is_file()]
        assert [path for path in written if hub.token.encode() in path.read_bytes()] == []


def test_a_token_does_not_follow_a_redirect_to_another_server(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "ms-very-secret-0123456789"
    monkeypatch.setenv("TEAM_TOKEN", hub.token)
    hub.add("o/set", {"a": b"body"})
    with serve_hub() as storage:
        storage.repositories = hub.repositories
        hub.fail("file", redirect=storage.endpoint.replace("127.0.0.1", "localhost"))
        download(tmp_path, "o/set", "--token-env", "TEAM_TOKEN")
        assert read_tree(tmp_path) == {"set/a": b"body"}
        assert len(storage.requests) == 1
        assert hub.token not in str(storage.requests)


@pytest.mark.parametrize("address", ["name:password@127.0.0.1:9", "127.0.0.1:9/?token=ms-very-secret"])
def test_an_endpoint_that_holds_a_secret_is_refused(tmp_path: Path, address: str) -> None:
    result = invoke("o/set", "--to", str(tmp_path), "--endpoint", f"http://{address}")
    assert result.exit_code == 1
    assert result.output == (
        "Error: the endpoint holds a name, a password or a query, and is shown and recorded\n"
        "  Try: give the plain address, and a token with --token-env\n"
    )


def test_a_variable_without_a_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_TOKEN", " ")
    for name in ("EMPTY_TOKEN", "NO_SUCH_VARIABLE"):
        result = invoke("o/set", "--token-env", name)
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: the environment variable {name} holds no token\n"
            f"  Try: put the token into {name}, and give --token-env the variable's name, never the token\n"
        )
