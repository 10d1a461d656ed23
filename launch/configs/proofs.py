"""What was proved of a model's template, kept in the project: found again while model and keys are the same."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prep.errors import UserError
from prep.llamafactory import find_version_facts
from prep.storage.atomic import encode_json, write_text
from prep.storage.fingerprints import hash_file
from prep.tokens.turns import TemplateOptions

KEPT = Path(".lfc") / "proofs"
_MOST_BYTES = 1 << 20
# What of a model's folder decides how a conversation is written and in which tokens.
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")


@dataclass(frozen=True)
class KeptProof:
    """How many kinds of conversation, and of the user's rows, are written as the model's own template does."""

    template: str
    version: str
    cases: int
    equal_cases: int
    rows: int = 0
    equal_rows: int = 0

    def describe(self) -> str:
        """Return it in one sentence."""
        rows = f", and {self.equal_rows:,} of {self.rows:,} rows" if self.rows else ""
        return (
            f"Template {self.template} of LLaMA-Factory {self.version} writes {self.equal_cases} of {self.cases} "
            f"kinds of conversation{rows} as the model's own chat template does."
        )


def keep_proof(folder: Path, options: TemplateOptions, kept: KeptProof) -> Path:
    """Keep what was proved; raises OutputError when it cannot be written."""
    path = _find_path(folder, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, encode_json(asdict(kept)).decode("ascii"))
    return path


def find_proof(values: dict[str, Any]) -> KeptProof | None:
    """Return what was proved of a config's model and keys; None where nothing was, or they have changed."""
    folder = Path(str(values.get("model_name_or_path") or ""))
    if not values.get("template") or not (folder / "tokenizer_config.json").is_file():
        return None
    try:
        path = _find_path(folder, read_options(values))
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        kept = KeptProof(**json.loads(path.read_text(encoding="utf-8")))
    except (UserError, OSError, ValueError, TypeError, RecursionError):
        return None
    counts = (kept.cases, kept.equal_cases, kept.rows, kept.equal_rows)
    return kept if all(type(count) is int for count in counts) else None


def read_options(values: dict[str, Any]) -> TemplateOptions:
    """Return the keys of a config that decide how rows are written; raises UserError for an unknown template."""
    return TemplateOptions(
        str(values["template"]),
        values.get("enable_thinking", True),
        bool(values.get("mask_history")),
        values.get("preserve_thinking"),
    )


def _find_path(folder: Path, options: TemplateOptions) -> Path:
    """Return where a proof is kept: another file for other tokens, another template, version or keys."""
    files = {name: hash_file(folder / name) for name in _FILES if (folder / name).is_file()}
    keys = [options.template, options.enable_thinking, options.mask_history, options.preserve_thinking]
    told = json.dumps([find_version_facts(options.version).version, *keys, files], sort_keys=True)
    return KEPT / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"
