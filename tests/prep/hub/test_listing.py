"""No path, size or hash of a listing is believed unchecked."""

from typing import Any

import pytest

from prep.errors import DownloadError
from prep.hub.listing import (
    RemoteFile,
    check_listing,
    check_selection,
    count_largest_folder,
    find_commit,
    select_files,
)

SHA = "a" * 64


def entry(path: Any, **fields: Any) -> dict[str, Any]:
    return {"Path": path, "Type": "blob", "Size": 1, "Sha256": SHA, **fields}


def files(*paths: str) -> list[RemoteFile]:
    return [RemoteFile(path, 1, SHA) for path in paths]


def test_a_listing_becomes_its_files_in_order_with_lower_case_hashes() -> None:
    listed = check_listing(
        [entry("data", Type="tree"), entry("b", Sha256="AB" * 32), entry("data/a", Size=0, Sha256="")], "o/n"
    )
    assert listed == [RemoteFile("b", 1, "ab" * 32), RemoteFile("data/a", 0, None)]


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("../evil.txt", "'../evil.txt', a path that could leave its folder"),
        ("a/../../x", "'a/../../x', a path that could leave its folder"),
        ("a/./b", "'a/./b', a path that could leave its folder"),
        ("a//b", "'a//b', a path that could leave its folder"),
        ("folder/", "'folder/', a path that could leave its folder"),
        ("/etc/passwd", "'/etc/passwd', an absolute path"),
        ("C:evil", "'C:evil', an absolute path"),
        ("c:/evil", "'c:/evil', an absolute path"),
        ("..\\evil", "'..\\\\evil', a path with a backslash"),
        ("a\0b", "'a\\x00b', a path with a control character"),
        ("a\nb", "'a\\nb', a path with a control character"),
        ("a\x1b[2Jb", "'a\\x1b[2Jb', a path with a control character"),
        ("a\x85b", "'a\\x85b', a path with a control character"),
        ("a\u2028b", "'a\\u2028b', a path with a control character"),
        ("a\ud800b", "'a\\ud800b', a path with a control character"),
    ],
)
def test_a_path_that_could_leave_the_folder_discredits_the_listing(path: str, fault: str) -> None:
    with pytest.raises(DownloadError) as caught:
        check_listing([entry("fine"), entry(path)], "o/n")
    assert str(caught.value) == f"o/n: the listing names {fault}; nothing was downloaded"
    assert caught.value.hint == "report the repository to its owner: no honest listing holds such a path"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (entry("a"), "o/n: the listing names 'a' twice"),
        (entry(None), "o/n: the listing holds a file without a path"),
        (entry(""), "o/n: the listing holds a file without a path"),
        (entry("b", Size=None), "o/n: the listing gives 'b' the size None, not a number of bytes"),
        (entry("b", Size=-1), "o/n: the listing gives 'b' the size -1, not a number of bytes"),
        (entry("b", Size="9"), "o/n: the listing gives 'b' the size '9', not a number of bytes"),
        (entry("b", Size=True), "o/n: the listing gives 'b' the size True, not a number of bytes"),
        (entry("b", Size=1.0), "o/n: the listing gives 'b' the size 1.0, not a number of bytes"),
        (entry("b", Size=float("nan")), "o/n: the listing gives 'b' the size nan, not a number of bytes"),
        (entry("b", Size=1 << 51), "o/n: the listing gives 'b' the size 2251799813685248, not a number of bytes"),
        (
            entry("b", Size=1 << 9999),
            "o/n: the listing gives 'b' the size of more than 64 bits, not a number of bytes",
        ),
        (entry("b", Size=[1]), "o/n: the listing gives 'b' the size [1], not a number of bytes"),
        (entry("b", Sha256="g" * 64), f"o/n: the listing gives 'b' the sha256 {'g' * 64!r}, not 64 hex digits"),
        (entry("b", Sha256=["a"]), "o/n: the listing gives 'b' the sha256 ['a'], not 64 hex digits"),
        (entry(7), "o/n: the listing holds a file without a path"),
        (entry(["b"]), "o/n: the listing holds a file without a path"),
        (None, "o/n: the listing holds NoneType, not files"),
        (["b"], "o/n: the listing holds list, not files"),
        (entry("b", Sha256="abc"), "o/n: the listing gives 'b' the sha256 'abc', not 64 hex digits"),
        (entry("b", Sha256=7), "o/n: the listing gives 'b' the sha256 7, not 64 hex digits"),
        ("b", "o/n: the listing holds str, not files"),
    ],
)
def test_a_malformed_entry_discredits_the_listing(broken: Any, message: str) -> None:
    with pytest.raises(DownloadError) as caught:
        check_listing([entry("a"), broken], "o/n")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("data/aux.txt",), "'data/aux.txt' is a device's name on Windows"),
        (("COM1",), "'COM1' is a device's name on Windows"),
        (("a:b",), "'a:b' is not a file name on Windows"),
        (("what?.txt",), "'what?.txt' is not a file name on Windows"),
        (("a./b",), "'a./b' is not a file name on Windows"),
        (("a ",), "'a ' is not a file name on Windows"),
        (("con .txt",), "'con .txt' is a device's name on Windows"),
        (("x/.git/hooks/post-checkout",), "'x/.git/hooks/post-checkout' is inside a folder that git would obey"),
        ((".GIT/config",), "'.GIT/config' is inside a folder that git would obey"),
        (("git~1/config",), "'git~1/config' is inside a folder that git would obey"),
        ((".lfc/set.lock",), "'.lfc/set.lock' is a name that lfc keeps for itself"),
        (("x/.LFC-download.json",), "'x/.LFC-download.json' is a name that lfc keeps for itself"),
        (("a\u202eb",), "'a\\u202eb' holds a character that does not show"),
        (("a\u200bb",), "'a\\u200bb' holds a character that does not show"),
        (("数" * 81,), f"'{'数' * 81}' has a name of more than 240 bytes"),
        (("d/" * 600 + "f",), f"{('d/' * 600 + 'f')!r:.200}… (1,203 characters) is longer than 1,024 bytes"),
        (("straße", "STRASSE"), "'straße' and 'STRASSE' are one file where case is ignored"),
        ((".lfc-download.json",), "'.lfc-download.json' is the name of the download's own manifest"),
        (("README.md", "readme.md"), "'README.md' and 'readme.md' are one file where case is ignored"),
        (("é", "e\u0301"), "'é' and 'e\u0301' are one file where case is ignored"),
        (("a", "a/b"), "'a' is listed as a file, and as the folder of 'a/b'"),
        (("x/Y/z", "X/y"), "'X/y' is listed as a file, and as the folder of 'x/Y/z'"),
    ],
)
def test_files_that_cannot_stand_beside_each_other_everywhere_are_refused(
    paths: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DownloadError) as caught:
        check_selection(files(*paths), "o/n", allow_unhashed=False)
    assert str(caught.value) == f"o/n: {message}"
    assert caught.value.hint == "leave it out with --exclude"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"Mode": "40960"}, "is a symbolic link, which a download does not make"),
        ({"Mode": 40960}, "is a symbolic link, which a download does not make"),
        ({"Mode": "120000"}, "is a symbolic link, which a download does not make"),
        ({"Mode": "57344"}, "is another repository (a git submodule)"),
        ({"Type": "commit"}, "is another repository (a git submodule)"),
        ({"Type": "socket"}, "is neither a file nor a folder"),
        ({"Type": ["blob"]}, "is neither a file nor a folder"),
    ],
)
def test_what_is_no_file_is_refused_when_selected(fields: dict[str, Any], fault: str) -> None:
    listed = check_listing([entry("a", **fields), entry("b")], "o/n")
    with pytest.raises(DownloadError) as caught:
        check_selection(listed, "o/n", allow_unhashed=False)
    assert str(caught.value) == f"o/n: 'a' {fault}"
    check_selection(listed[1:], "o/n", allow_unhashed=False)


