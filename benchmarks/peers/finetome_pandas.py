"""The way most tutorials do it: pandas `iterrows`, a list of rows, one json.dump a row."""

import json
import sys

import pandas as pd

frame = pd.read_parquet(sys.argv[1])
records = []
for _, row in frame.iterrows():
    turns = {turn["from"]: turn["value"] for turn in reversed(row["conversations"])}
    records.append(
        {
            "instruction": turns["human"],
            "input": "",
            "output": f"<think>\n\n</think>\n\n{turns['gpt']}",
            "system": turns.get("system", ""),
            "history": [],
        }
    )
with open(sys.argv[2], "w", encoding="utf-8") as stream:
    for record in records:
        stream.write(json.dumps(record, ensure_ascii=False) + "\n")
