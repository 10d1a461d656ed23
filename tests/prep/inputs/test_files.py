"""Folders of hubs, of `datasets`, and of anybody: what is taken, and what is named as left out."""

import json
import os
from pathlib import Path

import pytest

from prep.errors import InputError
from prep.inputs.files import find_inputs
from prep.inputs.reader import ReadOptions


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"a": name}), encoding="utf-8")
    return folder


def take(folder: Path, split: str = "", subset: str = "") -> list[str]:
    found = find_inputs([folder], ReadOptions(split=split, subset=subset))
    return [file.path.relative_to(folder).as_posix() for file in found.files]


TWO_SPLITS = (
    "data/train-00000-of-00002.jsonl",
    "data/train-00001-of-00002.jsonl",
    "data/test-00000-of-00001.jsonl",
)


@pytest.mark.parametrize(
    ("names", "split", "subset", "taken"),
    [
        (TWO_SPLITS, "", "", list(TWO_SPLITS[:2])),
        (TWO_SPLITS, "test", "", [TWO_SPLITS[2]]),
        (TWO_SPLITS, "all", "", sorted(TWO_SPLITS)),
        (("train.jsonl", "dev.json", "README.md"), "", "", ["train.jsonl"]),
        (("train/0000.jsonl", "test/0000.jsonl"), "", "", ["train/0000.jsonl"]),
        (("训练集.csv", "测试集.csv"), "", "", ["训练集.csv"]),
        (("data.jsonl", "test.jsonl"), "", "", ["data.jsonl"]),
        (("part1.jsonl", "part2.jsonl"), "", "", ["part1.jsonl", "part2.jsonl"]),
        (("test.jsonl",), "", "", ["test.jsonl"]),
        (("en/train.jsonl", "zh/train.jsonl"), "", "zh", ["zh/train.jsonl"]),
        (("en/train.jsonl", "zh/train.jsonl", "zh/test.jsonl"), "test", "zh", ["zh/test.jsonl"]),
        (("en/train.jsonl", "zh/train.jsonl"), "", "all", ["en/train.jsonl", "zh/train.jsonl"]),
        (("a/x.jsonl", "b/x.jsonl"), "", "", ["a/x.jsonl", "b/x.jsonl"]),
        # A split of a hub's own, known by its name where no card says so.
        (
            ("data/cot-00000-of-00001.jsonl", "data/tir-00000-of-00001.jsonl"),
            "cot",
            "",
            ["data/cot-00000-of-00001.jsonl"],
        ),
        (("data/cot-00000-of-00001.jsonl",), "cot", "", ["data/cot-00000-of-00001.jsonl"]),
        (("cot/0.jsonl", "tir/0.jsonl", "cotton.jsonl"), "cot", "", ["cot/0.jsonl"]),
        (("readme.txt", "a.jsonl", "labels.xlsx"), "", "", ["a.jsonl"]),
        (("a.txt", "b.txt"), "", "", ["a.txt", "b.txt"]),
    ],
)
def test_a_folder_gives_the_split_to_train_on(
    names: tuple[str, ...], split: str, subset: str, taken: list[str], tmp_path: Path
) -> None:
    assert take(make(tmp_path, *names), split, subset) == taken


def test_other_splits_are_named(tmp_path: Path) -> None:
    found = find_inputs([make(tmp_path, *TWO_SPLITS, "data/validation-00000-of-00001.jsonl")])
    assert found.notes == [
        f"{tmp_path.as_posix()}: split train is read, and not test, validation (--split NAME, --split all)"
    ]
    assert [path.name for path in found.left_out] == [
        "test-00000-of-00001.jsonl",
        "validation-00000-of-00001.jsonl",
    ]


