"""datasketch: MinHash of five-character pieces, MinHashLSH; a row that meets an earlier one goes. IN OUT."""

import json
import sys

from datasketch import MinHash, MinHashLSH

index = MinHashLSH(threshold=0.8, num_perm=128)
with open(sys.argv[1], encoding="utf-8") as source, open(sys.argv[2], "w", encoding="utf-8") as target:
    for number, line in enumerate(source):
        row = json.loads(line)
        text = " ".join((row["instruction"], row["output"])).casefold()
        sketch = MinHash(num_perm=128)
        sketch.update_batch([text[at : at + 5].encode() for at in range(len(text) - 4)])
        if not any(index.query(sketch)):
            index.insert(str(number), sketch)
            target.write(line)