def test_a_listing_of_a_million_files_is_refused_before_it_is_kept() -> None:
    endless = (entry(f"{number}") for number in range(10**9))
    with pytest.raises(DownloadError, match=r"^o/n: the listing names more than 300,000 files$"):
        check_listing(endless, "o/n")


def test_ordinary_names_are_accepted() -> None:
    check_selection(
        files("auxiliary.txt", "com10", "console/a", "数据/训练.jsonl", ".gitattributes"),
        "o/n",
        allow_unhashed=False,
    )


def test_a_file_without_a_hash_is_refused_unless_allowed() -> None:
    unhashed = [RemoteFile(f"{number}.txt", 1, None) for number in range(7)]
    with pytest.raises(DownloadError) as caught:
        check_selection(unhashed, "o/n", allow_unhashed=False)
    assert str(caught.value) == (
        "o/n: the hub states no sha256 for '0.txt', '1.txt', '2.txt', '3.txt', '4.txt' and 2 more: "
        "damage would go unseen"
    )
    assert caught.value.hint == "--exclude it, or --allow-unhashed to take it on its size alone"
    check_selection(unhashed, "o/n", allow_unhashed=True)


@pytest.mark.parametrize(
    ("include", "exclude", "keep", "expected"),
    [
        ((), (), (), ["README.md", "data/a.jsonl", "data/b.parquet"]),
        (("*.jsonl",), (), (), ["data/a.jsonl"]),
        (("data/*",), ("*.parquet",), (), ["data/a.jsonl"]),
        (("*.JSONL",), (), (), []),
        (("*.jsonl",), (), ("README.md", "gone"), ["README.md", "data/a.jsonl"]),
    ],
)
def test_patterns_select_files(
    include: tuple[str, ...], exclude: tuple[str, ...], keep: tuple[str, ...], expected: list[str]
) -> None:
    listed = files("README.md", "data/a.jsonl", "data/b.parquet")
    assert [file.path for file in select_files(listed, include, exclude, keep)] == expected


def test_the_commit_is_the_newest_that_touched_a_file() -> None:
    listed = [
        entry("a", Revision="old", CommittedDate=1),
        entry("b", Revision="new", CommittedDate=2),
        entry("c", Revision="new", CommittedDate=2),
        entry("folder", Type="tree"),
    ]
    assert find_commit(listed) == "new"


def test_the_fullest_folder_counts_its_own_entries_alone() -> None:
    assert (
        count_largest_folder([entry("a"), entry("b/c"), entry("b/d"), entry("b", Type="tree"), entry("b/e/f")]) == 2
    )
    assert count_largest_folder([]) == 0


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [entry("a")],
        [entry("a", Revision="", CommittedDate=1)],
        [entry("a", Revision="x", CommittedDate="today")],
        [entry("a", Revision="x", CommittedDate=1), entry("b", Revision="y", CommittedDate=1)],
    ],
)
def test_a_listing_that_does_not_tell_its_commit_has_none(listed: list[dict[str, Any]]) -> None:
    assert find_commit(listed) is None
