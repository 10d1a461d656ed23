"""Named sets and what a name means."""

import pytest

from prep.catalog import Request, read_catalog, resolve_names
from prep.errors import DownloadError
from prep.sources import SOURCES


def test_every_named_set_is_complete() -> None:
    catalog = read_catalog()
    assert list(catalog) == ["medical-cot", "finetome", "openmath-mini"]
    for entry in catalog.values():
        assert all(entry._asdict().values())
        assert resolve_names([entry.repository], "dataset") == [Request(entry.repository)]


def test_the_sets_have_formats_that_convert_knows() -> None:
    assert {entry.format for entry in read_catalog().values()} <= set(SOURCES)


def test_names_become_repositories_and_their_patterns() -> None:
    assert resolve_names(["medical-cot", "o/n.1"], "dataset") == [
        Request("krisfu/delicate_medical_r1_data", ("*.jsonl",)),
        Request("o/n.1"),
    ]


@pytest.mark.parametrize("name", ["nothing", "../x", "a/..", "/a", "a/b/c", "a/", "a b/c", "-a/b", "a/.b", "a/b."])
def test_a_name_that_is_neither_is_refused(name: str) -> None:
    with pytest.raises(DownloadError) as caught:
        resolve_names([name], "dataset")
    assert str(caught.value) == (
        f"'{name}' is neither OWNER/NAME nor a named set; the sets are medical-cot, finetome, openmath-mini"
    )
    assert caught.value.hint == "lfc prep sources"


def test_a_named_set_is_no_model() -> None:
    with pytest.raises(DownloadError, match=r"^'finetome' is not a model's OWNER/NAME$"):
        resolve_names(["finetome"], "model")


def test_two_repositories_of_one_name_cannot_share_a_folder() -> None:
    with pytest.raises(DownloadError) as caught:
        resolve_names(["one/Set", "other/set"], "dataset")
    assert str(caught.value) == "one/Set and other/set would both become the folder Set"
