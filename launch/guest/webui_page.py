"""LlamaBoard with its fields filled in, and with an end that saves: the WebUI's process.

This file is a program, `webui_page.py STATUS.json SHOWN [SETTINGS.yaml]`, that the Python with the training
stack runs; SHOWN is JSON, fields beside those of the settings, such as the Chat tab's.
That Python may not have `lfc`, hence only the standard library at the top. It puts LlamaBoard's own start between
two changes: the values of SETTINGS.yaml, keyed as in `llamaboard_config/`, are the page's first values, and Ctrl-C
asks a running training to save and stop before the page goes away.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    # Before Python 3.11 a script's folder is looked through first: our modules would hide others' names.
    del sys.path[0]

import importlib
import json
import signal
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_POLL_S = 0.2
_ENGINE = "llamafactory.webui.engine"
_MODEL_NAME, _MODEL_PATH, _TEMPLATE, _LANGUAGE = "top.model_name", "top.model_path", "top.template", "top.lang"


def serve(status: Path, shown: dict[str, Any], settings: Path | None) -> None:
    """Run LlamaBoard until it is interrupted; `status` says whether the page starts filled in, or why not."""
    # LlamaBoard opens a browser before anyone can know that the page answers: `lfc` does that.
    webbrowser.open = lambda *_args, **_kwargs: False
    interface = importlib.import_module("llamafactory.webui.interface")
    fix_preview()
    engines: list[Any] = []
    reason = ""
    try:
        remember_engine(engines)
        if settings is not None or shown:
            fill_page({**shown, **(read_settings(settings) if settings else {})})
    except (AttributeError, ImportError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    partial = status.with_suffix(".partial")
    partial.write_text(json.dumps({"is_filled": not reason, "reason": reason}), encoding="utf-8")
    partial.replace(status)
    stop_softly(engines)
    interface.run_web_ui()


def read_settings(path: Path) -> dict[str, Any]:
    """Return the values of a `llamaboard_config` file."""
    yaml = importlib.import_module("yaml")
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {**values, "train.config_path": path.name}


def remember_engine(engines: list[Any]) -> None:
    """Keep the Engine that LlamaBoard makes: it knows the training that runs."""
    engine = importlib.import_module(_ENGINE).Engine
    original = engine.__init__

    def start(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        engines.append(self)

    engine.__init__ = start


def fill_page(values: dict[str, Any]) -> None:
    """Make `values` what the page shows when it is opened.

    Raises: AttributeError, KeyError or TypeError when this LlamaBoard is built in another way.
    """
    register_model(values)
    engine = importlib.import_module(_ENGINE).Engine
    manager = importlib.import_module("llamafactory.webui.manager").Manager
    add_elems: Callable[..., None] = manager.add_elems
    resume: Callable[[Any], Iterator[dict[Any, Any]]] = engine.resume
    engine._update_component  # noqa: B018 - fails here and not when the page is opened

    def add_filled(self: Any, tab_name: str, elem_dict: dict[str, Any]) -> None:
        for name, elem in elem_dict.items():
            # The language must change when the page is opened: that event writes all labels.
            if f"{tab_name}.{name}" in values and f"{tab_name}.{name}" != _LANGUAGE:
                elem.value = values[f"{tab_name}.{name}"]
        add_elems(self, tab_name, elem_dict)

    def resume_filled(self: Any) -> Iterator[dict[Any, Any]]:
        updates = resume(self)
        shown = {key: {"value": item} for key, item in values.items()}
        if values.get("train.dataset"):
            # LlamaBoard frees this button when the user chooses a dataset; here it is chosen already.
            shown["train.data_preview_btn"] = {"interactive": True}
        known = {key: update for key, update in shown.items() if has_field(self.manager, key)}
        # Only the first: what follows restores a training that runs.
        yield {**next(updates), **self._update_component(known)}
        yield from updates

    manager.add_elems = add_filled
    engine.resume = resume_filled


def fix_preview() -> None:
    """Show previewed rows as fields: gradio 5.49 and 5.50 send a JSON box's rows as the text of their wrapper."""
    try:
        box = importlib.import_module("gradio.components.json_component").JSON
        postprocess = box.postprocess
    except (AttributeError, ImportError):
        return

    def unwrap(self: Any, value: Any) -> Any:
        shown = postprocess(self, value)
        return getattr(shown, "root", shown)

    box.postprocess = unwrap


def has_field(manager: Any, key: str) -> bool:
    """Tell whether this LlamaBoard has a field of that name."""
    try:
        manager.get_elem_by_id(key)
    except KeyError:
        sys.stdout.write(f"This LlamaBoard has no field {key}: it was not filled in\n")
        return False
    return True


def register_model(values: dict[str, Any]) -> None:
    """Let LlamaBoard's list have the model under the name of its folder in saves/, with its path and template."""
    constants = importlib.import_module("llamafactory.extras.constants")
    name = values.get(_MODEL_NAME)
    if name and name not in constants.SUPPORTED_MODELS:
        constants.SUPPORTED_MODELS[name] = {constants.DownloadSource.DEFAULT: values[_MODEL_PATH]}
    if name and _TEMPLATE in values:
        constants.DEFAULT_TEMPLATE[name] = values[_TEMPLATE]


def stop_softly(engines: list[Any]) -> None:
    """On Ctrl-C or SIGTERM ask a running training to save and stop, await it, then end; another one ends now."""

    def stop(_number: int, _frame: Any) -> None:
        for name in signals:
            signal.signal(name, signal.default_int_handler)
        for engine in engines:
            trainer = engine.runner.trainer
            if trainer is not None and trainer.poll() is None:
                engine.runner.set_abort()
                while trainer.poll() is None:
                    time.sleep(_POLL_S)
        raise KeyboardInterrupt

    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    for name in signals:
        signal.signal(name, stop)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
