"""A model's own chat template, read from its folder and rendered in a bounded child process."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from prep.errors import InputError, StackError

_MOST_BYTES = 16 << 20
_MOST_TEXT_BYTES = 4 << 20
_MEMORY_BYTES = 1 << 30
_TIMEOUT_S = 20
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat templates by name, and the special tokens that they may write."""

    templates: Mapping[str, str]
    tokens: Mapping[str, str] = field(default_factory=dict)

    def mentions(self, word: str) -> bool:
        """Whether a word stands in any of them."""
        return any(word in text for text in self.templates.values())


@dataclass(frozen=True)
class Request:
    """One conversation to be rendered; `prompts` asks for the beginning of an answer at its end."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] | None = None
    prompts: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation, or the `error` that the template raised."""

    text: str = ""
    error: str = ""


def read_chat_template(folder: Path) -> ChatTemplate:
    """Read a model folder's chat template: chat_template.jinja, else that in tokenizer_config.json.

    Raises: InputError when the folder has none, or a file of it is too large or broken.
    """
    config = _read_json(folder / "tokenizer_config.json")
    tokens = _read_tokens(config)
    templates = _read_files(folder) or _read_named(config.get("chat_template"))
    if not templates:
        templates = _read_named(_read_json(folder / "chat_template.json").get("chat_template"))
    if not templates:
        raise InputError(
            f"{folder} has no chat template: neither chat_template.jinja nor tokenizer_config.json holds one",
            hint="name the model's folder as it was published; a base model may have none to compare with",
        )
    return ChatTemplate(templates, tokens)


def render_chats(chat: ChatTemplate, requests: Sequence[Request]) -> list[Rendered]:
    """Render conversations with a model's chat template, as transformers does.

    A template is a program of somebody else: it runs in a process of its own, with bounded time and size.
    Raises: InputError when it does not end in time; StackError when jinja2 is not installed.
    """
    question = {
        "templates": dict(chat.templates),
        "variables": dict(chat.tokens),
        "requests": [
            {"messages": each.messages, "tools": each.tools, "prompts": each.prompts, "options": each.options}
            for each in requests
        ],
        "most_bytes": _MOST_TEXT_BYTES,
        "memory_bytes": _MEMORY_BYTES,
        "seconds": _TIMEOUT_S,
    }
    script = files("launch") / "guest" / "render_chat.py"
    try:
        result = subprocess.run(
            [sys.executable, "-I", str(script)],
            input=json.dumps(question).encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"the model's chat template does not end within {_TIMEOUT_S} seconds", hint=_HINT_OF_A_BAD_TEMPLATE
        ) from None
    if result.returncode:
        last = (result.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {result.returncode}"])[
            -1
        ]
        if "No module named 'jinja2'" in last:
            raise StackError("chat templates need the package jinja2", hint="pip install 'jinja2>=3.1'")
        raise InputError(f"the model's chat template cannot be rendered: {last}", hint=_HINT_OF_A_BAD_TEMPLATE)
    return [Rendered(answer.get("text", ""), answer.get("error", "")) for answer in json.loads(result.stdout)]


_HINT_OF_A_BAD_TEMPLATE = "take the model's files anew from where it was published"


def read_special_tokens(folder: Path) -> tuple[dict[str, str], bool]:
    """Return a model's special tokens by name, and whether nobody but a template writes its bos_token.

    Raises: InputError when its tokenizer_config.json is too large or broken.
    """
    config = _read_json(folder / "tokenizer_config.json")
    return _read_tokens(config), config.get("add_bos_token") is False


def _read_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for name in _TOKENS if (text := _read_token(config.get(name)))}


def _read_files(folder: Path) -> dict[str, str]:
    found = {}
    named = [("default", folder / "chat_template.jinja")]
    try:
        more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    except OSError:
        more = []
    for name, file in [*named, *((file.stem, file) for file in more)]:
        try:
            if file.is_file():
                if file.stat().st_size > _MOST_BYTES:
                    raise InputError(f"{file} is too large to be a chat template")
                found[name] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read: {error}") from error
    return found


def _read_named(told: Any) -> dict[str, str]:
    if isinstance(told, str):
        return {"default": told} if told else {}
    entries = told if isinstance(told, list) else []
    return {
        entry["name"]: entry["template"]
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
    }


def _read_token(told: Any) -> str:
    told = told.get("content") if isinstance(told, dict) else told
    return told if isinstance(told, str) else ""


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            return {}
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{file} is too large to be a tokenizer's settings")
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error}", hint=_HINT_OF_A_BAD_TEMPLATE) from error
    return told if isinstance(told, dict) else {}
