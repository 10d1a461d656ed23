"""Which files of a folder are published, as what, and under which card; nothing is sent."""

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from prep.errors import ConfigError, InputError
from prep.storage.fingerprints import hash_file

CARD = "README.md"
_MAX_JSON = 4 << 20
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


class PublishedKind(StrEnum):
    """What is published."""

    ADAPTER = "adapter"
    MODEL = "model"
    DATASET = "dataset"


# Named one by one: what else lies in a training's folder, checkpoints, pickles and logs, is nobody's business.
_FILES = {
    PublishedKind.ADAPTER: ("adapter_config.json", "adapter_model*.safetensors", *_TOKENIZER),
    PublishedKind.MODEL: (
        "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
        "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json", "Modelfile",
        *_TOKENIZER,
    ),
}  # fmt: skip
_WEIGHTS = {PublishedKind.ADAPTER: "adapter_model*.safetensors", PublishedKind.MODEL: "*.safetensors"}


@dataclass(frozen=True)
class PublishedFile:
    """One file as it will stand on the hub; `content` where it is not the file on the disk as it is."""

    name: str
    size: int
    sha256: str
    path: Path | None
    content: bytes | None = None


def find_kind(source: Path) -> PublishedKind:
    """Return what a path holds; raises InputError when it is nothing that can be published."""
    if source.is_file() and source.suffix == ".jsonl":
        return PublishedKind.DATASET
    if (source / "adapter_config.json").is_file():
        return PublishedKind.ADAPTER
    if (source / "config.json").is_file():
        return PublishedKind.MODEL
    if not source.exists():
        raise InputError(
            f"{source} does not exist", hint="a training's output_dir, an export_dir, or a .jsonl file"
        )
    raise InputError(
        f"{source} is neither an adapter (adapter_config.json), nor a model (config.json), nor a .jsonl file",
        hint="a training's output_dir, an export_dir, or what lfc prep convert wrote",
    )


def list_files(source: Path, kind: PublishedKind) -> list[tuple[str, Path]]:
    """Return (name on the hub, path) of what is published, sorted; raises InputError where weights are missing."""
    if kind is PublishedKind.DATASET:
        return [(source.name, source)]
    names = sorted(path.name for path in source.iterdir() if path.is_file() and not path.is_symlink())
    chosen = [name for name in names if any(fnmatch(name, pattern) for pattern in _FILES[kind])]
    if not any(fnmatch(name, _WEIGHTS[kind]) for name in chosen):
        raise InputError(
            f"{source} holds no {_WEIGHTS[kind]}: its weights are not there", hint="the training's end"
        )
    if kind is PublishedKind.MODEL:
        chosen = [name for name in chosen if not fnmatch(name, "adapter_model*.safetensors")]
    return [(name, source / name) for name in chosen]


def find_base(source: Path, kind: PublishedKind) -> str | None:
    """Return the base model that an adapter names, None for anything else; raises InputError when it is broken."""
    if kind is not PublishedKind.ADAPTER:
        return None
    base = _read_json(source / "adapter_config.json").get("base_model_name_or_path")
    return base if isinstance(base, str) else None


def is_hub_name(name: str | None) -> bool:
    """Tell whether a model's name is `owner/name` of a hub rather than a folder of this machine."""
    if not name or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") != 1:
        return False
    return not Path(name).exists()


def describe_files(source: Path, kind: PublishedKind, base: str | None, card: str) -> list[PublishedFile]:
    """Return all files as they will stand on the hub, with their hashes; the card is one of them.

    An adapter's own config names `base` instead of a folder of this machine.
    """
    files = []
    for name, path in list_files(source, kind):
        if name == "adapter_config.json" and base:
            content = {**_read_json(path), "base_model_name_or_path": base}
            files.append(_describe_content(name, json.dumps(content, indent=2).encode()))
        else:
            files.append(PublishedFile(name, path.stat().st_size, hash_file(path), path))
    return [*files, _describe_content(CARD, card.encode())]


def check_repository(name: str) -> str:
    """Return `owner/name`; raises ConfigError when it is none."""
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(f"{name!r:.100} is no repository", hint="--repo OWNER/NAME")
    return name


def _describe_content(name: str, content: bytes) -> PublishedFile:
    return PublishedFile(name, len(content), hashlib.sha256(content).hexdigest(), None, content)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"it is larger than {_MAX_JSON >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} cannot be used: it must be one mapping")
    return content
