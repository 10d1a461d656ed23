"""The WebUI as a process: run until it is interrupted, asked until it answers, its public link read."""

import json
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from launch.llamaboard.fields import CACHE_DIR, MODEL_NAME, OUTPUT_DIR, PLAIN_MODEL
from launch.llamaboard.files import format_settings, merge_user_config, write_settings
from launch.llamaboard.page import locate_save
from launch.runs.logs import read_tail
from launch.runs.process import Child, describe_failure, run_child
from launch.webui.start import LOG, STATUS, Plan
from prep.errors import ChildFailedError, StackError
from prep.secrets import list_secrets, mask_text
from prep.storage.bounded import read_bounded

_START_S = 600.0
# A training that is asked to stop finishes its step and writes its adapter first.
_SAVE_S = 1800.0
_ANSWER_S = 2.0
_READ_LOG_BYTES = 1 << 20
# gradio's words for a public link that it made or could not make.
_SHARED = re.compile(r"public URL: (\S+)|Could not create share link")


@dataclass(frozen=True)
class Opened:
    """A page that answers; `reason` says why it could not be filled in, "" when it was.

    `public_url` is gradio's link for --share, "" without it or when gradio could not make one.
    """

    url: str
    is_filled: bool
    reason: str = ""
    public_url: str = ""


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


def can_open_browser(environ: Mapping[str, str]) -> bool:
    """Tell whether a browser would open in a window: one in the terminal would stand in the way of Ctrl-C."""
    return sys.platform in ("win32", "darwin") or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _read_public_url(plan: Plan) -> str | None:
    """Return gradio's public link, "" when there is none to come, None while it is being made."""
    if plan.command.env.get("GRADIO_SHARE") != "true":
        return ""
    found = _SHARED.search(read_tail(LOG, _READ_LOG_BYTES))
    return (found[1] or "") if found else None


def _open_page(plan: Plan, public_url: str) -> Opened:
    """Return how the page opened; where it could not be filled in, its settings are made loadable by hand."""
    status = json.loads(read_bounded(STATUS))
    if not status["is_filled"] and plan.settings is not None:
        page = make_plain(plan.page)
        write_settings(plan.settings, format_settings(page, plan.source), force=True)
        merge_user_config(CACHE_DIR, plan.language, page)
    return Opened(plan.url, status["is_filled"], status["reason"], public_url)
