"""LLaMA-Factory's WebUI, checked before it starts and filled in when it opens: plan and write.

The page is started by `webui_page.py`, which gives LlamaBoard's fields their first values. With a LlamaBoard that
is built in another way it starts as it is, with a model that it knows, and the user is told which button to press.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from textwrap import indent
from typing import Any

from launch.choices import Kind, Language
from launch.llamaboard.convert import SECRET_VARIABLES, describe_filled, drop_secrets, import_settings
from launch.llamaboard.fields import CACHE_DIR, CONFIG_DIR, LANGUAGE, MODEL_PATH
from launch.llamaboard.files import (
    find_secrets,
    format_settings,
    is_settings,
    merge_user_config,
    plan_user_config,
    read_settings,
    write_settings,
)
from launch.llamaboard.filling import fill_page
from launch.machine.command import Command, build_llamafactory_command, build_python_command, find_stack_python
from launch.machine.network import (
    check_model_is_reachable,
    choose_port,
    fix_proxies,
    format_address,
    is_local_model,
    is_public,
)
from launch.webui.chat import choose_sampling, describe_chat, wants_chat
from prep.errors import ConfigError
from prep.quality.findings import format_finding
from prep.storage.paths import find_free_path

LOG = CACHE_DIR / "lfc_webui.log"
STATUS = CACHE_DIR / "lfc_webui.json"


@dataclass(frozen=True)
class Address:
    """Where the WebUI is to listen, and for whom."""

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False


@dataclass(frozen=True)
class Request:
    """What the user asks for: a training YAML's values, or a saved page, or neither; `chat` to talk to a model."""

    config: Path | None
    values: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    language: str | None = None
    force: bool = False
    chat: bool = False


@dataclass(frozen=True)
class Plan:
    """A checked start: what will be written, what will be run, and what the user should know.

    Shape: `page` is {} when no training is to be filled in; `settings` is then None.
    """

    command: Command
    url: str
    language: str
    page: dict[str, Any]
    settings: Path | None
    source: str
    force: bool
    user_config: dict[str, Any]
    notes: list[str]
    chat: bool = False


def read_request(config: Path | None, pairs: tuple[str, ...], dataset_dir: Path | None) -> dict[str, Any]:
    """Return a config's values with overrides, or those that a saved page says.

    Raises: ConfigError when the file cannot be read, or a saved page could not be loaded by LlamaBoard.
    """
    from launch.configs.config import parse_overrides, read_config

    overrides = parse_overrides(pairs)
    if dataset_dir is not None:
        overrides["dataset_dir"] = dataset_dir.as_posix()
    if config is None:
        if set(overrides) - {"dataset_dir"}:
            raise ConfigError("key=value changes a config, and none is named", hint="lfc launch webui CONFIG.yaml")
        return overrides
    if config.suffix in (".yaml", ".yml") and config.is_file() and is_settings(config):
        return {**import_settings(config).values, **overrides}
    return {**read_config(config), **overrides}


def plan_webui(request: Request, address: Address, cli: Path, environ: Mapping[str, str]) -> Plan:
    """Check everything that is known to break the WebUI, and plan its start; nothing is written or started.

    Raises: RegistryError, ConfigError and StackError, each with its fix.
    """
    notes: list[str] = []
    known = plan_user_config(CACHE_DIR, None, {})
    language = choose_language(request.language, known["lang"], environ)
    page: dict[str, Any] = {}
    settings = None
    env: dict[str, str] = {}
    model: str | None = None
    talks = request.config is not None and (request.chat or wants_chat(request.values))
    if talks:
        model = _check_chat(request.values, request.config, env)
    elif request.config is not None:
        from launch.webui.datasets import check_datasets

        notes += check_datasets(request.values)
        page, env = _plan_page(request, language, notes)
        settings = _name_settings(request.config, request.name)
        model = page[MODEL_PATH]
    notes += _describe_saved_faults(settings)
    if is_public(address.host):
        notes.append(f"--host {address.host}: everybody who reaches this machine can use the page and its files")
    if address.share:
        notes.append("--share: everybody who has the public link can use the page and its files, without any key")
    env |= fix_proxies(address.host, model, environ, find_stack_python(cli), notes)
    port = choose_port(address.host, address.port)
    shown = describe_chat(request.values) if talks else describe_shown(request)
    command = _build_command(cli, settings, shown, request.values, environ)
    command = Command(command.argv, {**command.env, **_describe_server(address, port), **env})
    return Plan(
        command=command,
        url=format_address(address.host, port),
        language=language,
        page=page,
        settings=settings,
        source=request.config.as_posix() if request.config else "",
        force=request.force,
        user_config=plan_user_config(CACHE_DIR, language, page),
        notes=notes,
        chat=talks,
    )


def write_plan(plan: Plan) -> None:
    """Write the settings and LlamaBoard's memory of the user."""
    if plan.settings is not None:
        write_settings(plan.settings, format_settings(plan.page, plan.source), force=plan.force)
    merge_user_config(CACHE_DIR, plan.language, plan.page)