@pytest.mark.parametrize(
    ("names", "split", "subset", "message"),
    [
        (TWO_SPLITS, "dev", "", "has no split 'dev'; it has test, train"),
        (("a.jsonl", "b.jsonl"), "dev", "", "has no split 'dev'; it has none"),
        (("dev.jsonl", "test.jsonl"), "", "", "has the splits test, validation, and no train"),
        (("en/train.jsonl", "zh/train.jsonl"), "", "", "has several subsets: en, zh"),
        (("en/train.jsonl", "zh/train.jsonl"), "", "fr", "has no subset 'fr'; it has en, zh"),
    ],
)
def test_what_nobody_can_know_is_asked(
    names: tuple[str, ...], split: str, subset: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        take(make(tmp_path, *names), split, subset)
    assert caught.value.hint


def test_the_caches_of_a_saved_data_set_are_no_data(tmp_path: Path) -> None:
    make(tmp_path, "train/data-00000-of-00001.arrow", "train/cache-12ab.arrow", "train/dataset_info.json")
    make(tmp_path, "dataset_dict.json", "test/data-00000-of-00001.arrow")
    for split in ("train", "test"):
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (tmp_path / split / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert take(tmp_path) == ["train/data-00000-of-00001.arrow"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_is_refused(link: object, tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    assert callable(link)
    link(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    with pytest.raises(InputError, match=r"named twice|are one file"):
        find_inputs([tmp_path])
    with pytest.raises(InputError, match="named twice"):
        find_inputs([tmp_path / "a*.jsonl", tmp_path / "a.jsonl"])


CARD_FILES = ("a/one.jsonl", "a/two.jsonl", "b/three.jsonl", "notes.json")
ONE, TWO, THREE = CARD_FILES[:3]


def write_card(folder: Path, configs: str) -> Path:
    make(folder, *CARD_FILES)
    (folder / "README.md").write_text(f"---\nlicense: mit\nconfigs:\n{configs}\n---\n# A set\n", encoding="utf-8")
    return folder


SPLITS = (
    "- config_name: default\n  data_files:\n  - {split: train, path: a/*}\n  - {split: test, path: b/three.jsonl}"
)
SUBSETS = (
    "- config_name: en\n  data_files: a/one.jsonl\n"
    "- config_name: zh\n  default: true\n  data_files: {train: [a/two.jsonl], test: b/*.jsonl}"
)


@pytest.mark.parametrize(
    ("configs", "split", "subset", "taken"),
    [
        (SPLITS, "", "", [ONE, TWO]),
        (SPLITS, "test", "", [THREE]),
        (SPLITS, "all", "", [ONE, TWO, THREE]),
        ("- data_files: [a/one.jsonl, b/three.jsonl]", "", "", [ONE, THREE]),
        ("- data_files: '**/t*.jsonl'", "", "", [TWO, THREE]),
        (SUBSETS, "", "", [TWO]),
        (SUBSETS, "test", "zh", [THREE]),
        (SUBSETS, "", "en", [ONE]),
        # None of these names a file of the folder: the files' own names tell.
        ("- data_files: gone/*", "", "all", [ONE, TWO, THREE, "notes.json"]),
        ("- data_files: ../*", "", "all", [ONE, TWO, THREE, "notes.json"]),
        ("- data_files: /etc/*", "", "all", [ONE, TWO, THREE, "notes.json"]),
        ("- data_files: 5", "", "all", [ONE, TWO, THREE, "notes.json"]),
        ("- [x", "", "all", [ONE, TWO, THREE, "notes.json"]),
        ("  text", "", "all", [ONE, TWO, THREE, "notes.json"]),
    ],
)
def test_a_card_says_which_files_are_of_which_split(
    configs: str, split: str, subset: str, taken: list[str], tmp_path: Path
) -> None:
    assert take(write_card(tmp_path, configs), split, subset) == taken


def test_what_a_card_decides_is_said(tmp_path: Path) -> None:
    found = find_inputs([write_card(tmp_path, SUBSETS)])
    where = tmp_path.as_posix()
    assert found.notes == [
        f"{where}: its README.md says which files are of which split",
        f"{where}: subset zh is read, its README.md's own choice, and not en",
        f"{where}: split train is read, and not test (--split NAME, --split all)",
    ]
    assert "notes.json" in [path.name for path in found.left_out]


def test_a_card_leads_out_of_its_folder_by_no_link(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "secret.jsonl")
    folder = write_card(tmp_path / "set", "- data_files: link/*")
    (folder / "link").symlink_to(outside)
    assert "link/secret.jsonl" not in take(folder, subset="all")
