"""Which template a model needs: LLaMA-Factory's own table by name, else what the model's folder says of itself."""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prep.choices import ThinkPolicy
from prep.errors import UserError
from prep.llamafactory import find_version_facts
from prep.storage.bounded import read_bounded
from prep.tokens.templates import look_up_template
from prep.tokens.tokenizer import find_tokenizer_file

_MOST_BYTES = 16 << 20
_MOST_TOKENIZER_BYTES = 64 << 20
# A quantised model has the template of the one that it was made of.
_QUANTISED = re.compile(r"(?:-unsloth)?-(?:bnb-[48]bit|awq|gptq(?:-int[48])?|fp8|int[48]|[48]bit)$")
# `Qwen3.6-27B`: where LLaMA-Factory has a template for a release, and its table does not list the models yet.
_RELEASE = re.compile(r"([a-z]+\d+)[._](\d+)(?:-|$)")
_GENERATION = "add_generation_prompt"
# By what a chat template lets its caller turn thinking off.
_SWITCHES = ("enable_thinking", "thinking_mode", "reasoning_effort", "think is")


# (folder, template, version) → whether both ask for an answer alike; None where that is not known.
Look = Callable[[Path, str, str], bool | None]


@dataclass(frozen=True)
class ModelTemplate:
    """What is known of a model's template: its name, or the `candidates` that a user may choose from."""

    template: str | None = None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """How models whose config.json has one of `types` are known by their chat_template.

    `needs` and `lacks`: texts anywhere in it; `thinks`: whether it makes the model begin with a thought.
    """

    template: str
    types: tuple[str, ...]
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    thinks: bool | None = None


_QWEN3 = ("qwen3", "qwen3_moe", "qwen3_next")
_QWEN3_5 = ("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text")
_QWEN3_VL = ("qwen3_vl", "qwen3_vl_moe")
_CHATML = "<|im_start|>"
_R1 = ("<｜User｜>", "<｜Assistant｜>", "</think>")
_GLM = "[gMASK]<sop>"
_GEMMA4 = ("<|turn>", "<|channel>")
# By what the models' own config.json and chat_template hold; a model that fits none, or several, is asked about.
FAMILIES = (
    Family("qwen", ("qwen2", "qwen2_moe"), (_CHATML, "You are Qwen, created by Alibaba Cloud"), ("<think>",)),
    Family("qwen3", _QWEN3, (_CHATML, "<tool_call>"), ("<function=",), thinks=True),
    Family("qwen3_nothink", _QWEN3, (_CHATML, "<tool_call>"), ("<function=",), thinks=False),
    Family("qwen3_vl", _QWEN3_VL, (_CHATML, "<|vision_start|>"), thinks=True),
    Family("qwen3_vl_nothink", _QWEN3_VL, (_CHATML, "<|vision_start|>"), thinks=False),
    Family("qwen2_vl", ("qwen2_vl", "qwen2_5_vl"), (_CHATML, "<|vision_start|>"), ("<think>",)),
    Family("deepseekr1", ("qwen2", "qwen3", "llama"), _R1, thinks=True),
    # Later ones are asked to think by a variable, and their answers begin otherwise.
    Family("deepseekr1", ("deepseek_v3",), _R1, ("thinking",), thinks=True),
    Family("deepseek3", ("deepseek_v3",), ("<｜User｜>", "<｜Assistant｜>"), ("think",)),
    Family("llama3", ("llama",), ("<|start_header_id|>", "<|eot_id|>"), ("think>", "<｜", "GPT4 Correct")),
    Family("smollm2", ("llama",), (_CHATML, "You are a helpful AI assistant named SmolLM"), ("<think>",)),
    Family("llama2", ("llama",), ("[INST]", "<<SYS>>"), ("<think>",)),
    Family("llama4", ("llama4",), ("<|header_start|>", "<|eot|>")),
    Family("mllama", ("mllama",), ("<|start_header_id|>", "<|eot_id|>")),
    Family("gemma", ("gemma",), ("<start_of_turn>",)),
    # The text models of the third release have no picture to speak of.
    Family("gemma2", ("gemma2", "gemma3_text"), ("<start_of_turn>",)),
    Family("gemma3", ("gemma3",), ("<start_of_turn>",)),
    Family("gemma3n", ("gemma3n",), ("<start_of_turn>",)),
    # By their size alone the one is told from the other.
    Family("gemma4", ("gemma4",), _GEMMA4),
    Family("gemma4n", ("gemma4",), _GEMMA4),
    Family("glm4", ("glm", "glm4", "chatglm"), (_GLM, "<|observation|>"), ("<think>",)),
    Family("glmz1", ("glm4",), (_GLM, "<think>"), thinks=True),
    Family("glm4_moe", ("glm4_moe",), (_GLM, "/nothink"), ("clear_thinking",)),
    Family("glm4_7", ("glm4_moe", "glm4_moe_lite"), (_GLM, "clear_thinking")),
    Family("gpt_oss", ("gpt_oss",), ("<|channel|>", "<|start|>")),
    Family("phi4", ("phi3",), ("<|im_sep|>",), ("<think>",)),
    Family("phi", ("phi3",), ("<|user|>", "<|end|>"), ("<|im_sep|>", "<|tool|>", "<think>")),
    Family("seed_oss", ("seed_oss",), ("<seed:bos>", "<seed:think>")),
    Family("granite3", ("granite", "granitemoe"), ("<|start_of_role|>", "<|end_of_role|>"), ("<think>",)),
    Family("intern2", ("internlm2", "internlm3"), (_CHATML,), ("<think>",)),
    Family("cohere", ("cohere",), ("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>")),
    Family("lfm2", ("lfm2",), (_CHATML, "keep_past_thinking"), ("<think>\\n",)),
    Family("exaone", ("exaone",), ("[|user|]", "[|assistant|]"), ("think>",)),
    Family("falcon_h1", ("falcon_h1",), (_CHATML,), ("<think>",)),
    Family("qwen3_8", _QWEN3_5, ("Reasoning effort is set to",)),
    # Their chat templates differ by too little to tell one release from another.
    Family("qwen3_5", _QWEN3_5, (_CHATML,), ("Reasoning effort is set to",)),
    Family("qwen3_6", _QWEN3_5, (_CHATML,), ("Reasoning effort is set to",)),
)


