"""Data whose input has changed since is told of, with a command that makes it anew."""

import json
import os
import shlex
from pathlib import Path

from click.testing import CliRunner

from launch.cli import lfc
from prep.quality.findings import Finding
from prep.quality.lint import lint_dataset
from prep.registry.dataset import find_dataset
from prep.storage.changed_inputs import describe_command, find_changed_inputs
from prep.storage.manifests import Manifest, manifest_path, read_manifest
from tests.support.shapes import write_jsonl


def run(*arguments: object) -> None:
    result = CliRunner().invoke(lfc, ["prep", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def write(path: Path, answer: str) -> Path:
    path.write_text(f"问 题;答 案;备注\n你好;{answer};x\n", encoding="gbk")
    return path


def test_an_input_that_changed_is_told_of_along_the_whole_way(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", "您好,请问有什么可以帮到您的地方？")
    made, mixed = tmp_path / "made.jsonl", tmp_path / "mixed.jsonl"
    options = ("--encoding", "gb18030", "--delimiter", "semicolon", "--map", "question=问 题", "--drop", "备注")
    run("convert", source, "-o", made, *options, "--map", "answer=答 案", "--think-policy", "masked")
    run("mix", f"a={made}", "-o", mixed)
    assert list(find_changed_inputs(made)) == []
    # Younger, and still the same bytes.
    os.utime(source)
    assert list(find_changed_inputs(mixed)) == []

    before = source.stat()
    write(source, "您好,请问有什么可以帮到您的地万？")
    assert source.stat().st_size == before.st_size
    (found,) = find_changed_inputs(mixed)
    assert (found.path, found.made) == (source.as_posix(), made.as_posix())
    findings: list[Finding] = []
    lint_dataset(find_dataset(str(made), tmp_path), findings.append)
    assert [(finding.rule, finding.fix) for finding in findings] == [("input-changed", found.command)]

    run(*shlex.split(found.command)[2:])
    assert json.loads(made.read_text(encoding="utf-8"))["output"].endswith("地万？")
    assert list(find_changed_inputs(made)) == []
    # The mix was made from what stood there before.
    assert [changed.path for changed in find_changed_inputs(mixed)] == [made.as_posix()]
    source.unlink()
    assert list(find_changed_inputs(made)) == []


def test_a_mix_and_a_split_are_made_anew_by_the_command_that_is_named(tmp_path: Path) -> None:
    parts = {}
    for name in ("a", "b"):
        rows = [{"question": f"{name} {place}?", "answer": "yes"} for place in range(40)]
        source = write_jsonl(tmp_path / f"{name} in.jsonl", rows)
        parts[name] = tmp_path / f"{name}.jsonl"
        run("convert", source, "-o", parts[name])
    mixed, prefix = tmp_path / "a mix.jsonl", tmp_path / "held out"
    ratio = ("--ratio", "a=0.75,b=0.25", "--tolerance", "5", "--seed", "7", "--dedup", "exact", "--oversample")
    run("mix", *(f"{name}={path}" for name, path in parts.items()), *ratio, "-o", mixed)
    run("split", mixed, "--test", "0.2", "--val", "5", "--seed", "9", "-o", prefix)
    for made in (mixed, tmp_path / "held out_test.jsonl", tmp_path / "held out_train.jsonl"):
        before, manifest = made.read_bytes(), manifest_path(made).read_text(encoding="utf-8")
        found = read_manifest(made)
        assert found is not None
        made.write_bytes(b"{}\n")
        command = describe_command(made, found)
        run(*shlex.split(command)[2:])
        assert made.read_bytes() == before
        assert json.loads(manifest)["options"] == json.loads(manifest_path(made).read_text("utf-8"))["options"]


def test_a_step_of_another_program_is_named_with_its_manifest(tmp_path: Path) -> None:
    manifest = Manifest(step="brew", options={}, think_policy=None, inputs=[], counts={}, output={})
    told = describe_command(tmp_path / "x.jsonl", manifest)
    assert told == f"lfc prep brew once more, with the options that stand in {manifest_path(tmp_path / 'x.jsonl')}"
