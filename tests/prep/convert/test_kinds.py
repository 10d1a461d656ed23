"""Every kind of row that LLaMA-Factory trains, from every layout that people have: what is written, or what is said."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.registry.dataset_info import describe_entry
from prep.rows.kinds import FORMS, Kind
from tests.support.shapes import write_jsonl, write_parquet

TOOLS = json.dumps(
    [{"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}}]
)
CALL = json.dumps([{"name": "clock", "arguments": {}}])
ASK, GOOD, BAD = "Which metal is liquid?", "Mercury.", "Iron."
PLAIN = {"instruction": ASK, "input": "", "system": "", "history": []}
PAIR = {**PLAIN, "chosen": GOOD, "rejected": BAD}


def turn(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


def message(role: str, text: Any) -> dict[str, Any]:
    return {"role": role, "content": text}


# {what the row has: (the row, what is written of it)}
PREFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alpaca": ({"instruction": ASK, "input": "", "chosen": GOOD, "rejected": BAD}, PAIR),
    "two outputs": (
        {"instruction": ASK, "input": "Name one.", "output": [GOOD, BAD]},
        {**PAIR, "input": "Name one."},
    ),
    "prompt": ({"prompt": ASK, "chosen": GOOD, "rejected": BAD}, PAIR),
    "a system prompt": (
        {"system": "Short.", "question": ASK, "chosen": GOOD, "rejected": BAD},
        {**PAIR, "system": "Short."},
    ),
    "turns after a conversation": (
        {"conversations": [turn("human", ASK)], "chosen": turn("gpt", GOOD), "rejected": turn("gpt", BAD)},
        PAIR,
    ),
    "texts after messages": ({"messages": [message("user", ASK)], "chosen": GOOD, "rejected": BAD}, PAIR),
    "texts after messages that end in the better one": (
        {"messages": [message("user", ASK), message("assistant", GOOD)], "chosen": GOOD, "rejected": BAD},
        PAIR,
    ),
    "UltraFeedback: messages that are the better list": (
        {
            "messages": [message("user", ASK), message("assistant", GOOD)],
            "chosen": [message("user", ASK), message("assistant", GOOD)],
            "rejected": [message("user", ASK), message("assistant", BAD)],
        },
        PAIR,
    ),
    "messages that both lists begin with": (
        {
            "messages": [message("user", ASK)],
            "chosen": [message("user", ASK), message("assistant", GOOD)],
            "rejected": [message("user", ASK), message("assistant", BAD)],
        },
        PAIR,
    ),
    "two message lists": (
        {
            "chosen": [message("user", ASK), message("assistant", GOOD)],
            "rejected": [message("user", ASK), message("assistant", BAD)],
        },
        PAIR,
    ),
    "the question beside two message lists": (
        {
            "prompt": ASK,
            "chosen": [message("user", ASK), message("assistant", GOOD)],
            "rejected": [message("user", ASK), message("assistant", BAD)],
            "score_chosen": 5.0,
        },
        PAIR,
    ),
    "answers as messages": (
        {
            "prompt": [message("user", ASK)],
            "chosen": [message("assistant", GOOD)],
            "rejected": [message("assistant", BAD)],
        },
        PAIR,
    ),
    "ms-swift": ({"query": ASK, "response": GOOD, "rejected_response": BAD}, PAIR),
    "ms-swift messages": (
        {"messages": [message("user", ASK), message("assistant", GOOD)], "rejected_response": BAD},
        PAIR,
    ),
    "ms-swift conversation": (
        {"conversations": [turn("human", ASK), turn("gpt", GOOD)], "rejected_response": BAD},
        PAIR,
    ),
    "rejected messages": (
        {
            "messages": [message("user", ASK), message("assistant", GOOD)],
            "rejected_messages": [message("user", ASK), message("assistant", BAD)],
        },
        PAIR,
    ),
    "hh-rlhf": (
        {"chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}"},
        PAIR,
    ),
    "rm-static": ({"prompt": f"\n\nHuman: {ASK}\n\nAssistant:", "chosen": f" {GOOD}", "rejected": f" {BAD}"}, PAIR),
    "a question of turns": ({"prompt": [message("user", ASK)], "chosen": GOOD, "rejected": BAD}, PAIR),
    "several turns": (
        {
            "conversations": [turn("human", "Hi"), turn("gpt", "Hello."), turn("human", ASK)],
            "chosen": turn("gpt", GOOD),
            "rejected": turn("gpt", BAD),
        },
        {**PAIR, "history": [["Hi", "Hello."]]},
    ),
}
LABELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alpaca": ({"instruction": ASK, "input": "", "output": GOOD}, {}),
    "messages": ({"messages": [message("user", ASK), message("assistant", GOOD)]}, {}),
    "conversations": ({"conversations": [turn("human", ASK), turn("gpt", GOOD)]}, {}),
    "prompt and completion": ({"prompt": ASK, "completion": GOOD}, {}),
    "trl's messages": (
        {"prompt": [message("user", ASK)], "completion": [message("assistant", GOOD)]},
        {},
    ),
    "kto-mix": (
        {"prompt": ASK, "completion": [message("user", ASK), message("assistant", GOOD)], "rating": 5},
        {},
    ),
    "a prompt of turns": ({"prompt": [message("user", ASK)], "completion": GOOD}, {}),
    "several turns": (
        {
            "messages": [
                message("user", "Hi"),
                message("assistant", "Hello."),
                message("user", ASK),
                message("assistant", GOOD),
            ]
        },
        {"history": [["Hi", "Hello."]]},
    ),
}


def run(*argv: str | Path) -> Any:
    return CliRunner().invoke(lfc, ["prep", *map(str, argv)])


def convert(
    folder: Path, rows: list[dict[str, Any]], *options: str, name: str = "made.jsonl"
) -> list[dict[str, Any]]:
    """Convert rows under a policy that adds nothing, and return what was written but for origins."""
    path = write_jsonl(folder / "in.jsonl", rows)
    result = run("convert", path, "-o", folder / "made.jsonl", "--think-policy", "masked", "--force", *options)
    assert result.exit_code == 0, result.output
    written = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    assert all(row.pop("origin").startswith("made/in.jsonl:") for row in written)
    return written


def say(folder: Path, rows: list[dict[str, Any]], *options: str) -> str:
    """Convert rows that cannot be, and return what is said."""
    result = run("convert", write_jsonl(folder / "in.jsonl", rows), "-o", folder / "made.jsonl", *options)
    assert result.exit_code == 1, result.output
    assert not (folder / "made.jsonl").exists() or "late" in str(options)
    return str(result.stderr)


@pytest.mark.parametrize("layout", PREFERENCES)
def test_two_answers_in_any_layout_become_a_preference_row(layout: str, tmp_path: Path) -> None:
    row, expected = PREFERENCES[layout]
    assert convert(tmp_path, [row]) == [expected]
    assert describe_entry(tmp_path / "made.jsonl", tmp_path) == {
        "file_name": "made.jsonl",
        "formatting": "alpaca",
        "ranking": True,
        "columns": {
            "prompt": "instruction",
            "query": "input",
            "system": "system",
            "history": "history",
            "chosen": "chosen",
            "rejected": "rejected",
        },
    }


@pytest.mark.parametrize(
    ("good", "bad"), [(1, 0), ("1", "0"), ("good", "bad"), ("thumbs_up", "thumbs_down"), ("赞", "踩")]
)
def test_labels_of_other_words_count_where_the_user_names_their_column(good: Any, bad: Any, tmp_path: Path) -> None:
    rows = [{"prompt": ASK, "completion": GOOD, "verdict": label} for label in (good, bad)]
    written = convert(tmp_path, rows, "--map", "kto_tag=verdict")
    assert [row["kto_tag"] for row in written] == [True, False]
    unnamed = [{"prompt": ASK, "completion": GOOD, "label": good}]
    result = run("convert", write_jsonl(tmp_path / "unnamed.jsonl", unnamed), "-o", tmp_path / "no.jsonl")
    assert result.exit_code == 1 and "not true or false" in result.stderr and "--map kto_tag=" in result.stderr


@pytest.mark.parametrize("column", ["label", "kto_tag"])
@pytest.mark.parametrize("layout", LABELS)
def test_a_label_beside_any_layout_makes_a_kto_row(layout: str, column: str, tmp_path: Path) -> None:
    row, more = LABELS[layout]
    expected = {**PLAIN, "output": GOOD, **more}
    rows = [{**row, column: True}, {**row, column: False}]
    assert convert(tmp_path, rows) == [{**expected, "kto_tag": True}, {**expected, "kto_tag": False}]
    assert describe_entry(tmp_path / "made.jsonl", tmp_path)["columns"]["kto_tag"] == "kto_tag"
    assert convert(tmp_path, rows, "--label-is", "true") == [expected]


def test_rows_with_tools_keep_their_kind_in_sharegpt_form(tmp_path: Path) -> None:
    asked = [turn("human", "What time is it?"), turn("function_call", CALL), turn("observation", "9")]
    row = {"conversations": asked, "chosen": turn("gpt", "Nine."), "rejected": turn("gpt", "No."), "tools": TOOLS}
    expected = {
        "conversations": asked,
        "system": "",
        "tools": TOOLS,
        "chosen": turn("gpt", "Nine."),
        "rejected": turn("gpt", "No."),
    }
    assert convert(tmp_path, [row], name="made_tools.jsonl") == [expected]
    entry = describe_entry(tmp_path / "made_tools.jsonl", tmp_path)
    assert (entry["formatting"], entry["ranking"], entry["columns"]["chosen"]) == ("sharegpt", True, "chosen")
    judged: dict[str, Any] = {"conversations": [*asked, turn("gpt", "Nine.")], "tools": TOOLS, "kto_tag": True}
    assert convert(tmp_path, [judged], name="made_tools.jsonl")[0]["kto_tag"] is True
    assert describe_entry(tmp_path / "made_tools.jsonl", tmp_path)["columns"]["kto_tag"] == "kto_tag"


def test_a_thought_on_one_side_of_a_pair_gives_both_a_block(tmp_path: Path) -> None:
    """LLaMA-Factory writes the prompt of both after the preferred answer alone."""
    rows = [{"prompt": ASK, "chosen": f"<think>\nHg\n</think>\n\n{GOOD}", "rejected": BAD}]
    written = convert(tmp_path, rows)[0]
    assert written["rejected"] == f"<think>\n\n</think>\n\n{BAD}"


@pytest.mark.parametrize("column", ["text", "content", "正文"])
def test_a_text_alone_is_a_row_for_pre_training(column: str, tmp_path: Path) -> None:
    text = "  A page.\n\nWith lines.\n"
    assert convert(tmp_path, [{column: text, "url": "u"}]) == [{"text": text}]
    entry = describe_entry(tmp_path / "made.jsonl", tmp_path)
    assert (entry["formatting"], entry["columns"]) == ("alpaca", {"prompt": "text"})


def test_a_chat_as_text_is_taken_apart(tmp_path: Path) -> None:
    text = f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n{GOOD}<|im_end|>\n"
    assert convert(tmp_path, [{"text": text}]) == [{**PLAIN, "output": GOOD}]


# {what the row has: the row, without its picture}
PICTURES: dict[str, dict[str, Any]] = {
    "images beside messages": {
        "messages": [message("user", "<image>What is it?"), message("assistant", "A cat.")],
        "images": ["cat.jpg"],
    },
    "llava": {
        "id": "1",
        "image": "cat.jpg",
        "conversations": [turn("human", "<image>What is it?"), turn("gpt", "A cat.")],
    },
    "openai parts": {
        "messages": [
            message(
                "user",
                [{"type": "image_url", "image_url": {"url": "cat.jpg"}}, {"type": "text", "text": "What is it?"}],
            ),
            message("assistant", "A cat."),
        ]
    },
    "ms-swift parts": {
        "messages": [
            message("user", [{"type": "image", "image": "cat.jpg"}, {"type": "text", "text": "What is it?"}]),
            message("assistant", [{"type": "text", "text": "A cat."}]),
        ]
    },
    "parts that name no file": {
        "messages": [
            message("user", [{"type": "image"}, {"type": "text", "text": "What is it?"}]),
            message("assistant", "A cat."),
        ],
        "images": ["cat.jpg"],
    },
    "paths in objects": {
        "instruction": "<image>What is it?",
        "input": "",
        "output": "A cat.",
        "images": [{"path": "cat.jpg", "bytes": None}],
    },
}


@pytest.mark.parametrize("layout", PICTURES)
def test_a_picture_in_any_layout_is_kept_and_registered(layout: str, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"jpg")
    expected = {**PLAIN, "instruction": "<image>What is it?", "output": "A cat.", "images": ["cat.jpg"]}
    assert convert(tmp_path, [PICTURES[layout]]) == [expected]
    assert describe_entry(tmp_path / "made.jsonl", tmp_path)["columns"]["images"] == "images"


@pytest.mark.parametrize(("name", "placeholder"), [("videos", "<video>"), ("audios", "<audio>")])
def test_videos_and_audio_are_kept_as_images_are(name: str, placeholder: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    rows = [
        {"question": f"{placeholder}What is it?", "answer": "Rain.", name: ["a.bin"]},
        {"question": "q", "answer": "a", name: []},
    ]
    assert [row[name] for row in convert(tmp_path, rows)] == [["a.bin"], []]
    assert describe_entry(tmp_path / "made.jsonl", tmp_path)["columns"][name] == name


def test_pictures_go_with_the_turns_that_show_them(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"jpg")
    turns = [turn("human", "<image>First?"), turn("gpt", "A."), turn("human", "<image>Second?"), turn("gpt", "B.")]
    row = {"conversations": turns, "images": ["a.jpg", "b.jpg"]}
    assert [made["images"] for made in convert(tmp_path, [row])] == [["a.jpg"], ["a.jpg", "b.jpg"]]
    assert [made["images"] for made in convert(tmp_path, [row], "--turns", "last")] == [["b.jpg"]]
    assert [made["images"] for made in convert(tmp_path, [row], "--turns", "first")] == [["a.jpg"]]


def test_a_preference_row_may_have_pictures(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"jpg")
    row = {"prompt": "<image>What is it?", "chosen": "A cat.", "rejected": "A dog.", "images": ["cat.jpg"]}
    written = convert(tmp_path, [row])[0]
    assert (written["images"], written["chosen"], written["rejected"]) == (["cat.jpg"], "A cat.", "A dog.")
    entry = describe_entry(tmp_path / "made.jsonl", tmp_path)
    assert (entry["ranking"], entry["columns"]["images"]) == (True, "images")


def test_a_path_is_written_as_seen_from_the_output(tmp_path: Path) -> None:
    (tmp_path / "raw" / "pictures").mkdir(parents=True)
    (tmp_path / "raw" / "pictures" / "cat.jpg").write_bytes(b"jpg")
    (tmp_path / "data").mkdir()
    row = {"question": "<image>What is it?", "answer": "A cat.", "images": ["cat.jpg"]}
    path = write_jsonl(tmp_path / "raw" / "in.jsonl", [row])
    out = tmp_path / "data" / "made.jsonl"
    result = run("convert", path, "-o", out, "--media-dir", tmp_path / "raw" / "pictures")
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text(encoding="utf-8"))["images"] == ["../raw/pictures/cat.jpg"]


PICTURE = {"question": "<image>What is it?", "answer": "A cat.", "images": ["cat.jpg"]}
# {what is wrong: (rows, what is said, the next step)}
REFUSED: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "no picture there": ([PICTURE], "cat.jpg does not exist in", "--missing-media keep"),
    "a picture of the network": (
        [{**PICTURE, "images": ["https://h/cat.jpg"]}],
        "is no file on this disk",
        "save it",
    ),
    "no placeholder": (
        [{**PICTURE, "question": "What is it?", "images": ["in.jsonl"]}],
        "1 images and 0 <image>",
        '--map question="<image>{question}"',
    ),
    "a picture that is a number": ([{**PICTURE, "images": [3]}], "holds a number, not the path of a file", ""),
    "a label that is a number": ([{"question": "q", "answer": "a", "label": 3}], "its label is '3'", "--drop"),
    "a label of null": ([{"question": "q", "answer": "a", "label": None}], "its label is null", "--drop"),
    "the same answer twice": ([{"prompt": "q", "chosen": "a", "rejected": "a"}], "are the same", ""),
    "two answers and no question": ([{"chosen": "a", "rejected": "b"}], "no question", "--map question=COLUMN"),
    "answers to different questions": (
        [
            {
                "chosen": [message("user", "q"), message("assistant", "a")],
                "rejected": [message("user", "r"), message("assistant", "b")],
            }
        ],
        "do not follow the same turns",
        "",
    ),
    "kinds that are mixed": (
        [{"instruction": "q", "input": "", "output": "a"}, {"instruction": "q", "input": "", "output": ["a", "b"]}],
        "a row of kind preference, and the first are sft",
        "--where",
    ),
    "pictures that come late": (
        [{"messages": [message("user", "q"), message("assistant", "a")]}] * 101
        + [{"messages": [message("user", [{"type": "image", "image": "in.jsonl"}]), message("assistant", "a")]}],
        "it has images, and the first rows have none",
        "--media images",
    ),
    "a synonym beside the exact name": (
        [{"question": "q", "answer": "a", "response": "b"}],
        "'answer' could be any of the columns answer, response",
        "--map answer=answer --drop response",
    ),
    "choices": (
        [{"question": "q", "options": {"A": "Cod", "B": "Crow"}, "answer": "B"}],
        "column 'options' would be lost",
        '--map question="{question} {options}"',
    ),
    "a title": ([{"title": "Fish", "text": "A page."}], "column 'title' would be lost", "--drop title"),
    "an empty text": ([{"text": " "}], "the text is empty", ""),
    "a dropped column that is not there": ([{"text": "A page."}], "column 'title' of --drop not found", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_with_the_next_step(case: str, tmp_path: Path) -> None:
    rows, message, step = REFUSED[case]
    said = say(tmp_path, rows, *(["--drop", "title"] if "dropped" in case else []))
    assert message in said
    assert step in said


def test_the_refused_is_kept_by_the_option_that_the_message_names(tmp_path: Path) -> None:
    rows = [{"question": "Which is a bird?", "options": {"A": "Cod", "B": "Crow"}, "answer": "B"}]
    written = convert(tmp_path, rows, "--map", "question={question}\\n{options}")
    assert written[0]["instruction"] == "Which is a bird?\nA. Cod\nB. Crow"
    assert convert(tmp_path, rows, "--drop", "options")[0]["instruction"] == "Which is a bird?"
    rows = [{"question": "q", "answer": "a", "response": "b"}]
    assert convert(tmp_path, rows, "--map", "answer=answer", "--drop", "response")[0]["output"] == "a"
    rows = [{"title": "Fish", "text": "A page."}]
    assert convert(tmp_path, rows, "--map", "text={title}\\n\\n{text}") == [{"text": "Fish\n\nA page."}]
    assert convert(tmp_path, [PICTURE], "--missing-media", "keep")[0]["images"] == ["cat.jpg"]


def test_an_empty_column_loses_nothing(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "q", "answer": "a", "options": None},
        {"question": "r", "answer": "a", "options": ""},
    ]
    assert len(convert(tmp_path, rows)) == 2
    rows.append({"question": "s", "answer": "a", "options": "A or B"})
    assert "row 3: column 'options' would be lost" in say(tmp_path, rows, "-o", str(tmp_path / "late.jsonl"))


def test_context_and_history_beside_a_question_are_read(tmp_path: Path) -> None:
    row = {
        "query": "And now?",
        "response": "Cold.",
        "history": [["Then?", "Warm."]],
        "context": "Ulm.",
        "category": "qa",
    }
    assert convert(tmp_path, [row]) == [
        {
            "instruction": "And now?",
            "input": "Ulm.",
            "output": "Cold.",
            "system": "",
            "history": [["Then?", "Warm."]],
        }
    ]
    assert convert(tmp_path, [{"instruction": "", "input": ASK, "output": GOOD}]) == [{**PLAIN, "output": GOOD}]


def test_parquet_loses_nothing_either(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", [{"question": "q", "options": "A or B", "answer": "a"}])
    result = run("convert", path, "-o", tmp_path / "made.jsonl")
    assert (result.exit_code, "column 'options' would be lost" in result.stderr) == (1, True)
    turns = [turn("human", "q"), turn("gpt", "a")]
    path = write_parquet(tmp_path / "in.parquet", [{"conversations": turns, "summary": "short"}])
    result = run("convert", path, "-o", tmp_path / "made.jsonl")
    assert (result.exit_code, "column 'summary' would be lost" in result.stderr) == (1, True)


def test_each_form_is_found_by_its_own_columns() -> None:
    from prep.rows.kinds import find_form

    for form in FORMS:
        assert find_form(list(form.all_columns.values())) is form
    assert {form.kind for form in FORMS} == set(Kind)
