"""Explaining: a row's way back to its source, through mixes and splits."""

import json
from pathlib import Path

import pytest

from prep.combine.explain import explain_row
from prep.combine.mix import MixOptions, mix_files
from prep.combine.split import SplitOptions, SplitSizes, split_file
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.errors import InputError
from tests.support.shapes import medical_rows, sharegpt_rows, write_jsonl, write_parquet


def make_mix(folder: Path) -> Path:
    """Mix two parts that use one source name for different files, and split the mix."""
    parts = {}
    for name, raw in (
        ("cot", write_jsonl(folder / "cot-raw.jsonl", medical_rows())),
        ("chat", write_parquet(folder / "chat-raw.parquet", sharegpt_rows())),
    ):
        (folder / name).mkdir()
        convert_files([raw], folder / name / "rows.jsonl", ConvertOptions())
        parts[name] = folder / name / "rows.jsonl"
    mix_files(parts, folder / "mixed.jsonl", MixOptions())
    split_file(folder / "mixed.jsonl", folder / "mixed", SplitOptions(SplitSizes(2)))
    return folder / "mixed_train.jsonl"


def test_every_row_of_a_split_mix_is_found_in_its_source(tmp_path: Path) -> None:
    path = make_mix(tmp_path)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        result = explain_row(path, number)
        assert result.record == json.loads(line)
        assert result.origin is not None
        chat = result.origin.source == "chat-rows"
        assert Path(result.source_path).name == ("chat-raw.parquet" if chat else "cot-raw.jsonl")
        assert result.state == "as it was"
        expected = (sharegpt_rows() if chat else medical_rows())[result.origin.row - 1]
        assert result.source_row == expected
        assert [step.partition(" ")[0] for step in result.steps] == ["convert", "mix", "split", "output:"]
        assert f"part {'chat' if chat else 'cot'}" in result.steps[1]


def test_a_source_that_changed_or_went_is_said(tmp_path: Path) -> None:
    raw = write_jsonl(tmp_path / "raw.jsonl", medical_rows())
    convert_files([raw], tmp_path / "a.jsonl", ConvertOptions())
    raw.write_text("{}\n", encoding="utf-8")
    assert explain_row(tmp_path / "a.jsonl", 1).state == "the file was changed since"
    raw.unlink()
    assert explain_row(tmp_path / "a.jsonl", 1).state == "the file is not there any more"


def test_a_row_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    raw = write_jsonl(tmp_path / "raw.jsonl", medical_rows())
    convert_files([raw], tmp_path / "a.jsonl", ConvertOptions())
    with pytest.raises(InputError) as caught:
        explain_row(tmp_path / "a.jsonl", 4)
    assert str(caught.value) == f"{tmp_path / 'a.jsonl'} has 3 rows; there is no row 4"
