"""The prompt that will be served, in each mode of thinking and from Ollama, beside what was trained."""

from collections.abc import Mapping
from dataclasses import dataclass

from launch.prove.cases import Case, write_chat
from launch.prove.chat_template import ChatTemplate, Request, render_chats
from launch.prove.proof import MODES, TextWriter, describe_mode
from prep.errors import UserError
from prep.rows.conversation import Conversation, Message
from prep.tokens.templates import Slots, Special, Template
from prep.tokens.turns import TemplateOptions

_QUESTION = "2+2?"
_ANSWER = "Four."
_SHOWN = 60
OLLAMA = "Ollama, by the Modelfile of LLaMA-Factory's export"


@dataclass(frozen=True)
class Served:
    """One way of asking: `end` is how its prompt ends; `with_thought` and `plain` say what training made of it.

    Shape: both are sentences such as `trained from here`, about rows with a thought and rows without one.
    """

    way: str
    end: str
    with_thought: str
    plain: str
    error: str = ""


def list_served(chat: ChatTemplate, options: TemplateOptions) -> list[Served]:
    """Return how a question is asked in each mode of the chat template, and from Ollama's Modelfile."""
    template = options.rules
    asked = Case("", Conversation("", [(Message.USER, _QUESTION)]))
    messages, _ = write_chat(asked, template, chat)
    modes = MODES if chat.mentions("enable_thinking") else (None,)
    answers = render_chats(chat, [Request(messages, prompts=True, options=describe_mode(mode)) for mode in modes])
    served = [
        Served(name_mode(mode), "", "", "", error=answer.error)
        if answer.error
        else _judge(name_mode(mode), answer.text, options, chat.tokens)
        for mode, answer in zip(modes, answers, strict=True)
    ]
    try:
        served.append(_judge(OLLAMA, write_ollama_prompt(template, chat.tokens, _QUESTION), options, chat.tokens))
    except ValueError as error:
        served.append(Served(OLLAMA, "", "", "", error=str(error)))
    return served


def name_mode(mode: bool | None) -> str:
    """Return a mode in the words of who calls a chat server."""
    return "enable_thinking not given" if mode is None else f"enable_thinking {str(mode).lower()}"


def write_ollama_prompt(template: Template, tokens: Mapping[str, str], question: str, system: str = "") -> str:
    """Return the prompt that Ollama makes of a question by the Modelfile that LLaMA-Factory's export writes.

    Raises: ValueError where LLaMA-Factory writes no Modelfile for a template.
    Source: LLaMA-Factory, data/template.py, _get_ollama_template.
    """
    system = system or template.default_system
    slots: tuple[Slots, ...] = (template.prefix, *((template.system,) if system else ()), template.user)
    texts = [_write_ollama_slots(each, template, tokens) for each in slots]
    contents = ["", *((system,) if system else ()), question]
    return "".join(text.replace("{{ }}", content) for text, content in zip(texts, contents, strict=True))


def _write_ollama_slots(slots: Slots, template: Template, tokens: Mapping[str, str]) -> str:
    written = []
    for slot in slots:
        if isinstance(slot, str):
            pieces = slot.split("{{content}}")
            # LLaMA-Factory takes two pieces alone, and leaves {{idx}} as the user slot fills it of nothing.
            written.append("{{ }}".join(pieces[:2]))
        elif isinstance(slot, Special):
            eos = template.stop_words[0] if template.replace_eos else tokens.get("eos_token", "")
            written.append(eos if slot is Special.EOS else tokens.get("bos_token", ""))
        else:
            raise ValueError(f"LLaMA-Factory writes no Modelfile for template {template.name}: a token has a slot")
    return "".join(written)


def _judge(way: str, prompt: str, options: TemplateOptions, tokens: Mapping[str, str]) -> Served:
    template = options.rules
    thought = "I add.".join(template.thought_words) + _ANSWER
    told = []
    for answer in (thought, _ANSWER):
        if answer is thought and not template.thinks:
            told.append("")
            continue
        case = Case("", Conversation("", [(Message.USER, _QUESTION), (Message.ASSISTANT, answer)]))
        try:
            source, target = TextWriter(options, tokens).write_turns(case)[-1]
        except UserError as error:
            told.append(str(error))
            continue
        told.append(_compare(prompt, "".join(source), "".join(target)))
    return Served(way, prompt[-_SHOWN:], *told)


def _compare(prompt: str, source: str, target: str) -> str:
    """Say what training made of the place at which a prompt ends."""
    if prompt == source:
        return "trained from here"
    if not (source + target).startswith(prompt):
        return "not what was trained"
    if len(prompt) > len(source):
        return "trained from here; what the prompt begins was trained too"
    return "the row goes on, but what comes next carried no loss"