def choose_language(given: str | None, known: str | None, environ: Mapping[str, str]) -> str:
    """Return the page's language: the one given, else the one used before, else the locale's, else English."""
    import locale

    if given or known in tuple(Language):
        return given or str(known)
    spoken = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    spoken = spoken or locale.getlocale()[0] or ""
    # Windows says `Chinese (Simplified)_China` where others say `zh_CN`.
    names = {"chinese": "zh", "russian": "ru", "korean": "ko", "japanese": "ja"}
    word = spoken.lower().partition("_")[0].partition(".")[0].partition(" ")[0]
    language = names.get(word, word)
    return language if language in tuple(Language) else "en"


def _plan_page(request: Request, language: str, notes: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the filled page, and the variables that its training needs."""
    env = {
        variable: str(request.values[key]) for key, variable in SECRET_VARIABLES.items() if request.values.get(key)
    }
    values = _free_output_dir(drop_secrets(request.values, notes), notes)
    _check_values(values, request.config)
    filled = fill_page(values)
    notes += describe_filled(filled)
    _reach_model(filled.page[MODEL_PATH], env)
    return {LANGUAGE: language, **filled.page}, env


def _check_chat(values: Mapping[str, Any], config: Path | None, env: dict[str, str]) -> str:
    """Return the model that is talked to, once all is known to be right."""
    _check_values(values, config, "infer")
    model = str(values["model_name_or_path"])
    _reach_model(model, env)
    return model


def _reach_model(model: str, env: dict[str, str]) -> None:
    if is_local_model(model):
        env.setdefault("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "1"))
    else:
        check_model_is_reachable(model, os.environ)


def _name_settings(config: Path, name: str | None) -> Path:
    """Return where the page's settings go; those that the user saved on the page stay as they are."""
    path = CONFIG_DIR / f"{name or config.stem}.yaml"
    return path.with_stem(f"{path.stem}-opened") if path.resolve() == config.resolve() else path


def _free_output_dir(values: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return values whose output folder is free: the page asks before it trains into one, and then resumes."""
    given = str(values.get("output_dir") or "")
    if not given or values.get("overwrite_output_dir") or values.get("resume_from_checkpoint"):
        return values
    taken = Path(given)
    free = find_free_path(taken, "-", _holds_a_run)
    if free == taken:
        return values
    notes.append(f"{taken.as_posix()} holds a run already: the page's output folder is {free.as_posix()}")
    return {**values, "output_dir": free.as_posix()}


def _holds_a_run(folder: Path) -> bool:
    return folder.is_dir() and any(path.name != "llamaboard_config.yaml" for path in folder.iterdir())


def _check_values(values: Mapping[str, Any], path: Path | None, kind: Kind = "train") -> None:
    """Raise ConfigError with every fault that would stop the training, or the model, on this machine."""
    from launch.configs.config import check_values
    from launch.configs.rules import read_machine

    faults = [fault for fault in check_values(values, kind, read_machine()) if fault.is_error]
    if faults:
        told = [indent(format_finding(fault), "  ") for fault in faults]
        raise ConfigError(
            "\n".join([f"{path} cannot be {'trained' if kind == 'train' else 'loaded'} here:", *told])
        )


def _describe_saved_faults(ours: Path | None) -> list[str]:
    """Return what is wrong with the user's other saved pages, and which of them hold secrets."""
    notes = []
    for path in sorted(CONFIG_DIR.glob("*.yaml")):
        if path != ours:
            try:
                read_settings(path)
            except ConfigError as error:
                notes.append(str(error))
    for path, keys in find_secrets(Path()).items():
        notes.append(f"{path.as_posix()} holds {', '.join(keys)} in clear text: --scrub empties it")
    return notes


def describe_shown(request: Request) -> dict[str, Any]:
    """Return what the page shows beside a training's own fields, by their ids.

    With a config that is the Chat tab: thoughts as they were trained, and Qwen3's own sampling for the mode.
    Without one it is the folder of the datasets, where it was given.
    """
    if request.config is None:
        folder = request.values.get("dataset_dir")
        return {f"{tab}.dataset_dir": folder for tab in ("train", "eval")} if folder else {}
    return choose_sampling(request.values)


def _build_command(
    cli: Path,
    settings: Path | None,
    shown: Mapping[str, Any],
    values: Mapping[str, Any],
    environ: Mapping[str, str],
) -> Command:
    script = Path(str(files("launch") / "guest" / "webui_page.py"))
    arguments = (str(STATUS), json.dumps(shown), *([str(settings)] if settings else []))
    command = build_python_command(find_stack_python(cli), script, arguments, environ)
    # For a training that the page starts, the program must be found and Unsloth must see one GPU.
    return Command(command.argv, build_llamafactory_command(cli, "webui", Path(), values, environ).env)


def _describe_server(address: Address, port: int) -> dict[str, str]:
    return {
        "GRADIO_SERVER_NAME": address.host,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_NUM_PORTS": "1",
        "GRADIO_SHARE": "true" if address.share else "false",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
