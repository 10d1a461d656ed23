"""LlamaBoard's files: saved settings, its memory of the user, and secrets in any of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

from launch.configs.document import load_document
from launch.llamaboard.fields import (
    BY_HAND,
    CACHE_DIR,
    CONFIG_DIR,
    EXTRA_ARGS,
    FIELDS,
    MODEL_NAME,
    MODEL_PATH,
    PLAIN_MODEL,
    RUN_SETTINGS,
    SAVES,
)
from launch.llamaboard.filling import fill_page
from launch.llamaboard.forms import find_page_faults, read_extra_args
from prep.errors import ConfigError, OutputError
from prep.quality.findings import format_finding
from prep.secrets import holds_secret
from prep.storage.atomic import write_text
from prep.storage.bounded_yaml import load_plain, read_text
from prep.storage.locks import lock_file
from prep.wording import in_shell

USER_CONFIG = "user_config.yaml"
RUN_ARGUMENTS = "training_args.yaml"
_FIRST_LINE = "# Written by lfc"
_FRESH_USER: dict[str, Any] = {
    "lang": None,
    "hub_name": None,
    "last_model": None,
    "path_dict": {},
    "cache_dir": None,
}
_LOCK_TIMEOUT_S = 30
_MOST_CHARACTERS = 4_000_000


def read_settings(path: Path) -> dict[str, Any]:
    """Return the fields of a saved page.

    Raises: ConfigError with every fault when LlamaBoard could not load the file as it stands.
    """
    page = _read_mapping(path)
    faults = find_page_faults(page)
    if faults:
        places = load_document(path).places
        placed = [fault.at(path.as_posix(), *places.get(fault.key, (1, 1))) for fault in faults]
        told = [indent(format_finding(fault), "  ") for fault in placed]
        raise ConfigError("\n".join([f"LlamaBoard cannot load {path}:", *told]))
    return page


def is_settings(path: Path) -> bool:
    """Tell a saved page from a training YAML by its keys."""
    page = _read_mapping(path)
    return any(str(key).startswith(("top.", "train.")) for key in page)


def format_settings(page: Mapping[str, Any], source: str) -> str:
    """Return a saved page as LlamaBoard reads it; the first line tells that it is not the user's own."""
    import yaml

    known = {key: page[key] for key in (*BY_HAND, *FIELDS) if key in page}
    return f"{_FIRST_LINE} from {source}\n" + yaml.safe_dump(known, allow_unicode=True, sort_keys=False)


def write_settings(path: Path, text: str, *, force: bool) -> None:
    """Write a saved page; raises OutputError when one stands there that the user saved on the page."""
    if path.exists() and not force and not _begins_as_ours(path):
        raise OutputError(
            f"{path} holds settings that were saved on the page",
            hint="--name ANOTHER, or --force to replace them; "
            f"lfc launch config import {in_shell(path)} -o FILE keeps them",
        )
    write_text(path, text)


def _begins_as_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_FIRST_LINE)) == _FIRST_LINE.encode()


def write_run_settings(values: Mapping[str, Any]) -> Path | None:
    """Write a training run's settings into its output folder, for LlamaBoard to restore; None if it cannot.

    Without them, choosing that folder on the page turns the whole form into errors.
    """
    if not values.get("do_train") or not (values.get("dataset") and values.get("output_dir")):
        return None
    path = Path(str(values["output_dir"])) / RUN_SETTINGS
    page = fill_page(hide_secrets(values)).page
    write_text(path, format_settings({key: page[key] for key in FIELDS}, "a run's config"))
    return path


