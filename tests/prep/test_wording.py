"""Numbers, and words of a shell, in sentences."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from prep.wording import count_of, in_shell


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (2, "row", "2 rows"),
        (12_345, "finding", "12,345 findings"),
        (2, "copy", "2 copies"),
        (2, "key", "2 keys"),
        (1, "copy", "1 copy"),
    ],
)
def test_a_noun_agrees_with_its_number(number: int, noun: str, text: str) -> None:
    assert count_of(number, noun) == text


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("rows.jsonl", "rows.jsonl"),
        (Path("data") / "问答.csv", "data/问答.csv"),
        ("my rows.csv", "'my rows.csv'"),
        ("it's.csv", "'it'\"'\"'s.csv'"),
        ("$(rm)", "'$(rm)'"),
        ("-o.csv", "./-o.csv"),
        ("", "''"),
    ],
)
def test_a_word_of_a_command_is_written_as_a_shell_takes_it(word: Path | str, written: str) -> None:
    assert in_shell(word) == written


# What stands in commands of messages, and is no path or name of the user's.
HARMLESS = {"boost", "command", "manifest.step", "near[0]", "next(iter(shipped))", "name or 'MODEL'"}
# A file that is quoted already, and one that is named behind the command.
HARMLESS |= {"file", "manifest_path(output)", "what"}
ROOT = Path(__file__).parents[2]


def list_bare_words() -> Iterator[str]:
    """Yield where a message's command has a value that is not written by `in_shell` or shlex."""
    for path in (path for package in ("prep", "launch") for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            said = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    said += str(part.value)
                elif re.search(r"\blfc (?:prep|launch|run) [^;`]*$", said.rpartition(", then")[2]):
                    value = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
                    if not value.startswith(("in_shell(", "shlex.")) and value not in HARMLESS:
                        yield f"{path.relative_to(ROOT)}:{node.lineno}: {value}"


def test_commands_in_messages_quote_what_the_user_named() -> None:
    assert list(list_bare_words()) == []
