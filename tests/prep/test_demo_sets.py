"""The sets that LLaMA-Factory ships, laid out as there and in our own words: each lints clean, and converts.

Those of its v1 (`reason_tool_use_demo`, `v1_sft_demo`, `v1_dpo_demo`), which the trainer of 0.9 does not read, convert.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.registry.dataset import find_dataset
from prep.rows.kinds import Kind
from tests.support.public_shapes import a, call, chat, q, t, turns

ROLE_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
TOOL = {
    "name": "add",
    "description": "Adds",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
}
TOOLS = json.dumps([TOOL])


def message(role: str, *parts: tuple[str, str], weight: float | None = None) -> dict[str, Any]:
    """Return a message as LLaMA-Factory's v1 writes it."""
    made = {"role": role, "content": [{"type": kind, "value": value} for kind, value in parts]}
    return made if weight is None else {**made, "loss_weight": weight}


def write_v1(i: int, answer: str) -> list[dict[str, Any]]:
    return [
        message("system", ("text", "Be brief."), weight=0.0),
        message("user", ("text", q(i)), weight=0.0),
        message("assistant", ("text", answer), weight=1.0),
    ]


class Demo(NamedTuple):
    """A set: its file, its entry beside that (None where the trainer does not read it), a row, and what convert makes.

    Shape: `files` are the media that its rows name.
    """

    file: str
    entry: dict[str, Any] | None
    make: Callable[[int], Any]
    kind: Kind = Kind.SFT
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def pair(i: int) -> dict[str, Any]:
    return {
        "conversations": turns(("human", q(i))),
        "chosen": {"from": "gpt", "value": a(i)},
        "rejected": {"from": "gpt", "value": "No."},
    }


def media(column: str, *names: str) -> Callable[[int], dict[str, Any]]:
    mark = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}[column]
    return lambda i: {
        "messages": chat(("user", mark * len(names) + q(i)), ("assistant", a(i))),
        column: [f"mllm_demo_data/{name}" for name in names],
    }


def describe(column: str) -> dict[str, Any]:
    return {"formatting": "sharegpt", "columns": {"messages": "messages", column: column}, "tags": ROLE_TAGS}


