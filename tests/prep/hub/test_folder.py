"""What stands in and beside a downloaded folder is not believed: manifests, links, files of the user's."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.errors import InputError
from prep.hub import snapshot
from prep.hub.samples import SAMPLE_FILES, check_sample_name, copy_samples
from prep.hub.snapshot import Staging
from prep.storage.manifests import find_download_manifest
from tests.support.modelscope_server import Hub

FILES = {"a.txt": b"a", "sub/b.txt": b"b"}
SHA = "a" * 64


@pytest.fixture
def target(hub: Hub, tmp_path: Path) -> Path:
    """A downloaded folder; the hub has moved on, and has one file less."""
    hub.add("o/set", {**FILES, "gone.txt": b"gone"})
    assert invoke(tmp_path).exit_code == 0
    hub.add("o/set", {**FILES, "a.txt": b"new"})
    return tmp_path / "set"


def invoke(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(lfc, ["prep", "download", "o/set", "--to", str(folder), *arguments], prog_name="lfc")


def read(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if path.is_file() and path.name != ".lfc-download.json" and ".lfc" not in path.parts
    }


# Manifests


def damage(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: {**manifest, **fields}


def name_file(path: str, **fields: Any) -> Callable[[dict[str, Any]], Any]:
    entry = {"bytes": 1, "sha256": SHA, "verified": "sha256", **fields}
    return lambda manifest: {**manifest, "files": {**manifest["files"], path: entry}}


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: [],
        lambda manifest: None,
        lambda manifest: "text",
        lambda manifest: 7,
        lambda manifest: {},
        lambda manifest: {"manifest_version": 1, "evil": 1},
        lambda manifest: {key: value for key, value in manifest.items() if key != "clients"},
        damage(evil=1),
        damage(files=[]),
        damage(files=None),
        damage(files={"a": []}),
        damage(files={"a": None}),
        damage(files={"a": {"bytes": 1}}),
        damage(clients=[]),
        damage(clients={"x": 1}),
        damage(endpoint=7),
        damage(endpoint="http://h\n"),
        damage(repository=None),
        damage(revision=["master"]),
        damage(commit={"a": 1}),
        damage(commit="c" * 5000),
        damage(type=""),
        damage(manifest_version="1"),
        damage(manifest_version=True),
        damage(manifest_version=[1]),
        name_file("../victim.txt"),
        name_file("/etc/passwd"),
        name_file("sub/../../victim.txt"),
        name_file("..\\victim.txt"),
        name_file("a\0b"),
        name_file("\ud800"),
        name_file(""),
        name_file("x", bytes=-1),
        name_file("x", bytes="1"),
        name_file("x", bytes=1.0),
        name_file("x", bytes=float("nan")),
        name_file("x", bytes=10**400),
        name_file("x", bytes=None),
        name_file("x", sha256=None),
        name_file("x", sha256="x"),
        name_file("x", sha256=[SHA]),
        name_file("x", verified="yes"),
        name_file("x", verified=None),
        name_file("x", more=1),
    ],
)
def test_a_manifest_of_any_other_shape_is_one_error_and_deletes_nothing(
    tmp_path: Path, target: Path, edit: Callable[[dict[str, Any]], Any]
) -> None:
    (tmp_path / "victim.txt").write_bytes(b"victim")
    path = target / ".lfc-download.json"
    manifest = edit(json.loads(path.read_bytes()))
    path.write_text(json.dumps(manifest), encoding="utf-8")
    before = read(tmp_path)
    for arguments in ((), ("--force",), ("--offline",), ("--dry-run",)):
        result = invoke(tmp_path, *arguments)
        assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output
        assert result.stderr.count("Error: ") == 1
        assert f"Error: {path} cannot be read: " in result.stderr
        assert f"  Try: remove {path}, then download again: files that are whole stay\n" in result.stderr
    assert read(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting property name"),
        (b"\xff\xfe\x00", "codec can't decode"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"[" * 3_000_000, "it holds more than any download"),
        (b"{" + b'"a":[],' * 3_000_000, "it holds more than any download"),
        (b'{"manifest_version": ' + b"1" * 5000 + b"}", "Exceeds the limit"),
    ],
)
def test_a_manifest_that_is_no_json_is_one_error(tmp_path: Path, target: Path, content: bytes, reason: str) -> None:
    (target / ".lfc-download.json").write_bytes(content)
    result = invoke(tmp_path)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert reason in result.stderr
    with pytest.raises(InputError):
        find_download_manifest(target / "a.txt")


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "huge"])
def test_a_manifest_that_is_no_plain_file_is_one_error(tmp_path: Path, target: Path, kind: str) -> None:
    path = target / ".lfc-download.json"
    path.unlink()
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    result = invoke(tmp_path)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert f"Error: {path} cannot be read: it is " in result.stderr


@pytest.mark.parametrize("recorded", [[], 7, "x", {}, {"bytes": "1", "sha256": SHA}, {"bytes": 1, "sha256": None}])
def test_the_origin_of_a_file_is_no_traceback(tmp_path: Path, target: Path, recorded: Any) -> None:
    path = target / ".lfc-download.json"
    manifest = json.loads(path.read_bytes())
    for content in ({**manifest, "files": {"a.txt": recorded}}, {"files": {"a.txt": recorded}}, recorded):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"cannot be read: "):
            find_download_manifest(target / "a.txt")


def test_a_password_in_a_recorded_endpoint_is_not_passed_on(target: Path) -> None:
    path = target / ".lfc-download.json"
    path.write_text(path.read_text().replace("http://", "http://me:secret-word@"))
    origin = find_download_manifest(target / "a.txt")
    assert origin is not None
    assert "secret-word" not in str(origin)


def test_only_what_is_still_as_recorded_is_removed(tmp_path: Path, target: Path) -> None:
    (target / "gone.txt").write_bytes(b"mine")
    result = invoke(tmp_path)
    assert result.exit_code == 0
    assert read(target)["gone.txt"] == b"mine"


# Links


def plant(tmp_path: Path, place: str) -> Path:
    """Put a link to a folder of somebody else's in a place of the working folder; return that folder."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_bytes(b"precious")
    (victim / "files").mkdir()
    link = tmp_path / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(victim, target_is_directory=True)
    return victim


