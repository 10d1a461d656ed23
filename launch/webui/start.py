"""LLaMA-Factory's WebUI, checked before it starts and filled in when it opens: plan, write, serve.

The page is started by `webui_page.py`, which gives LlamaBoard's fields their first values. With a LlamaBoard that
is built in another way it starts as it is, with a model that it knows, and the user is told which button to press.
"""

import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from textwrap import indent
from typing import Any

from launch.llamaboard.files import (
    find_model_path,
    find_secrets,
    format_settings,
    hide_secrets,
    is_settings,
    merge_user_config,
    plan_user_config,
    read_settings,
    write_settings,
)
from launch.llamaboard.page import (
    CACHE_DIR,
    CONFIG_DIR,
    LANGUAGE,
    MODEL_NAME,
    MODEL_PATH,
    OUTPUT_DIR,
    PLAIN_MODEL,
    Filled,
    fill_page,
    locate_save,
)
from launch.machine.command import Command, build_llamafactory_command, build_python_command, find_stack_python
from launch.machine.network import (
    check_model_is_reachable,
    choose_port,
    fix_proxies,
    format_address,
    is_local_model,
    is_public,
)
from launch.runs.process import Child, describe_failure, run_child
from prep.errors import ChildFailedError, ConfigError, StackError
from prep.quality.findings import format_finding
from prep.secrets import list_secrets, mask_text
from prep.storage.atomic import refuse_existing
from prep.storage.paths import find_free_path

LANGUAGES = ("en", "zh", "ru", "ko", "ja")
LOAD_BUTTONS = {
    "en": "Load arguments",
    "zh": "载入训练参数",
    "ru": "Загрузить аргументы",
    "ko": "Argument 불러오기",
    "ja": "引数を読み込む",
}
LOG = CACHE_DIR / "lfc_webui.log"
STATUS = CACHE_DIR / "lfc_webui.json"
_START_S = 600.0
# A training that is asked to stop finishes its step and writes its adapter first.
_SAVE_S = 1800.0
_ANSWER_S = 2.0
# What these secrets are called in the environment, where the trainer finds them without their being saved.
_SECRET_VARIABLES = {
    "swanlab_api_key": "SWANLAB_API_KEY",
    "hf_hub_token": "HF_TOKEN",
    "hub_token": "HF_TOKEN",
    "ms_hub_token": "MODELSCOPE_API_TOKEN",
}
# gradio's words for a public link that it made or could not make.
_SHARED = re.compile(r"public URL: (\S+)|Could not create share link")


@dataclass(frozen=True)
class Address:
    """Where the WebUI is to listen, and for whom."""

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False


@dataclass(frozen=True)
class Request:
    """What the user asks for: a training YAML's values, or a saved page, or neither."""

    config: Path | None
    values: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    language: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Plan:
    """A checked start: what will be written, what will be run, and what the user should know.

    Shape: `page` is {} when nothing is to be filled in; `settings` is then None.
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


@dataclass(frozen=True)
class Opened:
    """A page that answers; `reason` says why it could not be filled in, "" when it was.

    `public_url` is gradio's link for --share, "" without it or when gradio could not make one.
    """

    url: str
    is_filled: bool
    reason: str = ""
    public_url: str = ""


def read_request(config: Path | None, pairs: tuple[str, ...], dataset_dir: Path | None) -> dict[str, Any]:
    """Return a config's values with overrides, or those that a saved page says.

    Raises: ConfigError when the file cannot be read, or a saved page could not be loaded by LlamaBoard.
    """
    from launch.configs.config import parse_overrides, read_config

    overrides = parse_overrides(pairs)
    if dataset_dir is not None:
        overrides["dataset_dir"] = dataset_dir.as_posix()
    if config is None:
        if overrides:
            raise ConfigError("key=value and --dataset-dir change a config, and none is named")
        return {}
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
    if request.config is not None:
        from launch.webui.datasets import check_datasets

        notes += check_datasets(request.values)
        page, env = _plan_page(request, language, notes)
        settings = _name_settings(request.config, request.name)
    notes += _describe_saved_faults(settings)
    if is_public(address.host):
        notes.append(f"--host {address.host}: everybody who reaches this machine can use the page and its files")
    if address.share:
        notes.append("--share: everybody who has the public link can use the page and its files, without any key")
    env |= fix_proxies(address.host, page.get(MODEL_PATH), environ, find_stack_python(cli), notes)
    port = choose_port(address.host, address.port)
    command = _build_command(cli, settings, request.values, environ)
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
    )


def write_plan(plan: Plan) -> None:
    """Write the settings and LlamaBoard's memory of the user."""
    if plan.settings is not None:
        write_settings(plan.settings, format_settings(plan.page, plan.source), force=plan.force)
    merge_user_config(CACHE_DIR, plan.language, plan.page)


