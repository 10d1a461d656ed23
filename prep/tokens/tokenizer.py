"""A model's tokenizer, read from its folder; needs only the package tokenizers."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from prep.errors import InputError, UserError
from prep.storage.bounded import read_bounded
from prep.storage.fingerprints import hash_file

_MOST_CONFIG_BYTES = 16 << 20
_MOST_TOKENIZER_BYTES = 128 << 20


def load_tokenizer(path: Path) -> Any:
    """Load a `tokenizers.Tokenizer` from a model's folder or its tokenizer.json.

    Raises: InputError when there is none or it is broken; UserError when tokenizers is not installed.
    """
    file = find_tokenizer_file(path)
    if file.stat().st_size > _MOST_TOKENIZER_BYTES:
        raise InputError(f"{file} is larger than {_MOST_TOKENIZER_BYTES >> 20} MiB, and no tokenizer is")
    return _parse_tokenizer(file, hash_file(file))


@lru_cache(maxsize=1)
def _parse_tokenizer(file: Path, sha256: str) -> Any:
    """Parse a tokenizer.json once for all datasets, as it takes a second; `sha256` tells one that was replaced."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError(
            "exact token counts need the package tokenizers", hint="pip install 'tokenizers>=0.20'"
        ) from error
    try:
        # Read here, because tokenizers raises a bare Exception for everything.
        tokenizer = Tokenizer.from_str(read_bounded(file, _MOST_TOKENIZER_BYTES))
    except Exception as error:
        raise InputError(f"{file} is not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def find_tokenizer_file(path: Path) -> Path:
    """Return the tokenizer.json of a model's folder, or the file itself; raises InputError when it is missing."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist", hint="--model takes a model's folder, or its tokenizer.json")
    return file


def read_tokenizer_config(path: Path) -> dict[str, Any]:
    """Return the tokenizer_config.json beside a tokenizer.json; raises InputError when it is missing or broken."""
    file = find_tokenizer_file(path).parent / "tokenizer_config.json"
    try:
        if file.stat().st_size > _MOST_CONFIG_BYTES:
            raise InputError(f"{file} is too large to be a tokenizer's settings")
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error}", hint="--model with a whole folder") from error
    return told if isinstance(told, dict) else {}


def find_special_token(path: Path, name: str) -> str | None:
    """Return a tokenizer's `bos_token`, `eos_token` or `pad_token`, None where it has none.

    Raises: InputError when the tokenizer_config.json beside the tokenizer.json is missing or broken.
    """
    token = read_tokenizer_config(path).get(name)
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) and token else None
