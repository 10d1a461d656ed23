"""The way the tutorial does it: json.loads line by line into a list, json.dumps out of it."""

import json
import sys

records = []
with open(sys.argv[1], encoding="utf-8") as stream:
    for line in stream:
        row = json.loads(line)
        records.append(
            {
                "instruction": row["question"],
                "input": "",
                "output": f"<think>\n{row['think']}\n</think>\n\n{row['answer']}",
                "system": "",
                "history": [],
            }
        )
with open(sys.argv[2], "w", encoding="utf-8") as stream:
    for record in records:
        stream.write(json.dumps(record, ensure_ascii=False) + "\n")