PAIRS = {
    "ranking": True,
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
}
GLAIVE = {"formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}}
TEXT = {"columns": {"prompt": "text"}}


def tool_turns(i: int) -> dict[str, Any]:
    said = (("human", q(i)), ("function_call", json.dumps(call(i))), ("observation", str(i + 1)), ("gpt", a(i)))
    return {"conversations": turns(*said), "tools": TOOLS}


DEMOS: dict[str, Demo] = {
    "identity": Demo(
        "identity.json", {}, lambda i: {"instruction": q(i), "input": "", "output": "I am {{name}} by {{author}}."}
    ),
    "alpaca_en_demo": Demo(
        "alpaca_en_demo.json", {}, lambda i: {"instruction": q(i), "input": "x" * (i % 2), "output": a(i)}
    ),
    "alpaca_zh_demo": Demo(
        "alpaca_zh_demo.json", {}, lambda i: {"instruction": f"问题 {i}", "input": "", "output": f"答案 {i}"}
    ),
    "glaive_toolcall_en_demo": Demo("glaive_toolcall_en_demo.json", GLAIVE, tool_turns),
    "glaive_toolcall_zh_demo": Demo(
        "glaive_toolcall_zh_demo.json", GLAIVE, lambda i: {**tool_turns(i), "tools": json.dumps([TOOL], indent=1)}
    ),
    "mllm_demo": Demo("mllm_demo.json", describe("images"), media("images", "1.jpg"), files=("1.jpg",)),
    "mllm_audio_demo": Demo("mllm_audio_demo.json", describe("audios"), media("audios", "1.mp3"), files=("1.mp3",)),
    "mllm_video_demo": Demo(
        "mllm_video_demo.json", describe("videos"), media("videos", "1.mp4", "2.avi"), files=("1.mp4", "2.avi")
    ),
    "mllm_video_audio_demo": Demo(
        "mllm_video_audio_demo.json",
        {**describe("videos"), "columns": {"messages": "messages", "videos": "videos", "audios": "audios"}},
        lambda i: {
            "messages": chat(("user", f"<video><audio>{q(i)}"), ("assistant", a(i))),
            "videos": ["mllm_demo_data/4.mp4"],
            "audios": ["mllm_demo_data/4.mp3"],
        },
        files=("4.mp4", "4.mp3"),
    ),
    "dpo_en_demo": Demo("dpo_en_demo.json", PAIRS, pair, Kind.PREFERENCE),
    "dpo_zh_demo": Demo(
        "dpo_zh_demo.json",
        PAIRS,
        lambda i: {**pair(i), "conversations": turns(("system", "简短。"), ("human", q(i)))},
        Kind.PREFERENCE,
    ),
    "kto_en_demo": Demo(
        "kto_en_demo.json",
        {"formatting": "sharegpt", "columns": {"messages": "messages", "kto_tag": "label"}, "tags": ROLE_TAGS},
        lambda i: {"messages": chat(("user", q(i)), ("assistant", a(i))), "label": i % 2 == 0},
        Kind.KTO,
    ),
    "c4_demo": Demo("c4_demo.jsonl", TEXT, lambda i: {"text": f"{q(i)} {a(i)}\nMore."}, Kind.TEXT),
    "wiki_demo": Demo("wiki_demo.txt", TEXT, lambda i: f"{q(i)} {a(i)}", Kind.TEXT),
    "reason_tool_use_demo_50": Demo(
        "reason_tool_use_demo_50.jsonl",
        None,
        lambda i: {
            "messages": [
                message("system", ("text", "Use tools.")),
                message("user", ("text", q(i))),
                message("assistant", ("reasoning", t(i)), ("tool_call", json.dumps(call(i)))),
                message("tool", ("text", str(i + 1))),
                message("assistant", ("reasoning", t(i)), ("text", a(i))),
            ],
            "tools": TOOLS,
        },
    ),
    "v1_sft_demo": Demo("v1_sft_demo.jsonl", None, lambda i: {"messages": write_v1(i, a(i))}),
    "v1_dpo_demo": Demo(
        "v1_dpo_demo.jsonl",
        None,
        lambda i: {"chosen_messages": write_v1(i, a(i)), "rejected_messages": write_v1(i, "No.")},
        Kind.PREFERENCE,
    ),
    "v1_multimodal_demo": Demo(
        "v1_multimodal_demo.jsonl",
        None,
        lambda i: {
            "messages": [
                message("user", ("text", q(i)), ("image_url", "mllm_demo_data/1.jpg"), weight=0.0),
                message("assistant", ("text", a(i)), weight=1.0),
            ]
        },
        files=("1.jpg",),
    ),
}


def run(*argv: str | Path) -> Result:
    return CliRunner().invoke(lfc, [str(word) for word in argv], catch_exceptions=False)


def write(name: str, folder: Path) -> Path:
    """Write a set's file, its media and its registry into a folder."""
    demo = DEMOS[name]
    rows = [demo.make(i) for i in range(1, 21)]
    path = folder / demo.file
    if path.suffix == ".txt":
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    (folder / "mllm_demo_data").mkdir()
    for file in demo.files:
        (folder / "mllm_demo_data" / file).write_bytes(b"x")
    if demo.entry is not None:
        entries = {name: {"file_name": demo.file, **demo.entry}}
        (folder / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name", [name for name, demo in DEMOS.items() if demo.entry is not None and not demo.file.endswith("txt")]
)
def test_a_set_as_it_is_shipped_lints_clean(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    result = run("prep", "lint", name, tmp_path / "dataset_info.json", "--dataset-dir", tmp_path)
    assert (result.exit_code, "no fault found" in result.stdout) == (0, True), result.output
    assert "rows read  20" in result.stdout


@pytest.mark.parametrize("name", DEMOS)
def test_a_set_converts_and_what_it_becomes_lints_clean(name: str, tmp_path: Path) -> None:
    demo, path, made = DEMOS[name], write(name, tmp_path), tmp_path / "made"
    made.mkdir()
    result = run("prep", "convert", path, "-o", made / "set.jsonl", *demo.options)
    assert result.exit_code == 0, result.stderr
    output = next(made.glob("set*.jsonl"))
    assert find_dataset(str(output), made).kind is demo.kind
    linted = run("prep", "lint", output)
    assert linted.exit_code == 0, linted.output
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert len(rows) >= 20
    if name == "reason_tool_use_demo_50":
        assert rows[1]["conversations"][-1]["value"] == f"<think>\n{t(1)}\n</think>\n\n{a(1)}"
        assert rows[0]["conversations"][-1]["from"] == "function_call"
        assert rows[0]["conversations"][-1]["value"].startswith(f"<think>\n{t(1)}\n</think>\n\n")
