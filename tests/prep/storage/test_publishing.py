"""Publishing: whenever the power goes, each output is the old or the new one; what is not ours is never touched."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prep.errors import InputError, OutputError
from prep.storage.atomic import open_atomic
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, manifest_path, read_manifest, write_manifest
from tests.support.lfc_runs import convert
from tests.support.shapes import medical_rows, tool_rows, write_jsonl

ROOT = Path(__file__).parents[3]
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, links and pipes")


def test_a_manifest_of_another_content_is_not_believed_even_when_the_size_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old\n", encoding="utf-8")
    output = {"path": "a.jsonl", "bytes": 4, "sha256": hash_file(path)}
    write_manifest(path, Manifest("convert", {}, "tagged", [], {}, output))
    assert read_manifest(path) is not None
    path.write_text("new\n", encoding="utf-8")
    os.utime(path, ns=(10**19 // 5, 10**19 // 5))
    assert read_manifest(path) is None


@pytest.mark.parametrize("sha256", [None, "", "0", "f" * 64])
def test_a_manifest_is_never_believed_by_a_size_alone(sha256: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("one\n", encoding="utf-8")
    output = {"path": "another.jsonl", "bytes": 4, **({} if sha256 is None else {"sha256": sha256})}
    write_manifest(path, Manifest("convert", {}, "tagged", [], {}, output))
    assert read_manifest(path) is None
    if not sha256:
        write_manifest(path, Manifest("convert", {}, "tagged", [], {}, {**output, "path": "a.jsonl"}))
        assert read_manifest(path) is None


def test_a_copy_without_its_times_and_a_renamed_pair_keep_their_manifest(tmp_path: Path) -> None:
    assert convert(write_jsonl(tmp_path / "in.jsonl", medical_rows()), tmp_path / "a.jsonl").exit_code == 0
    os.utime(manifest_path(tmp_path / "a.jsonl"), (1, 1))
    assert read_manifest(tmp_path / "a.jsonl") is not None
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    manifest_path(tmp_path / "a.jsonl").rename(manifest_path(tmp_path / "b.jsonl"))
    assert read_manifest(tmp_path / "b.jsonl") is not None
    # And may be made anew, beside a new file of the old name.
    assert convert(tmp_path / "in.jsonl", tmp_path / "a.jsonl").exit_code == 0
    assert convert(tmp_path / "in.jsonl", tmp_path / "b.jsonl", "--force").exit_code == 0


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_two_outputs_never_share_a_manifest(force: tuple[str, ...], tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", medical_rows())
    assert convert(source, tmp_path / "z.json").exit_code == 0
    whole = manifest_path(tmp_path / "z.json").read_bytes()
    result = convert(source, tmp_path / "z.jsonl", *force)
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {tmp_path / 'z.manifest.json'} is the manifest of z.json, and would be of z.jsonl too\n"
        "  Try: another -o than z.jsonl: one whose name differs before the last dot\n",
    )
    assert manifest_path(tmp_path / "z.json").read_bytes() == whole
    assert not (tmp_path / "z.jsonl").exists()
    (tmp_path / "z.json").unlink()
    assert convert(source, tmp_path / "z.jsonl").exit_code == 0


SUFFIXES = ("_tools.jsonl", ".jsonl.rejects.jsonl", ".jsonl.duplicates.jsonl", ".jsonl.too-long.jsonl")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_stands_in_the_way_is_replaced_by_force_alone(suffix: str, tmp_path: Path) -> None:
    own = tmp_path / f"out{suffix}"
    own.write_text("my own notes\n", encoding="utf-8")
    source = write_jsonl(tmp_path / "in.jsonl", [*medical_rows(), {"question": ""}])
    result = convert(source, tmp_path / "out.jsonl")
    assert result.stderr.startswith(f"Error: {own} exists already\n")
    # With nothing to put there, not even --force takes away what no run of ours made.
    good = write_jsonl(tmp_path / "good.jsonl", medical_rows())
    assert convert(good, tmp_path / "out.jsonl", "--force").exit_code == 0
    assert own.read_text(encoding="utf-8") == "my own notes\n"


def test_the_rejects_of_a_failed_run_are_no_obstacle_until_they_are_edited(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [*medical_rows(), {"question": ""}])
    out, rejects = tmp_path / "out.jsonl", tmp_path / "out.jsonl.rejects.jsonl"
    assert convert(source, out).exit_code == 1
    assert convert(source, out).exit_code == 1
    assert convert(source, out, "--max-rejects", "1").exit_code == 0
    out.unlink()
    rejects.write_text("looked at\n", encoding="utf-8")
    assert f"Error: {rejects} exists already" in convert(source, out, "--max-rejects", "1").stderr
    assert rejects.read_text(encoding="utf-8") == "looked at\n"


def test_a_stale_companion_of_ours_goes_with_its_manifest(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert convert(write_jsonl(tmp_path / "t.jsonl", tool_rows()), out).exit_code == 0
    assert (tmp_path / "out_tools.jsonl").exists()
    assert convert(write_jsonl(tmp_path / "m.jsonl", medical_rows()), out, "--force").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.index", "out.jsonl", "out.manifest.json"]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.rejects.jsonl"])
def test_an_output_is_never_an_input(name: str, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / name, medical_rows())
    whole = source.read_bytes()
    result = convert(source, tmp_path / "in.jsonl", "--force")
    assert result.stderr == f"Error: {source} is an input too, and would be replaced\n  Try: another -o\n"
    assert source.read_bytes() == whole


def plant_link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "victim")


def plant_folder(path: Path) -> None:
    path.mkdir()


def plant_pipe(path: Path) -> None:
    os.mkfifo(path)


@posix_only
@pytest.mark.parametrize("suffix", ["partial", "lock"])
@pytest.mark.parametrize(
    ("plant", "kind"), [(plant_link, "a link"), (plant_folder, "a folder"), (plant_pipe, "a pipe")]
)
def test_what_is_planted_in_the_hidden_folder_is_not_followed(
    plant: Callable[[Path], None], kind: str, suffix: str, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("whole", encoding="utf-8")
    (tmp_path / ".lfc").mkdir()
    planted = tmp_path / ".lfc" / f"out.jsonl.{suffix}"
    plant(planted)
    result = convert(write_jsonl(tmp_path / "in.jsonl", medical_rows()), tmp_path / "out.jsonl")
    assert result.stderr == f"Error: {planted} is {kind}, not lfc's own file\n  Try: move it away: {planted}\n"
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "whole"
    assert not (tmp_path / "out.jsonl").exists()


@posix_only
def test_the_hidden_folder_itself_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".lfc").symlink_to(tmp_path / "elsewhere")
    result = convert(write_jsonl(tmp_path / "in.jsonl", medical_rows()), tmp_path / "out.jsonl")
    assert f"{tmp_path / '.lfc'} is a link, not lfc's own folder" in result.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


@posix_only
def test_a_hard_link_planted_there_keeps_its_other_name(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("whole", encoding="utf-8")
    (tmp_path / ".lfc").mkdir()
    os.link(tmp_path / "victim", tmp_path / ".lfc" / "out.jsonl.partial")
    assert convert(write_jsonl(tmp_path / "in.jsonl", medical_rows()), tmp_path / "out.jsonl").exit_code == 0
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "whole"


@posix_only
def test_a_device_or_pipe_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "null.jsonl").symlink_to("/dev/null")
    source = write_jsonl(tmp_path / "in.jsonl", medical_rows())
    for name, kind in (("pipe.jsonl", "a pipe"), ("null.jsonl", "a device")):
        result = convert(source, tmp_path / name, "--force")
        assert f"{tmp_path / name} is {kind}, and is not replaced by a file" in result.stderr


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("change", ["grown", "same size"])
def test_an_input_that_changes_while_it_is_read_leaves_no_output(
    change: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"in.{suffix}"
    text = {"jsonl": '{"question": "q", "answer": "a"}\n', "json": '[{"question": "q", "answer": "a"}]\n'}
    path.write_text(text.get(suffix, "question,answer\nq,a\n"), encoding="utf-8")
    content = path.read_bytes()

    def take(self: object, place: int, shard: object) -> None:
        path.write_bytes(content + b"\n" if change == "grown" else content.replace(b"q", b"r"))
        os.utime(path, (2_000_000_000, 2_000_000_000))
        real(self, place, shard)

    from prep.convert.convert import _Run

    real: Callable[..., None] = _Run.take
    monkeypatch.setattr("prep.convert.convert._Run.take", take)
    result = convert(path, tmp_path / "out.jsonl")
    assert (result.exit_code, f"{path} changed while it was read: " in result.stderr) == (1, True), result.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENOLCK", "EIO", "EFBIG"])
def test_each_fault_of_the_system_is_one_error_with_a_next_step(
    number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    code = getattr(errno, number)

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match="cannot be written: ") as caught, open_atomic(tmp_path / "a") as file:
        file.write(b"x")
    assert caught.value.hint
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr("pathlib.Path.open", fail)
    with pytest.raises(InputError, match="cannot be read: "):
        hash_file(tmp_path / "b")
