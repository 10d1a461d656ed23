"""text-dedup: its minhash program, whose words are single characters here. IN OUT."""

import re
import shutil
import sys

from datasets import load_from_disk
from text_dedup import minhash

source, target = sys.argv[1:]
folder = target + ".folder"
minhash.NON_ALPHA = re.compile("")
options = {"path": "json", "data_files": source, "split": "train", "cache_dir": target + ".cache", "output": folder}
options |= {
    "column": "output",
    "ngram": "5",
    "threshold": "0.8",
    "num_perm": "128",
    "num_proc": "2",
    "min_length": "1",
}
sys.argv = ["minhash", *(word for name, value in options.items() for word in (f"--{name}", value))]
minhash.main(standalone_mode=False)
load_from_disk(folder).to_json(target, lines=True, force_ascii=False)
shutil.rmtree(folder)
