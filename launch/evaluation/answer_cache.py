"""Answers kept by row, and by what decided them, so that no model is asked the same twice.

One file a model and a way of asking it, `runs/.answers/ID.jsonl`. It only grows; a line that is not whole, because
its writer was killed, counts as not there.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = ".answers"
_MAX_LINE_BYTES = 16 << 20
# What decides which rows are asked, where results go and how fast, and not what an answer is.
_NO_MATTER = frozenset(
    {"eval_dataset", "dataset_dir", "output_dir", "max_samples", "per_device_eval_batch_size", "overwrite_cache"}
    | {"preprocessing_num_workers", "preprocessing_batch_size", "dataloader_num_workers", "report_to"}
    | {"data_shared_file_system", "cutoff_len", "template", "default_system", "tool_format", "enable_thinking"}
)


def find_answers(root: Path, identity: Mapping[str, Any]) -> Path:
    """Return the file of the answers that `identity` decides: a prediction's config, and its model's files.

    The prompt's tokens are a row's own key, so what only makes prompts is no part of the file's name.
    """
    config = {key: value for key, value in identity.get("config", {}).items() if key not in _NO_MATTER}
    text = json.dumps([config, identity.get("models")], sort_keys=True, default=str)
    return root / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.jsonl"


class AnswerFile:
    """The answers of one file by key, with an `add` that is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self.path = path
        self.known: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        ends_whole = True
        if path.is_file():
            with path.open("rb") as stream:
                while line := stream.readline(_MAX_LINE_BYTES):
                    ends_whole = line.endswith(b"\n")
                    self._take(line)
        self._begin = b"" if ends_whole else b"\n"

    def add(self, key: str, answer: str) -> None:
        """Keep one answer."""
        self.known[key] = answer
        line = json.dumps({"key": key, "predict": answer}, ensure_ascii=False) + "\n"
        # One write of a whole line: two evaluations may add to one file.
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, self._begin + line.encode("utf-8", "surrogatepass"))
        finally:
            os.close(handle)
        self._begin = b""

    def _take(self, line: bytes) -> None:
        try:
            value = json.loads(line)
            key, answer = value["key"], value["predict"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if isinstance(key, str) and isinstance(answer, str):
            self.known[key] = answer


def make_key(value: object) -> str:
    """Return a request's key: the hash of all that is asked."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
