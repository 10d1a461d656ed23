"""Hugging Face datasets: load_dataset, map, to_json."""

import sys
from typing import Any

from datasets import load_dataset


def to_alpaca(row: dict[str, Any]) -> dict[str, Any]:
    turns = {turn["from"]: turn["value"] for turn in reversed(row["conversations"])}
    return {
        "instruction": turns["human"],
        "input": "",
        "output": f"<think>\n\n</think>\n\n{turns['gpt']}",
        "system": turns.get("system", ""),
        "history": [],
    }


rows = load_dataset("parquet", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2] + ".cache")
rows = rows.map(to_alpaca, remove_columns=rows.column_names)
rows.to_json(sys.argv[2], lines=True, force_ascii=False)
