"""Whether tokens that were made before are those that a config would make."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prep.errors import UserError
from prep.tokenized.note import compare_origins, describe_origin, read_note
from prep.tokenized.settings import UnsupportedError, read_settings

_SHOWN = 3


class UnknownTokensError(Exception):
    """Nothing tells whether the tokens fit; the message says why."""


def holds_tokens(folder: Path) -> bool:
    """Whether LLaMA-Factory takes a folder for tokens: as extras/misc.py, has_tokenized_data."""
    return folder.is_dir() and bool(os.listdir(folder))  # noqa: PTH208 - as there


def find_misfit(folder: Path, values: Mapping[str, Any]) -> str:
    """Return why a folder's tokens are not those of a config, "" when they are.

    Raises: UnknownTokensError when the config's tokens are not made here, so that nothing is known.
    """
    try:
        note = read_note(folder)
        wanted, _, _ = describe_origin(read_settings(values))
    except UnsupportedError as error:
        raise UnknownTokensError(str(error)) from error
    except UserError as error:
        return f"cannot be compared with the config: {error}"
    if note is None:
        return "holds tokens that nothing tells the origin of, and `dataset` and all that cuts it are ignored"
    differing = compare_origins(note.made_from, wanted)
    if not differing:
        return ""
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    return f"holds the tokens of another config: {'; '.join(differing[:_SHOWN])}{more}"
