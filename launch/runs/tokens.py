"""Tokens once: a training's config, as it trains on tokens that were made before it, or by an earlier run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.configs.config import RunConfig, format_config
from launch.configs.document import format_entry
from prep.errors import UserError
from prep.progress import SILENT, Progress
from prep.tokenized.make import MadeTokens, find_shared_folder, make_tokens
from prep.tokenized.note import describe_origin, find_fingerprint, read_note
from prep.tokenized.settings import read_settings, refuse_unknown_tokenizer

_KEY = "tokenized_path"


@dataclass(frozen=True)
class TokenPlan:
    """What becomes of a training's tokens: the folder where they are made once, or `reason`, why they are not."""

    folder: Path | None
    reason: str = ""
    is_there: bool = False

    def describe(self) -> str:
        """Return it as a sentence."""
        if self.folder is None:
            return f"tokens: made by LLaMA-Factory when it trains, because {self.reason}"
        if self.is_there:
            return f"tokens: taken from {self.folder.as_posix()}, which fits"
        return f"tokens: made once, in {self.folder.as_posix()}"


def plan_tokens(values: Mapping[str, Any], *, machines: int = 1) -> TokenPlan:
    """Return where a training's tokens are made once; writes nothing.

    `machines` that train as one may not share a disk, so that each makes its own.
    """
    if machines > 1:
        return TokenPlan(None, "several machines train as one")
    try:
        settings = read_settings(_without_shared(values))
        refuse_unknown_tokenizer(settings)
        given = _find_given(values)
        fingerprint = find_fingerprint(describe_origin(settings)[0])
        folder = given or find_shared_folder(settings, fingerprint)
        note = read_note(folder)
    except UserError as error:
        return TokenPlan(None, str(error))
    return TokenPlan(folder, is_there=note is not None and note.fingerprint == fingerprint)


def use_tokens(config: RunConfig, *, machines: int = 1, on_rows: Progress = SILENT) -> tuple[RunConfig, TokenPlan]:
    """Return a config that trains on tokens made once, which are there then; as it is where they cannot be.

    A `tokenized_path` that holds something is the user's, and stays.
    """
    given = _find_given(config.values)
    if machines > 1:
        return config, plan_tokens(config.values, machines=machines)
    if given is not None and given.is_dir() and any(given.iterdir()):
        return config, TokenPlan(given, is_there=True)
    plain = _without_shared(config.values)
    try:
        made: MadeTokens = make_tokens(read_settings(plain), given, on_rows=on_rows)
    except UserError as error:
        plan = TokenPlan(None, str(error))
        return (config if plain == config.values else _rewrite(plain)), plan
    plan = TokenPlan(made.path, is_there=made.was_there)
    if given is not None:
        return config, plan
    return _add_key(config, plain, made.path.as_posix()), plan


def _find_given(values: Mapping[str, Any]) -> Path | None:
    """Return the tokenized_path that a user gave, None without one."""
    given = _without_shared(values).get(_KEY)
    return Path(str(given)) if given else None


def _without_shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without a tokenized_path that an earlier attempt of the same run was given by `use_tokens`."""
    given = values.get(_KEY)
    shared = Path(str(values.get("dataset_dir") or "data")) / ".lfc" / "tokens"
    is_ours = isinstance(given, str) and Path(given).parent == shared
    return {key: value for key, value in values.items() if key != _KEY or not is_ours}


def _add_key(config: RunConfig, plain: dict[str, Any], folder: str) -> RunConfig:
    values = {**plain, _KEY: folder}
    if _KEY in config.values:
        return _rewrite(values)
    # The user's own text stays, comments and all.
    text = config.text if config.text.endswith("\n") else config.text + "\n"
    return RunConfig(
        values, f"{text}\n# Tokens that were made once, from the keys above.\n{format_entry(_KEY, folder)}\n"
    )


def _rewrite(values: dict[str, Any]) -> RunConfig:
    return RunConfig(values, format_config(values, header="Tokens are made once: tokenized_path"))
