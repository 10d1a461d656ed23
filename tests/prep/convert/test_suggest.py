"""What a message says of columns that are nearly right, or of no known format, reads the rows when it is done."""

from pathlib import Path
from typing import Any

import pytest

from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.errors import InputError
from tests.support.shapes import write_jsonl


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        (
            {"工单号": "20", "咨询内容": "怎么退货", "处理答复": "请寄回"},
            "--map question=咨询内容 --map answer=处理答复",
        ),
        ({"Customer says": "Hi", "Our reply": "Yo"}, '--map question="Customer says" --map answer="Our reply"'),
        ({"id": 7, "left": "Where?", "right": "Here."}, "--map question=left --map answer=right"),
        (
            {"题目文本": "1+1?", "推理步骤": "先加", "最终答案": "二"},
            "--map question=题目文本 --map think=推理步骤 --map answer=最终答案",
        ),
    ],
)
def test_the_hint_behind_no_known_format_reads_the_rows(row: dict[str, Any], hint: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [row])
    with pytest.raises(InputError, match="no known format has the columns") as caught:
        convert_files([path], tmp_path / "out.jsonl", ConvertOptions())
    assert caught.value.hint == f"{hint}, if that is what they hold"
    parts = (part.strip().strip('"') for part in hint.split("--map ")[1:])
    pairs = dict(part.split("=") for part in parts)
    mapped = {ours: theirs.strip('"') for ours, theirs in pairs.items()}
    unused = tuple(name for name in row if name not in mapped.values())
    options = ConvertOptions(column_map=mapped, drop=unused)
    assert convert_files([path], tmp_path / "out.jsonl", options).counts["records"] == 1


@pytest.mark.parametrize(
    ("header", "wanted", "hint"),
    [
        ("标准 回复", "标准回复", '--map answer="标准 回复"'),
        ("Answer Text", "answer_text", '--map answer="Answer Text"'),
        ("ａｎｓ１", "ans1", "--map answer=ａｎｓ１"),
        ("anwser_cn", "answer_cn", "--map answer=anwser_cn"),
        ("x", "回复", "--map answer=YOUR_COLUMN"),
    ],
)
def test_a_header_that_is_nearly_there_is_named(header: str, wanted: str, hint: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{"question": "a", header: "b"}])
    with pytest.raises(InputError, match=f"column '{wanted}' not found") as caught:
        convert_files([path], tmp_path / "out.jsonl", ConvertOptions(column_map={"answer": wanted}))
    assert caught.value.hint == hint


@pytest.mark.parametrize("question", ["问题", "客户问题", "客户 问题", "用户问题", " Question "])
@pytest.mark.parametrize("answer", ["答案", "标准回复", "标准 回复", "标准答案", "ANSWER"])
def test_headers_that_teams_use_are_known(question: str, answer: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{question: "a", answer: "b"}])
    assert convert_files([path], tmp_path / "out.jsonl", ConvertOptions()).counts["records"] == 1