def find_model_template(model_name_or_path: str, version: str = "", look: Look | None = None) -> ModelTemplate:
    """Return what LLaMA-Factory's table says of a hub's name or a folder's, and what the folder says of itself.

    `look` has the last word on what a folder is taken for: by the marks of its chat template alone it may be taken
    for a family whose turns it does not write. A base model has no template of its own; its family's is its
    candidate. Where name and folder say different things, both are candidates.
    """
    version = find_version_facts(version).version
    named = _find_by_name(model_name_or_path, version)
    # Path.expanduser raises RuntimeError for a user whom nobody knows.
    folder = Path(os.path.expanduser(model_name_or_path))  # noqa: PTH111
    told = _find_by_folder(folder, version, look) if model_name_or_path else ModelTemplate()
    if named is None:
        return told
    if named.template and told.template and named.template != told.template:
        return ModelTemplate(None, (named.template, told.template))
    return named if named.template or not told.template else told


def choose_template(model: Path, policy: ThinkPolicy | None = None) -> str:
    """Return the template of the model that a tokenizer belongs to: by its folder, and by whether the rows think.

    Shape: `model` is a model's folder or its tokenizer.json; `policy` is None where the rows' is not known.
    Raises: InputError without a tokenizer; UserError when the template is not known: another counts other tokens.
    """
    file = find_tokenizer_file(model)
    folder = file.parent
    found = find_model_template(str(folder.absolute()))
    if found.template:
        return found.template
    has_thoughts = policy in (ThinkPolicy.TAGGED, ThinkPolicy.MASKED)
    candidates = _have_tokens(found.candidates, file)
    fitting = [name for name in candidates if _thinks(name)] if has_thoughts else []
    if len(fitting) == 1:
        return fitting[0]
    told = f"; it may be {' or '.join(candidates)}" if candidates else ""
    raise UserError(
        f"which template the model in {folder} needs is not known{told}",
        hint=f"--template {candidates[0] if candidates else 'NAME'}",
    )


def _have_tokens(templates: Sequence[str], tokenizer: Path) -> list[str]:
    """Return the templates whose control tokens a tokenizer.json holds."""
    try:
        text = read_bounded(tokenizer, _MOST_TOKENIZER_BYTES)
    except (OSError, ValueError):
        return list(templates)
    known = [template for name in templates if (template := look_up_template(name))]
    return [
        template.name
        for template in known
        if all(json.dumps(mark, ensure_ascii=False) in text or json.dumps(mark) in text for mark in template.marks)
    ]


def _thinks(template: str) -> bool:
    return "Reasoning" in str(find_version_facts().templates[template]["kind"])


