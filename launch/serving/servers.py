"""How a merged model is served: its Modelfile, the command lines of Ollama and vLLM, and what is proved of each."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.configs.proofs import KeptProof, read_options
from launch.prove.cases import make_cases
from launch.prove.chat_template import read_chat_template, read_special_tokens
from launch.prove.modelfile import check_template, list_stops, write_modelfile, write_ollama_template
from launch.prove.proof import prove
from prep.errors import UserError
from prep.storage.atomic import write_text
from prep.storage.bounded import read_bounded
from prep.tokens.templates import Template
from prep.tokens.turns import TemplateOptions

SERVING_FILE = "serving.json"
_MOST_BYTES = 1 << 20
# What a server keeps room for; more of it costs memory, whether it is used or not.
_MOST_CONTEXT = 16_384
# LLaMA-Factory's tool format → vLLM's parser of calls.
_CALL_PARSERS = {
    "qwen": "hermes",
    "qwen3_5": "qwen3_coder",
    "qwen3_8": "qwen3_coder",
    "mistral": "mistral",
    "llama3": "llama3_json",
    "glm4_moe": "glm45",
    "minimax1": "minimax",
    "minimax2": "minimax_m2",
    "seed_oss": "seed_oss",
}
# How the names of templates that think begin → vLLM's parser of thoughts.
_THOUGHT_PARSERS = {
    "qwen3": "qwen3",
    "deepseekr1": "deepseek_r1",
    "glm4": "glm45",
    "ernie": "ernie45",
    "minimax2": "minimax_m2",
    "seed_oss": "seed_oss",
    "gpt_oss": "openai_gptoss",
}


@dataclass(frozen=True)
class Server:
    """One program that serves a model: its command lines, and what is known of its prompts."""

    name: str
    commands: tuple[str, ...]
    prompts: str


def write_serving(model: Path, training: Mapping[str, Any]) -> list[Server]:
    """Write a model's Modelfile anew and return how it is served; `training`: keys of what trained it.

    Where no Modelfile can be written, LLaMA-Factory's stays, and that is said.
    Raises: UserError when the model's folder or the template cannot be read.
    """
    options = read_options({"mask_history": True, **training})
    config = _read_config(model)
    context = _find_context(config)
    name = re.sub(r"[^a-z0-9._-]+", "-", model.name.lower()).strip("-._") or "model"
    servers = [_serve_vllm(model, name, options, context)]
    if "quantization_config" in config:
        # llama.cpp quantises by itself, and reads no weights that another program has quantised.
        return servers
    return [_serve_ollama(model, name, options, context), *servers]


def keep_serving(servers: Sequence[Server], path: Path) -> None:
    """Write down how a model is served, for the report page."""
    write_text(path, json.dumps([asdict(server) for server in servers], ensure_ascii=False, indent=1) + "\n")


def read_serving(path: Path) -> list[Server]:
    """Return how a model is served as it was written down; nothing where that cannot be read."""
    try:
        told = json.loads(read_bounded(path, _MOST_BYTES))
        servers = [Server(str(each["name"]), tuple(each["commands"]), str(each["prompts"])) for each in told]
    except (OSError, UserError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return servers if all(isinstance(text, str) for server in servers for text in server.commands) else []


def _serve_ollama(model: Path, name: str, options: TemplateOptions, context: int) -> Server:
    tokens, begins = read_special_tokens(model)
    file = model / "Modelfile"
    commands = [["ollama", "create", name, "-f", file.as_posix()], ["ollama", "run", name]]
    try:
        template = write_ollama_template(options, tokens, begins=begins)
        checked = check_template(template, options, tokens)
        write_text(file, write_modelfile(template, options, list_stops(options, tokens), context))
    except ValueError as error:
        return Server("Ollama", _spell(commands), f"LLaMA-Factory's Modelfile, which is not proved: {error}")
    if options.rules.thinks and options.enable_thinking is not False:
        commands.append(["ollama", "run", name, "--think=false"])
    return Server("Ollama", _spell(commands), checked.describe())


def _serve_vllm(model: Path, name: str, options: TemplateOptions, context: int) -> Server:
    template = options.rules
    command = ["vllm", "serve", model.as_posix(), "--served-model-name", name, "--max-model-len", str(context)]
    thoughts = _find_thought_parser(template) if options.enable_thinking is not False else None
    command += ["--reasoning-parser", thoughts] if thoughts else []
    calls = _CALL_PARSERS.get(template.call_format)
    command += ["--enable-auto-tool-choice", "--tool-call-parser", calls] if calls else []
    if template.thinks and options.enable_thinking is False:
        command += ["--default-chat-template-kwargs", '{"enable_thinking": false}']
    try:
        proof = prove(read_chat_template(model), options, make_cases(template), [], None)
        equal = sum(verdict.difference is None for verdict in proof.cases)
        prompts = KeptProof(proof.template, proof.version, len(proof.cases), equal).describe()
        if equal < len(proof.cases):
            prompts += f" Where not: {shlex.join(['lfc', 'launch', 'prove', model.as_posix()])}"
    except UserError as error:
        prompts = f"Its prompts are not proved: {error}"
    return Server("vLLM", _spell([command]), prompts)


def _find_thought_parser(template: Template) -> str | None:
    if not template.thinks:
        return None
    return next((parser for start, parser in _THOUGHT_PARSERS.items() if template.name.startswith(start)), None)


def _spell(commands: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(map(shlex.join, commands))


def _read_config(model: Path) -> dict[str, Any]:
    try:
        told = json.loads(read_bounded(model / "config.json", _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _find_context(config: Mapping[str, Any]) -> int:
    """Return how many tokens a server keeps room for: what the model can, up to a bound."""
    inner = config.get("text_config")
    known = config.get("max_position_embeddings") or (
        isinstance(inner, dict) and inner.get("max_position_embeddings")
    )
    return min(known, _MOST_CONTEXT) if type(known) is int and known > 0 else _MOST_CONTEXT
