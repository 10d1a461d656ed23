"""A Chinese team's week: a sheet, its CSV, a ticket system's export and reasoning rows, to one registered set."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from launch.cli import lfc

QUESTIONS = ["发票丢了怎么办？", "会员怎么退订？", "运费谁出？", "多久能到货？", "可以换颜色吗？", "怎么改地址？"]
ANSWERS = [
    "请联系客服。\n我们重新开具。",
    "在设置里关闭\n自动续费。",
    "我们出。",
    "三天左右。",
    "可以,七天之内。",
    "下单一小时内可改。",
]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(lfc, ["prep", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    rows = [
        {"编号": str(n), "客户 问题": q, "标准 回复": a}
        for n, (q, a) in enumerate(zip(QUESTIONS, ANSWERS, strict=True))
    ]
    rows.insert(2, {"编号": "99", "客户 问题": "没有人答", "标准 回复": ""})
    rows.insert(4, {"编号": "", "客户 问题": "", "标准 回复": ""})
    frame = pd.DataFrame(rows)
    frame.to_excel(tmp_path / "问答.xlsx", index=False)
    frame.to_csv(tmp_path / "问答.csv", index=False, encoding="gbk")
    return tmp_path / "问答.xlsx"


def test_the_week_ends_in_one_registered_set(sheet: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    said = run("convert", sheet, "-o", data / "kefu.jsonl", "--drop", "编号", "--max-rejects", 1)
    assert "records" in said
    (reject,) = read(data / "kefu.jsonl.rejects.jsonl")
    # The header is row 1 of the sheet, and cells with line ends are one row.
    assert reject["sheet row"] == 4
    assert reject["cells"]["客户 问题"] == "没有人答"
    run("convert", sheet.with_suffix(".csv"), "-o", data / "csv.jsonl", "--drop", "编号", "--max-rejects", 1)
    outputs = [
        [(row["instruction"], row["output"]) for row in read(data / name)] for name in ("kefu.jsonl", "csv.jsonl")
    ]
    assert outputs[0] == outputs[1]
    assert [question for question, _ in outputs[0]] == QUESTIONS

    tickets = [
        {
            "工单": f"T{n}",
            "对话": [
                {"角色": "客服", "内容": "您好,请问有什么可以帮您？"},
                {"角色": "用户", "内容": f"订单 {n} 还没到"},
                {"角色": "用户", "内容": "急用"},
                {"角色": "客服", "内容": f"马上为您查 {n}"},
                {"角色": "用户", "内容": "谢谢"},
            ],
        }
        for n in range(8)
    ]
    export = tmp_path / "工单.json"
    export.write_text(json.dumps({"total": 8, "data": tickets}, ensure_ascii=False, indent=2), encoding="utf-8")
    maps = ("--map", "messages=对话")
    run(
        "convert",
        export,
        "-o",
        data / "tickets.jsonl",
        *maps,
        "--drop",
        "工单",
        "--fix-turns",
        "greeting,join,drop-tail",
    )
    assert [row["instruction"] for row in read(data / "tickets.jsonl")][:1] == ["订单 0 还没到\n急用"]

    reasons = [
        {"问题": f"{n} 加 {n} 等于几？", "思考过程": f"两个 {n} 相加。", "答案": str(2 * n)} for n in range(8)
    ]
    (tmp_path / "推理.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in reasons), encoding="utf-8"
    )
    run("convert", tmp_path / "推理.jsonl", "-o", data / "reason.jsonl")
    parts = [f"{name}={data / name}.jsonl" for name in ("kefu", "tickets", "reason")]
    run("mix", *parts, "-o", data / "all.jsonl")
    run("split", data / "all.jsonl", "-o", data / "all", "--test", 4)
    run("register", data / "all_train.jsonl", "--name", "all_train", "--dataset-dir", data)
    assert len(read(data / "all_train.jsonl")) + len(read(data / "all_test.jsonl")) == 22
    assert "all_train" in json.loads((data / "dataset_info.json").read_text(encoding="utf-8"))
    run("lint", data / "all_train.jsonl")