def always_thinks(model_name_or_path: str) -> bool:
    """Whether a model's own prompt begins every answer with a thought: by its chat template, else by its name.

    >>> always_thinks("Qwen/Qwen3-4B-Thinking-2507"), always_thinks("Qwen/Qwen3-4B")
    (True, False)
    """
    folder = Path(os.path.expanduser(model_name_or_path))  # noqa: PTH111
    chat_template = _read_chat_template(folder) if model_name_or_path else ""
    if chat_template:
        after = chat_template.rpartition(_GENERATION)[2]
        return "<think>" in after and not any(switch in chat_template for switch in _SWITCHES)
    return "thinking" in re.split(r"[/\\]", model_name_or_path.rstrip("/\\"))[-1].lower()


def _find_by_name(name: str, version: str) -> ModelTemplate | None:
    """Return what the table says of a name; None when it does not know it."""
    exact, last = _index_models(version)
    plain = name.strip().rstrip("/\\").lower()
    if plain in exact:
        return exact[plain]
    parts = re.split(r"[/\\]", plain)
    # ModelScope's cache writes Qwen3___5-9B, Hugging Face's models--Qwen--Qwen3.5-9B/snapshots/1234.
    cached = [part.split("--")[-1] for part in parts if part.startswith("models--")]
    part = (cached or parts)[-1].replace("___", ".")
    for spelling in (part, _QUANTISED.sub("", part)):
        if spelling in last:
            return last[spelling]
    return _find_by_release(part, version)


def _find_by_release(name: str, version: str) -> ModelTemplate | None:
    match = _RELEASE.match(name)
    if not match or "base" in name:
        return None
    template = f"{match[1]}_{match[2]}"
    templates = find_version_facts(version).templates
    # Where a sibling does not think, the release alone does not decide.
    is_known = template in templates and f"{template}_nothink" not in templates
    return ModelTemplate(template) if is_known else None


@cache
def _index_models(version: str) -> tuple[dict[str, ModelTemplate], dict[str, ModelTemplate]]:
    """Return what the table says by a hub's whole name, and by the name without its owner, in lower case."""
    exact: dict[str, ModelTemplate] = {}
    last: dict[str, ModelTemplate] = {}
    for model in find_version_facts(version).models:
        group = (model["group"],) if model["group"] else ()
        found = ModelTemplate(model["template"], () if model["template"] else group)
        for hub in model["hubs"]:
            name = hub.lower()
            for index, key in ((exact, name), (last, name.split("/")[-1])):
                index[key] = _agree(index.get(key, found), found)
    return exact, last


def _agree(first: ModelTemplate, second: ModelTemplate) -> ModelTemplate:
    if first == second:
        return first
    told = (first.template, second.template, *first.candidates, *second.candidates)
    return ModelTemplate(None, tuple(dict.fromkeys(name for name in told if name)))


def _find_by_folder(folder: Path, version: str, look: Look | None) -> ModelTemplate:
    """Return what a model's config.json and chat template say; nothing where it is no folder of a model."""
    config = _read_json(folder / "config.json")
    kind = config.get("model_type")
    known = find_version_facts(version).templates
    families = [family for family in FAMILIES if kind in family.types]
    chat_template = _read_chat_template(folder)
    if chat_template:
        fitting = [family for family in families if _fits(family, chat_template)]
        if len(fitting) == 1 and fitting[0].template in known:
            template = fitting[0].template
            # What its marks promise is looked at: a fine-tune may have changed how a turn is written.
            is_right = look is None or look(folder, template, version) is not False
            return ModelTemplate(template) if is_right else ModelTemplate()
        families = fitting or families
    return ModelTemplate(None, tuple(family.template for family in families if family.template in known))


def _fits(family: Family, chat_template: str) -> bool:
    if not all(text in chat_template for text in family.needs):
        return False
    if any(text in chat_template for text in family.lacks):
        return False
    after = chat_template.rpartition(_GENERATION)[2]
    # `enable_thinking` decides what an answer begins with; a template that thinks always begins it itself.
    thinks = "enable_thinking" in chat_template or "<think>" in after
    return family.thinks is None or family.thinks == thinks


def _read_chat_template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    try:
        if file.is_file() and file.stat().st_size <= _MOST_BYTES:
            return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    told = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(told, list):
        # Several by name: only the one that is used unasked says what the model is.
        named = [one for one in told if isinstance(one, dict) and one.get("name") == "default"]
        told = named[0].get("template") if named else None
    return told if isinstance(told, str) else ""


def _read_json(file: Path) -> dict[str, object]:
    """Return a folder's settings, {} where there are none that can be read."""
    try:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            return {}
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
