"""pandas: read_json, iterrows, one json.dump a row."""

import json
import sys

import pandas as pd

frame = pd.read_json(sys.argv[1], lines=True)
with open(sys.argv[2], "w", encoding="utf-8") as stream:
    for _, row in frame.iterrows():
        record = {
            "instruction": row["question"],
            "input": "",
            "output": f"<think>\n{row['think']}\n</think>\n\n{row['answer']}",
            "system": "",
            "history": [],
        }
        stream.write(json.dumps(record, ensure_ascii=False) + "\n")