def plan_user_config(folder: Path, language: str | None, page: Mapping[str, Any]) -> dict[str, Any]:
    """Return LlamaBoard's memory of the user with a language and a page's model merged in; nothing else changes.

    The model becomes `Custom` too, which every LlamaBoard lists, unless the user's own `Custom` is another one.
    Raises: ConfigError with line and column when the file cannot be read: LlamaBoard would overwrite it.
    """
    path = folder / USER_CONFIG
    known = _read_mapping(path) if path.exists() and read_text(path).strip() else {}
    config = {**_FRESH_USER, **known}
    config["path_dict"] = config["path_dict"] if config["path_dict"] is not None else {}
    if not isinstance(config["path_dict"], dict):
        raise ConfigError(f"{path}: path_dict must be `name: path` lines", hint=f"fix it, or delete {path}")
    config["lang"] = language or config["lang"]
    if page:
        paths = {**config["path_dict"], page[MODEL_NAME]: page[MODEL_PATH]}
        if paths.get(PLAIN_MODEL) in (None, "", page[MODEL_PATH]):
            paths[PLAIN_MODEL] = page[MODEL_PATH]
            config["last_model"] = PLAIN_MODEL
        config["path_dict"] = paths
    return config


def merge_user_config(folder: Path, language: str | None, page: Mapping[str, Any]) -> None:
    """Write what `plan_user_config` returns, under a lock."""
    import yaml

    path = folder / USER_CONFIG
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(path, timeout_s=_LOCK_TIMEOUT_S):
        write_text(path, yaml.safe_dump(plan_user_config(folder, language, page)))


def find_secrets(root: Path) -> dict[Path, list[str]]:
    """Return the saved settings under a working folder that hold a secret in clear text, with its keys."""
    found = {}
    for path in _list_saved(root):
        keys = _list_secrets(read_quietly(path))
        if keys:
            found[path] = keys
    return found


def scrub_secrets(path: Path) -> None:
    """Empty the secrets of one file of saved settings; the rest stays as it is."""
    import yaml

    content = _read_mapping(path)
    for key in _list_secrets(content):
        if key in content:
            content[key] = ""
    if EXTRA_ARGS in content:
        extra = read_extra_args(content)
        content[EXTRA_ARGS] = json.dumps(hide_secrets(extra), ensure_ascii=False)
    write_text(path, yaml.safe_dump(content, allow_unicode=True))


def hide_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without the keys that hold a secret, be it deep inside."""
    return {key: value for key, value in values.items() if not holds_secret(value, key)}


def find_model_path(path: Path, page: Mapping[str, Any]) -> str | None:
    """Return the model of a saved page, which does not say it: from beside a run, or LlamaBoard's own memory."""
    if page.get(MODEL_PATH):
        return str(page[MODEL_PATH])
    beside = path.with_name(RUN_ARGUMENTS)
    if path.name == RUN_SETTINGS and beside.exists():
        model = read_quietly(beside).get("model_name_or_path")
        return str(model) if model else None
    folder = path.resolve().parent
    root = folder.parent if folder.name == CONFIG_DIR.name else Path()
    paths = read_quietly(root / CACHE_DIR / USER_CONFIG).get("path_dict") or {}
    model = paths.get(page.get(MODEL_NAME))
    return str(model) if model else None


def _list_saved(root: Path) -> Iterator[Path]:
    yield from sorted((root / CONFIG_DIR).glob("*.yaml"))
    for name in (RUN_SETTINGS, RUN_ARGUMENTS):
        yield from sorted((root / SAVES).glob(f"*/*/*/{name}"))


def _list_secrets(content: Mapping[str, Any]) -> list[str]:
    keys = [str(key) for key, value in content.items() if key != EXTRA_ARGS and holds_secret(value, str(key))]
    try:
        extra = read_extra_args(content)
    except ConfigError:
        return keys
    return keys + [key for key, value in extra.items() if holds_secret(value, key)]


def _read_mapping(path: Path) -> dict[str, Any]:
    """Return a YAML mapping as LlamaBoard reads it; raises ConfigError with line and column."""
    text = read_text(path)
    try:
        content = load_plain(text, str(path))
    except ConfigError as error:
        hint = error.hint or "fix it or delete the file; a Windows path needs single quotes"
        raise ConfigError(str(error), hint=hint) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must be `key: value` lines", hint="fix it or delete the file")
    return content


def read_quietly(path: Path) -> dict[str, Any]:
    """Return a YAML or JSON mapping that somebody else wrote, {} when there is none or it cannot be read."""
    try:
        return _read_mapping(path)
    except ConfigError:
        return {}