@pytest.mark.parametrize("place", [".lfc/set.download", ".lfc/set.download/other", ".lfc/set.download/retired"])
def test_a_link_in_the_working_folder_is_never_followed(hub: Hub, tmp_path: Path, place: str) -> None:
    hub.add("o/set", FILES)
    victim = plant(tmp_path, place)
    result = invoke(tmp_path)
    assert sorted(path.name for path in victim.iterdir()) == ["files", "precious"]
    assert (victim / "precious").read_bytes() == b"precious"
    if place == ".lfc/set.download":
        assert result.stderr == (
            f"Error: {tmp_path / place} is a symbolic link\n"
            "  Try: a download never follows a link: remove it, or choose another --to\n"
        )
    else:
        assert result.exit_code == 0
        assert read(tmp_path / "set") == FILES


def test_a_working_folder_that_is_a_link_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", FILES)
    victim = plant(tmp_path, ".lfc")
    result = invoke(tmp_path)
    assert f"Error: {tmp_path / '.lfc'} is a symbolic link\n" in result.stderr
    assert (victim / "precious").exists()


@pytest.mark.parametrize(
    "place", ["files", "files/sub", "files/a.txt", "files/sub/b.txt.incomplete", "cache", "cache/.lock"]
)
def test_a_link_among_staged_files_is_taken_away_and_not_written_through(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    hub.add("o/set", FILES)
    keys: list[str] = []
    make = Staging.__init__

    def note(self: Staging, target: Path, key: str) -> None:
        keys.append(key)
        make(self, target, key)

    monkeypatch.setattr(Staging, "__init__", note)
    hub.fail("file", status=404)
    assert invoke(tmp_path).exit_code == 1
    hub.faults.clear()
    staged = tmp_path / ".lfc/set.download" / keys[0] / place
    if staged.is_dir():
        staged.rename(tmp_path / "moved")
    staged.unlink(missing_ok=True)
    victim = plant(tmp_path, f".lfc/set.download/{keys[0]}/{place}")
    result = invoke(tmp_path)
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "set") == FILES
    assert sorted(path.name for path in victim.rglob("*")) == ["files", "precious"]


