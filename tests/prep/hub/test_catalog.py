"""Named sets and what a name means."""

from pathlib import Path

import pytest

from prep.errors import DownloadError
from prep.formats import SOURCES
from prep.hub import catalog
from prep.hub.catalog import Request, read_catalog, resolve_names


def test_every_named_set_is_complete() -> None:
    sets = read_catalog()
    assert list(sets) == ["medical-cot", "finetome", "openmath-mini"]
    for entry in sets.values():
        assert all(entry._asdict().values())
        assert resolve_names([entry.repository], "dataset") == [Request(entry.repository)]


def test_the_sets_have_formats_that_convert_knows() -> None:
    assert {entry.format for entry in read_catalog().values()} <= set(SOURCES)


def test_names_become_repositories_and_their_patterns() -> None:
    assert resolve_names(["medical-cot", "o/n.1"], "dataset") == [
        Request("krisfu/delicate_medical_r1_data", ("*.jsonl",)),
        Request("o/n.1"),
    ]


def test_a_name_that_is_neither_is_refused() -> None:
    with pytest.raises(DownloadError) as caught:
        resolve_names(["nothing"], "dataset")
    assert str(caught.value) == (
        "'nothing' is neither OWNER/NAME nor a named set; the sets are medical-cot, finetome, openmath-mini"
    )
    assert caught.value.hint == "lfc prep sources"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../x", "'..' begins with '.'"),
        ("a/..", "'..' begins with '.'"),
        ("/a", "'' is empty"),
        ("a/b/c", "is not an owner and a name with one '/' between them"),
        ("a/", "'' is empty"),
        ("a b/c", "'a b' holds a space"),
        ("-a/b", "'-a' begins with '-'"),
        ("a/--force", "'--force' begins with '-'"),
        ("~/b", "'~' begins with '~'"),
        ("a/.b", "'.b' begins with '.'"),
        ("a/.lfc", "'.lfc' begins with '.'"),
        ("a/b.", "'b.' begins or ends with a space, or ends with a dot"),
        ("a/con", "'con' is reserved by Windows"),
        ("a/b\n", "'b\\n' holds a control character"),
        ("a/b\u202ec", "'b\\u202ec' holds a control character"),
        ("a/b?x=1", "'b?x=1' holds one of / \\ : * ? \" < > |"),
        ("a/b%2f..", "'b%2f..' begins or ends with a space, or ends with a dot"),
        ("a/b%2fc", "'b%2fc' holds '#', '%' or '&'"),
        (f"a/{'b' * 300}", f"{'b' * 80!r} is longer than 180 bytes"),
    ],
)
def test_a_name_that_could_be_a_path_or_an_option_is_refused(name: str, fault: str) -> None:
    with pytest.raises(DownloadError) as caught:
        resolve_names([name], "dataset")
    assert str(caught.value) == f"{name[:200]!r} is no OWNER/NAME: {fault}"
    with pytest.raises(DownloadError):
        resolve_names([name], "model")


@pytest.mark.parametrize("pair", [("a/Set", "b/set"), ("a/é", "b/e\u0301"), ("a/straße", "b/STRASSE")])
def test_two_repositories_of_one_folder_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(DownloadError, match=r"would both become the folder"):
        resolve_names(pair, "dataset")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "7",
        "",
        "a: 7",
        "a: {repository: o/n}",
        "a: [b",
        "a: {repository: ../.., format: x, include: [], size: s, licence: l}",
        "a: {repository: o/n, format: x, include: all, size: s, licence: l}",
        "1: {}",
        "[" * 300,
    ],
)
def test_a_broken_catalog_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "sources.yaml").write_text(content)
    monkeypatch.setattr(catalog, "files", lambda package: tmp_path)
    with pytest.raises(DownloadError, match=r"^llamafactory_configs/sources.yaml cannot be read: "):
        read_catalog()


def test_a_named_set_is_no_model() -> None:
    with pytest.raises(DownloadError, match=r"^'finetome' is not a model's OWNER/NAME$"):
        resolve_names(["finetome"], "model")


def test_two_repositories_of_one_name_cannot_share_a_folder() -> None:
    with pytest.raises(DownloadError) as caught:
        resolve_names(["one/Set", "other/set"], "dataset")
    assert str(caught.value) == "one/Set and other/set would both become the folder Set"
