"""datatrove: its four steps of minhash, whose words are single characters here; 18 bands of 7 as ours. IN OUT."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    work = target.with_suffix(".folder")
    shutil.rmtree(work, ignore_errors=True)
    config = MinhashConfig(n_grams=5, num_buckets=18, hashes_per_bucket=7)
    reader = JsonlReader(str(source.parent), glob_pattern=source.name, text_key="output")
    signature = MinhashDedupSignature(str(work / "signatures"), config=config)
    signature.word_tokenizer = SimpleNamespace(word_tokenize=list)
    steps = (
        ([reader, signature], 1),
        ([MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)], 18),
        ([MinhashDedupCluster(str(work / "buckets"), str(work / "removed"), config=config)], 1),
        (
            [
                reader,
                MinhashDedupFilter(str(work / "removed")),
                JsonlWriter(str(work / "kept"), output_filename="${rank}.jsonl", compression=None),
            ],
            1,
        ),
    )
    for pipeline, tasks in steps:
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, skip_completed=False).run()
    (work / "kept" / "00000.jsonl").replace(target)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