def serve_webui(plan: Plan, on_open: Callable[[Opened], None], on_stop: Callable[[], None]) -> None:
    """Run the WebUI until it is interrupted; `on_open` is called once, when the page answers.

    Ctrl-C asks a running training to save and stop, waits for it, and ends the page; then it is raised again.
    Raises: ChildFailedError when the WebUI ended by itself, StackError when it does not answer in ten minutes.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's script starts what it puts in the background deaf to Ctrl-C: the page could not be stopped.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    STATUS.unlink(missing_ok=True)
    started, opened = time.monotonic(), False

    def watch() -> None:
        nonlocal opened
        if opened:
            return
        if STATUS.is_file() and answers(plan.url) and (link := _read_public_url(plan)) is not None:
            opened = True
            on_open(_open_page(plan, link))
        elif time.monotonic() - started > _START_S:
            raise StackError(f"the WebUI does not answer at {plan.url}", hint=f"its log: {LOG}")

    exit_code = run_child(plan.command, LOG, watch, Child(on_stop=on_stop, grace_s=_SAVE_S))
    if exit_code:
        said = describe_failure("the WebUI", exit_code, LOG)
        raise ChildFailedError(mask_text(said, list_secrets(dict(plan.command.env))), exit_code=exit_code)


def answers(url: str) -> bool:
    """Tell whether a page answers, asked without any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWER_S) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def make_plain(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return a page for a LlamaBoard whose list of models cannot be added to; the output folder stays."""
    output = locate_save(page, page[OUTPUT_DIR])
    return {**page, MODEL_NAME: PLAIN_MODEL, OUTPUT_DIR: output}


def choose_language(given: str | None, known: str | None, environ: Mapping[str, str]) -> str:
    """Return the page's language: the one given, else the one used before, else the locale's, else English."""
    import locale

    if given or known in LANGUAGES:
        return given or str(known)
    spoken = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    spoken = spoken or locale.getlocale()[0] or ""
    # Windows says `Chinese (Simplified)_China` where others say `zh_CN`.
    names = {"chinese": "zh", "russian": "ru", "korean": "ko", "japanese": "ja"}
    word = spoken.lower().partition("_")[0].partition(".")[0].partition(" ")[0]
    language = names.get(word, word)
    return language if language in LANGUAGES else "en"


def can_open_browser(environ: Mapping[str, str]) -> bool:
    """Tell whether a browser would open in a window: one in the terminal would stand in the way of Ctrl-C."""
    return sys.platform in ("win32", "darwin") or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


@dataclass(frozen=True)
class Carried:
    """Settings after their way to the page or back, and what the user should know of it."""

    values: dict[str, Any]
    notes: list[str]


def export_settings(path: Path, source: Path, values: Mapping[str, Any], *, force: bool) -> Carried:
    """Write a training YAML's values as settings that the page's "Load arguments" takes.

    Raises: ConfigError when a value is of the wrong type, or they name no model, dataset or output folder;
    OutputError when `path` stands there.
    """
    from launch.configs.config import refuse_wrong_types

    refuse_existing(path, force=force)
    refuse_wrong_types(source, values, "train")
    notes: list[str] = []
    filled = fill_page(_hide_secrets(values, notes))
    write_settings(path, format_settings(filled.page, source.as_posix()), force=True)
    return Carried(filled.page, notes + _describe_filled(filled))


def import_settings(
    path: Path, overrides: Mapping[str, Any] | None = None, *, keep_secrets: bool = False
) -> Carried:
    """Return the training YAML's values that run what a saved page runs.

    Raises: ConfigError when LlamaBoard could not load the page, or nothing tells its model's path.
    """
    from launch.llamaboard.page import find_unused, import_page

    page = read_settings(path)
    model = (overrides or {}).get("model_name_or_path") or find_model_path(path, page)
    if not model:
        raise ConfigError(
            f"{path} names the model {page.get(MODEL_NAME)} without its path, and LlamaBoard remembers none",
            hint="add model_name_or_path=PATH",
        )
    if OUTPUT_DIR not in page:
        page[OUTPUT_DIR] = path.parent.name if path.name == "llamaboard_config.yaml" else path.stem
    values = {**import_page({**page, MODEL_PATH: model}), **(overrides or {})}
    notes = [f"{name} has no effect on that page and is left out" for name in find_unused(page)]
    if not keep_secrets:
        shown = hide_secrets(values)
        hidden = [key for key in values if key not in shown]
        notes += [f"{key} is a secret and is left out: {_explain_secret(key)}" for key in hidden]
        values = shown
    return Carried(values, notes)


def _plan_page(request: Request, language: str, notes: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the filled page, and the variables that its training needs."""
    env = {
        variable: str(request.values[key]) for key, variable in _SECRET_VARIABLES.items() if request.values.get(key)
    }
    values = _free_output_dir(_hide_secrets(request.values, notes), notes)
    _check_values(values, request.config)
    filled = fill_page(values)
    notes += _describe_filled(filled)
    if is_local_model(filled.page[MODEL_PATH]):
        env.setdefault("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "1"))
    else:
        check_model_is_reachable(filled.page[MODEL_PATH], os.environ)
    return {LANGUAGE: language, **filled.page}, env


def _describe_filled(filled: Filled) -> list[str]:
    """Return what the user should know of a page: what it cannot say, and which fields do not count."""
    notes = [f"not on the page: {loss.describe()}" for loss in filled.lost]
    if filled.shadowed:
        notes.append(
            f"on the page, extra_args says {', '.join(filled.shadowed)}: change it there, not in its field"
        )
    return notes


def _name_settings(config: Path, name: str | None) -> Path:
    """Return where the page's settings go; those that the user saved on the page stay as they are."""
    path = CONFIG_DIR / f"{name or config.stem}.yaml"
    return path.with_stem(f"{path.stem}-opened") if path.resolve() == config.resolve() else path


def _hide_secrets(values: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    shown = hide_secrets(values)
    hidden = [key for key in values if key not in shown]
    notes += [f"`{key}` is a secret and is not saved on the page: {_explain_secret(key)}" for key in hidden]
    return shown


def _explain_secret(key: str) -> str:
    variable = _SECRET_VARIABLES.get(key)
    return f"it goes by {variable}" if variable else "give it on the page"


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


def _check_values(values: Mapping[str, Any], path: Path | None) -> None:
    """Raise ConfigError with every fault that would stop the training on this machine."""
    from launch.configs.config import check_values
    from launch.configs.rules import read_machine

    faults = [fault for fault in check_values(values, "train", read_machine()) if fault.is_error]
    if faults:
        told = [indent(format_finding(fault), "  ") for fault in faults]
        raise ConfigError("\n".join([f"{path} cannot be trained here:", *told]))


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


def _build_command(
    cli: Path, settings: Path | None, values: Mapping[str, Any], environ: Mapping[str, str]
) -> Command:
    script = Path(str(files("launch") / "guest" / "webui_page.py"))
    arguments = (str(STATUS), *([str(settings)] if settings else []))
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


def _read_public_url(plan: Plan) -> str | None:
    """Return gradio's public link, "" when there is none to come, None while it is being made."""
    if plan.command.env.get("GRADIO_SHARE") != "true":
        return ""
    found = _SHARED.search(LOG.read_text(encoding="utf-8", errors="replace"))
    return (found[1] or "") if found else None


def _open_page(plan: Plan, public_url: str) -> Opened:
    """Return how the page opened; where it could not be filled in, its settings are made loadable by hand."""
    status = json.loads(STATUS.read_text(encoding="utf-8"))
    if not status["is_filled"] and plan.settings is not None:
        page = make_plain(plan.page)
        write_settings(plan.settings, format_settings(page, plan.source), force=True)
        merge_user_config(CACHE_DIR, plan.language, page)
    return Opened(plan.url, status["is_filled"], status["reason"], public_url)
