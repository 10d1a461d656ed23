"""A folder is its old state or its new one, whatever moment the power goes."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prep.errors import DownloadError, InputError, OutputError
from prep.hub import snapshot
from prep.hub.download_manifest import DownloadManifest, read_download_manifest
from prep.hub.listing import RemoteFile
from prep.hub.snapshot import Staging, find_intact, verify_folder
from prep.storage.manifests import DOWNLOAD_MANIFEST_NAME


def listed(path: str, body: bytes) -> RemoteFile:
    return RemoteFile(path, len(body), hashlib.sha256(body).hexdigest())


def make_manifest(files: dict[str, bytes]) -> DownloadManifest:
    entries = {
        path: {"bytes": len(body), "sha256": listed(path, body).sha256, "verified": "sha256"}
        for path, body in files.items()
    }
    return DownloadManifest("http://hub", "o/set", "dataset", "master", "c1", entries, {"modelscope-hub": "0.5.0"})


def stage(target: Path, files: dict[str, bytes]) -> Staging:
    staging = Staging(target, "key")
    staging.open()
    for path, body in files.items():
        (staging.files / path).parent.mkdir(parents=True, exist_ok=True)
        (staging.files / path).write_bytes(body)
    return staging


def publish(target: Path, files: dict[str, bytes], removed: tuple[str, ...] = ()) -> None:
    stage(target, files).publish(make_manifest(files), removed)


def read(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != DOWNLOAD_MANIFEST_NAME
    }


WITHOUT_EXCHANGE = pytest.param(lambda one, other: False, id="two renames")
WITH_WHAT_THE_SYSTEM_HAS = pytest.param(snapshot._swap_paths, id="this system's way")


@pytest.mark.parametrize("swap", [WITHOUT_EXCHANGE, WITH_WHAT_THE_SYSTEM_HAS])
def test_publishing_replaces_the_old_state_and_keeps_the_users_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path, Path], bool]
) -> None:
    monkeypatch.setattr(snapshot, "_swap_paths", swap)
    target = tmp_path / "set"
    publish(target, {"a": b"1", "sub/b": b"1", "gone/c": b"1"})
    (target / "sub/mine").write_bytes(b"mine")
    publish(target, {"a": b"2", "sub/b": b"1"}, removed=("gone/c",))
    assert read(target) == {"a": b"2", "sub/b": b"1", "sub/mine": b"mine"}
    assert not (target / "gone").exists()
    assert read_download_manifest(target) == make_manifest({"a": b"2", "sub/b": b"1"})
    assert list((tmp_path / ".lfc").iterdir()) == []


def test_a_system_without_exchange_is_told_by_the_answer_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    assert snapshot._swap_paths(tmp_path / "one", tmp_path / "missing") is False
    monkeypatch.setattr("sys.platform", "win32")
    assert snapshot._swap_paths(tmp_path / "one", tmp_path / "one") is False
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_rename_that_the_system_refuses_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows when another program has a file of the folder open: each of the two renames in turn."""
    target = tmp_path / "set"
    publish(target, {"a": b"1"})
    before = read_download_manifest(target)
    monkeypatch.setattr(snapshot, "_swap_paths", lambda one, other: False)
    rename = Path.rename
    for refused in ("set", "files"):

        def refuse(self: Path, to: Path, name: str = refused) -> Path:
            if self.name == name:
                raise PermissionError(errno.EACCES, "Access is denied")
            return rename(self, to)

        monkeypatch.setattr(Path, "rename", refuse)
        with pytest.raises(OutputError) as caught:
            publish(target, {"a": b"2"})
        assert str(caught.value) == f"{target} cannot be written: access is denied"
        assert (read(target), read_download_manifest(target)) == ({"a": b"1"}, before)


def test_a_publication_killed_between_its_two_renames_is_undone(tmp_path: Path) -> None:
    target = tmp_path / "set"
    publish(target, {"a": b"1"})
    staging = stage(target, {"a": b"2"})
    target.rename(staging.root / "retired")
    staging.recover()
    assert read(target) == {"a": b"1"}
    assert read(staging.files) == {"a": b"2"}


def test_a_publication_killed_after_its_two_renames_stands(tmp_path: Path) -> None:
    target = tmp_path / "set"
    publish(target, {"a": b"2"})
    staging = stage(target, {})
    (staging.root / "retired").mkdir()
    (staging.root / "retired/a").write_bytes(b"1")
    staging.recover()
    assert read(target) == {"a": b"2"}
    assert [path.name for path in staging.root.iterdir()] == ["key"]