# What the user has there


def test_force_sets_the_users_files_aside_under_a_name_that_says_so(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", FILES)
    mine = {"a.txt": b"mine", "a.txt.set-aside": b"older", "sub/b.txt": b"mine too"}
    for name, body in mine.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(body)
    refused = invoke(tmp_path)
    assert refused.stderr.endswith(
        f"Error: {tmp_path / 'set'}: 'a.txt', 'sub/b.txt' would be replaced, and no download left it so\n"
        "  Try: --force to set it aside and go on, or another --to\n"
    )
    result = invoke(tmp_path, "--force", "--json")
    (repository,) = json.loads(result.stdout)["repositories"]
    assert repository["set_aside"] == ["a.txt.set-aside-2", "sub/b.txt.set-aside"]
    assert read(tmp_path / "set") == {
        **FILES,
        "a.txt.set-aside": b"older",
        "a.txt.set-aside-2": b"mine",
        "sub/b.txt.set-aside": b"mine too",
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="exchanges two folders in one step")
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_what_the_user_writes_during_a_publication_that_is_killed_is_not_lost(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Path, exchange: bool
) -> None:
    class Killed(BaseException):
        pass

    carry_over, calls = snapshot._carry_over, []

    def write_and_die(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            # The exchange is done, and this file came after the others had been linked.
            (arguments[0] / "late.txt").write_bytes(b"late")
            raise Killed
        carry_over(*arguments)

    if not exchange:
        monkeypatch.setattr(snapshot, "_swap_paths", lambda one, other: False)
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "_carry_over", write_and_die)
        with pytest.raises(Killed):
            invoke(tmp_path)
    assert invoke(tmp_path).exit_code == 0
    assert read(target) == {**FILES, "a.txt": b"new", "late.txt": b"late"}


@pytest.mark.parametrize("kind", ["loop", "file", "dangling"])
def test_a_target_that_is_no_folder_is_one_line(hub: Hub, tmp_path: Path, kind: str) -> None:
    hub.add("o/set", FILES)
    path = tmp_path / "set"
    if kind == "file":
        path.write_bytes(b"mine")
    else:
        path.symlink_to("set" if kind == "loop" else "nowhere")
    for arguments in ((), ("--force",)):
        result = invoke(tmp_path, *arguments)
        what = "is a file, and would become a folder" if kind == "file" else "is a symbolic link"
        assert f"Error: {path} {what}\n" in result.stderr
    assert os.path.lexists(path)


def test_a_folder_that_is_a_loop_is_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.add("o/set", FILES)
    (tmp_path / "loop").symlink_to("loop")
    for arguments in ((), ("--dry-run",), ("--offline",)):
        result = invoke(tmp_path / "loop", *arguments)
        assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be removed there")
def test_a_working_directory_that_is_gone_is_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("o/set", FILES)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    for arguments in ((), ("--dry-run",), ("--offline",)):
        result = invoke(Path("raw"), *arguments)
        assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output
        assert result.stderr.count("Error: ") == 1


# Samples


@pytest.mark.parametrize("name", ["../../../victim.txt", "/etc/passwd", "", None, 7, "x", f"../{SAMPLE_FILES[0]}"])
def test_a_sample_is_one_of_a_fixed_list(name: object) -> None:
    with pytest.raises(InputError, match=r"^there is no sample "):
        check_sample_name(name)


def test_samples_never_replace_without_force_and_come_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SAMPLE_FILES[1]).write_bytes(b"mine")
    arguments = ["prep", "sample", "--to", str(tmp_path)]
    assert CliRunner().invoke(lfc, arguments).exit_code == 1
    assert read(tmp_path) == {SAMPLE_FILES[1]: b"mine"}

    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert CliRunner().invoke(lfc, [*arguments, "--force"]).exit_code == 1
    assert read(tmp_path) == {SAMPLE_FILES[1]: b"mine"}
    assert [path.name for path in copy_samples(tmp_path, force=True)] == list(SAMPLE_FILES)
