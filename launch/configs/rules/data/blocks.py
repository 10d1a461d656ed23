"""The rule of stage pt: its texts, joined and cut into blocks of cutoff_len tokens, fill at least one block."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from launch.configs.rules.base import Setting, local_path, train_rule
from launch.configs.rules.data.rows import count_rows, read_entry, reads_datasets
from prep.errors import UserError
from prep.quality.findings import Finding, at_key
from prep.registry.dataset import DEFAULT_COLUMNS, list_entry_files

# No tokenizer makes longer tokens of a language's text, on average.
_MOST_BYTES_A_TOKEN = 16
_SMALLEST = 16


@train_rule
def texts_fill_a_block(setting: Setting) -> Iterator[Finding]:
    """Run: stage pt packs unless told not to, and what fills no block is dropped: `Cannot find sufficient samples`.

    Source: data/processor/pretrain.py joins the texts of one batch, and drops what is left at its end.
    """
    packs = setting["packing"] is not False or setting["neat_packing"]
    if setting["stage"] != "pt" or not packs or setting["streaming"] or not reads_datasets(setting):
        return
    cutoff = setting["cutoff_len"]
    names = setting.names("dataset")
    if not isinstance(cutoff, int) or cutoff < 1 or setting["mix_strategy"] != "concat":
        return
    texts: list[str] = []
    batch = _count_batch(setting, names)
    for name in names:
        found = _read_texts(name, setting.dataset_dir, batch - len(texts))
        if found is None:
            return
        texts += found
        if sum(map(len, texts)) >= cutoff * _MOST_BYTES_A_TOKEN:
            return
    tokens = _count_tokens(texts, setting, cutoff)
    if tokens is not None and tokens < cutoff:
        yield at_key(
            "cutoff_len",
            f"is {cutoff:,}, and the texts have {tokens:,} tokens: not one block of stage pt",
            f"cutoff_len: {max(tokens // 2, _SMALLEST)}, packing: false, or more texts",
        )


def _count_batch(setting: Setting, names: list[str]) -> int:
    """Return how many texts are joined at most: LLaMA-Factory's batch, of one worker's share of the rows."""
    batch = int(setting["preprocessing_batch_size"] or 1000)
    counts = [count_rows(name, setting.dataset_dir) for name in names]
    workers = setting["preprocessing_num_workers"] or 1
    if None in counts or workers < 2:
        return batch
    return min(batch, -(-sum(count or 0 for count in counts) // int(workers)))


def _read_texts(name: str, dataset_dir: Path, limit: int) -> list[str] | None:
    """Return the first texts of a dataset as stage pt takes them, None where they cannot be read here."""
    entry = read_entry(name, dataset_dir)
    files = list_entry_files(entry, dataset_dir)
    columns = entry.get("columns", DEFAULT_COLUMNS)
    is_plain = isinstance(columns, dict) and entry.get("formatting", "alpaca") == "alpaca"
    if len(files) != 1 or files[0].suffix not in (".json", ".jsonl") or not is_plain:
        return None
    from prep.rows.json_rows import iter_json_rows

    texts = []
    try:
        for _, row in islice(iter_json_rows(files[0]), max(limit, 0)):
            if not isinstance(row, dict):
                return None
            texts.append(_read_first(row, columns))
    except UserError:
        return None
    return texts


def _read_first(row: dict[str, Any], columns: dict[str, Any]) -> str:
    """Return the first message of a row, which is all that stage pt takes of it."""
    history = row.get(columns.get("history") or "")
    if isinstance(history, list) and history and isinstance(history[0], list) and history[0]:
        return str(history[0][0])
    found = (row.get(columns.get(name) or "") for name in ("prompt", "query"))
    return "\n".join(text for text in found if isinstance(text, str) and text)


def _count_tokens(texts: list[str], setting: Setting, cutoff: int) -> int | None:
    """Return how many tokens the texts have, each with its end; their bytes where those are too few already."""
    from prep.tokens.tokenizer import load_tokenizer

    size = sum(len(text.encode("utf-8", "replace")) for text in texts) + len(texts)
    if size < cutoff:
        # No token is shorter than a byte.
        return size
    folder = local_path(setting["model_name_or_path"] or "")
    if not (folder / "tokenizer.json").is_file():
        return None
    try:
        tokenizer = load_tokenizer(folder)
    except UserError:
        return None
    return sum(len(tokenizer.encode(text, add_special_tokens=False).ids) + 1 for text in texts)