def test_staging_of_another_commit_is_removed(tmp_path: Path) -> None:
    stage(tmp_path / "set", {"a": b"1"})
    other = Staging(tmp_path / "set", "other key")
    other.recover()
    assert list(other.root.iterdir()) == []


def test_a_file_system_without_hard_links_is_copied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    target = tmp_path / "set"
    publish(target, {"a": b"1", "same": b"s"})
    (target / "mine").write_bytes(b"mine")
    monkeypatch.setattr(os, "link", refuse)
    staging = stage(target, {"a": b"2"})
    staging.reuse(["same"])
    staging.publish(make_manifest({"a": b"2", "same": b"s"}), ())
    assert read(target) == {"a": b"2", "same": b"s", "mine": b"mine"}


def test_a_staged_file_that_is_still_the_targets_is_not_resumed_into(tmp_path: Path) -> None:
    target = tmp_path / "set"
    publish(target, {"a": b"1"})
    staging = stage(target, {"b.incomplete": b"half"})
    staging.reuse(["a"])
    staging.open()
    assert read(staging.files) == {"b.incomplete": b"half"}
    assert read(target) == {"a": b"1"}


def test_a_staged_file_is_read_back_from_the_disk(tmp_path: Path) -> None:
    staging = stage(tmp_path / "set", {"a": b"good", "b": b"evil", "c": b"short"})
    assert staging.seal(listed("a", b"good")) == hashlib.sha256(b"good").hexdigest()
    assert staging.seal(RemoteFile("c", 5, None)) == hashlib.sha256(b"short").hexdigest()
    with pytest.raises(DownloadError) as caught:
        staging.seal(listed("b", b"good"))
    assert str(caught.value) == (
        f"'b' is on the disk with 4 bytes and sha256 {hashlib.sha256(b'evil').hexdigest()}; "
        f"listed are 4 bytes and sha256 {hashlib.sha256(b'good').hexdigest()}"
    )
    assert read(staging.files) == {"a": b"good", "c": b"short"}
    with pytest.raises(DownloadError, match=r"b was not written$"):
        staging.seal(listed("b", b"good"))


def test_what_the_client_leaves_besides_the_files_is_not_published(tmp_path: Path) -> None:
    staging = stage(tmp_path / "set", {"a": b"1", "sub/b.incomplete": b"half", "a_0_99": b"part"})
    staging.publish(make_manifest({"a": b"1"}), ())
    assert read(tmp_path / "set") == {"a": b"1"}
    assert not (tmp_path / "set/sub").exists()


def test_verifying_names_what_changed_and_what_is_missing(tmp_path: Path) -> None:
    publish(tmp_path / "set", {"a": b"1", "b": b"2", "c": b"3", "d": b"4"})
    (tmp_path / "set/a").write_bytes(b"9")
    (tmp_path / "set/b").unlink()
    (tmp_path / "set/c").unlink()
    (tmp_path / "set/c").symlink_to("d")
    manifest = read_download_manifest(tmp_path / "set")
    assert manifest is not None
    with pytest.raises(DownloadError) as caught:
        verify_folder(tmp_path / "set", manifest.remote_files(), lambda path, size: None)
    assert str(caught.value) == f"{tmp_path / 'set'} is not what was downloaded: 'a', 'c' changed, 'b' missing"


def test_a_file_without_a_listed_hash_is_never_known_to_be_intact(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert find_intact(tmp_path, [RemoteFile("a", 1, None)], lambda path, size: None) == set()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"manifest_version": 1, "files": {}}', "cannot be read"),
        ('{"manifest_version": 1}', "cannot be read"),
    ],
)
def test_a_broken_manifest_is_an_input_error(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / DOWNLOAD_MANIFEST_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=fault):
        read_download_manifest(tmp_path)


def test_a_manifest_of_a_later_version_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "set", {"a": b"1"})
    path = tmp_path / "set" / DOWNLOAD_MANIFEST_NAME
    path.write_text(
        json.dumps({**json.loads(path.read_text(encoding="ascii")), "manifest_version": 2}), encoding="ascii"
    )
    with pytest.raises(InputError, match=r"is of version 2, not 1$"):
        read_download_manifest(tmp_path / "set")
