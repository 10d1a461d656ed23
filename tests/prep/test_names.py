"""What may be a name: whatever is accepted is one part of a path on ext4 and NTFS, printable, and no option."""

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.errors import ConfigError
from prep.names import MAX_NAME_BYTES, check_dataset_name, check_name, find_name_fault, fold_name, make_name

FAULTS = [
    ("", "is empty"), ("  ", "is empty"), ("-o", "begins with '-'"), (".", "begins with '.'"), ("..", "begins with '.'"),
    ("~root", "begins with '~'"), ("a/b", "holds one of"), ("a\\b", "holds one of"), ("C:x", "holds one of"),
    ("a*", "holds one of"), ("a\nb", "holds a control character"), ("a\0", "holds a control character"),
    ("a\u2028b", "holds a control character"), ("a\u202eb", "holds a control character"),
    ("a\u200bb", "holds a control character"), ("\ud800", "holds a control character"),
    ("a\xa0b", "holds a control character"), ("a ", "begins or ends with a space"), ("a.", "ends with a dot"),
    ("con", "is reserved by Windows"), ("NUL.txt", "is reserved by Windows"), ("com1", "is reserved by Windows"),
    ("LPT²", "is reserved by Windows"), ("aux .x", "is reserved by Windows"), ("CONIN$", "is reserved by Windows"),
    ("x" * 181, "is longer than 180 bytes"), ("医" * 61, "is longer than 180 bytes"),
    (None, "is not a text"), (5, "is not a text"), (["a"], "is not a text"), ({"a": 10**5000}, "is not a text"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_what_cannot_be_a_name_is_refused_with_its_reason(name: object, fault: str) -> None:
    for check in (check_name, check_dataset_name):
        with pytest.raises(ConfigError, match=re.escape(fault)) as caught:
            check(name, "run name")
        assert str(caught.value).startswith("run name ")
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name", ["a", "医疗-1", "v1.2", "learning_rate-1e-4", "консоль", "x" * 180, "com10", "हिन्दी", "a+b"]
)
def test_names_of_any_script_are_accepted(name: str) -> None:
    assert check_name(name, "run name") == check_dataset_name(name, "label") == name


@pytest.mark.parametrize("name", ["a,b", "a=b", "a b", "a#b", "a[1]", "a$b", "a'b", "a&b"])
def test_a_dataset_name_holds_nothing_that_a_list_of_names_is_read_by(name: str) -> None:
    assert check_name(name, "run name") == name
    with pytest.raises(ConfigError, match="holds"):
        check_dataset_name(name, "label")


texts = st.text(max_size=200) | st.text(st.sampled_from("a.-_~ /\\:conNUL1\n\u202e医²\ud800"), max_size=12)


@settings(max_examples=600, deadline=None)
@given(texts)
def test_whatever_is_accepted_is_one_part_of_a_path_everywhere(name: str) -> None:
    if find_name_fault(name) is not None:
        return
    assert name.isprintable()
    assert not name.startswith(("-", ".", "~"))
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
    assert len(f"{name}.manifest.json".encode("utf-16-le")) <= 510
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind("root") / name
        assert path.parts == ("root", name)
        assert path.name == name
    assert not PureWindowsPath(name).is_reserved()


@settings(max_examples=40, deadline=None)
@given(name=texts)
def test_whatever_is_accepted_can_be_made_and_listed(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if find_name_fault(name) is None:
        folder = tmp_path_factory.mktemp("n")
        Path(folder, f"{name}.manifest.json.partial").write_text("", encoding="utf-8")
        assert [path.name for path in folder.iterdir()] == [f"{name}.manifest.json.partial"]


@settings(max_examples=600, deadline=None)
@given(texts)
def test_a_made_name_is_always_accepted(text: str) -> None:
    assert find_name_fault(make_name(text)) is None


@pytest.mark.parametrize(("one", "other"), [("a", "A"), ("é", "e\u0301"), ("ß", "SS"), ("Ǆ", "ǆ")])
def test_names_that_are_one_on_some_file_system_fold_alike(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)
    assert fold_name("a") != fold_name("b")
